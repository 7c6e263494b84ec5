package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/agentkeys/internal/devstack"
)

// secondProcess: a directory has one supervisor.
func secondProcess(t *testing.T, v *vault) {
	if _, err := devstack.Open(devstack.Options{Dir: v.path("dev"), Bin: v.bin}); !errors.Is(err, devstack.ErrRunning) {
		t.Errorf("a second supervisor: %v", err)
	}
	v.fails(t, 1, "agentkeys dev status", "dev", "run", "--dir", v.path("dev"), "--bin", v.bin)
}

// TestSupervisor kills the supervisor of a background stack without warning: its
// parts end with it, and "dev start" goes on where it was.
func TestSupervisor(t *testing.T) {
	v := &vault{bin: binaries(t), home: t.TempDir(), values: map[string]bool{}}
	write(t, v.path("passphrase"), "correct horse")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := devstack.Stop(ctx, v.path("dev")); err != nil {
			t.Error(err)
		}
	})
	v.fails(t, 1, "agentkeys dev start", "dev", "status")
	v.must(t, "", "dev", "start", "--bin", v.bin)
	v.must(t, "", "init")
	v.must(t, "kept-over-the-kill", "store", "kept")
	first := v.supervisor(t)
	if v.must(t, "", "dev", "start", "--bin", v.bin); v.supervisor(t) != first {
		t.Error("a second dev start has replaced the running supervisor")
	}
	parts := children(t, first)
	if len(parts) != 4 {
		t.Errorf("the supervisor has %d children, want 4", len(parts))
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the killed supervisor has let the directory go", func() bool {
		pid, err := devstack.Running(v.path("dev"))
		return pid == 0 && err == nil
	})
	v.must(t, "", "dev", "start", "--bin", v.bin)
	if now := v.supervisor(t); now == first {
		t.Errorf("supervisor %d survived SIGKILL", first)
	}
	within(t, 10*time.Second, "the parts of the killed supervisor end", func() bool {
		return !slices.ContainsFunc(processes(t), func(p process) bool { return slices.Contains(parts, p.id) })
	})
	if got := v.must(t, "", "read", "kept", "--reveal"); got != "kept-over-the-kill\n" {
		t.Errorf("read after the kill: %q", got)
	}
	v.must(t, "again", "store", "more")
	v.must(t, "", "dev", "stop")
	v.fails(t, 1, "agentkeys dev status", "list")
	if got := v.must(t, "", "dev", "stop"); got != "Nothing ran.\n" {
		t.Errorf("dev stop without a stack: %q", got)
	}
	v.fails(t, 2, "--force", "dev", "reset")
	v.must(t, "", "dev", "reset", "--force")
	if _, err := os.Stat(v.path("dev")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("dev reset left the directory: %v", err)
	}
}

func (v *vault) supervisor(t *testing.T) int {
	t.Helper()
	var status struct {
		Supervisor int             `json:"supervisor"`
		Parts      []devstack.Part `json:"parts"`
	}
	if err := json.Unmarshal([]byte(v.must(t, "", "dev", "status", "--json")), &status); err != nil || status.Supervisor == 0 {
		t.Fatalf("%+v: %v", status, err)
	}
	for _, p := range status.Parts {
		if !p.Up {
			t.Errorf("%s is down", p.Name)
		}
	}
	return status.Supervisor
}

// children are the live processes that a process has started.
func children(t *testing.T, parent int) []int {
	t.Helper()
	var pids []int
	for _, p := range processes(t) {
		if p.parent == parent {
			pids = append(pids, p.id)
		}
	}
	return pids
}

type process struct {
	id, parent int
	name       string
}

func processes(t *testing.T) (all []process) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-A", "-o", "pid=,ppid=,stat=,comm=").Output()
	if err != nil {
		t.Fatalf("ps: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || strings.HasPrefix(f[2], "Z") {
			continue
		}
		id, err1 := strconv.Atoi(f[0])
		parent, err2 := strconv.Atoi(f[1])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		all = append(all, process{id, parent, filepath.Base(f[3])})
	}
	return all
}
