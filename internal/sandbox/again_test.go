//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// again starts this program once more; what it is told and its end are the answer.
func again(part string) string {
	var told []string
	code, err := Again(3, []string{part, "a b"}, func(s string) { told = append(told, s) })
	return fmt.Sprint(code, " ", err, " ", told)
}

func againRefused() string {
	if err := refuse(syscall.SYS_CLONE, syscall.CLONE_NEWNET); err != nil {
		return err.Error()
	}
	return again("again-look")
}

// inner is what the program does the second time.
func inner(part string, args []string) string {
	if part == "again-wait" {
		if err := Shut(3); err != nil { // leaves root, which takes back the order to die together
			return err.Error()
		}
		_, _ = syscall.Write(3, []byte(strconv.Itoa(os.Getpid())))
		time.Sleep(time.Hour)
	}
	names, err := descriptors()
	if err != nil {
		return err.Error()
	}
	var open []string
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if name := names[n]; strings.HasPrefix(name, "socket:") || strings.HasPrefix(name, "pipe:") { // others are the runtime's own
			open = append(open, strconv.Itoa(n))
		}
	}
	return fmt.Sprintf("inner args=%q env=%q open=%v pid=%d uid=%d %s", args, os.Environ(), open,
		os.Getpid(), os.Getuid(), strings.Join(spaces("self"), " "))
}

// spaces gives the namespaces of a process.
func spaces(pid string) (names []string) {
	for _, n := range []string{"net", "mnt", "pid", "ipc", "uts"} {
		name, err := os.Readlink("/proc/" + pid + "/ns/" + n)
		if err != nil {
			name = err.Error()
		}
		names = append(names, name)
	}
	return names
}

// againConfined is a root that may not make namespaces, as containers have it.
func againConfined() string {
	runtime.LockOSThread()
	h, d := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capget(&h, &d[0]); err != nil {
		return err.Error()
	}
	d[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	d[0].Permitted &^= 1 << unix.CAP_SYS_ADMIN
	if err := unix.Capset(&h, &d[0]); err != nil {
		return err.Error()
	}
	return again("again-look")
}

// users are root, where the test has it, and somebody else.
func users() map[string]start {
	if os.Getuid() != 0 {
		return map[string]start{"as it is": {part: "again"}}
	}
	return map[string]start{"root": {part: "again"}, "root of a container": {part: "again without rights"},
		"another user": {"again", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}}}
}

type start struct {
	part string
	attr *syscall.SysProcAttr
}

// lines runs a test process and gives all its answers.
func lines(t *testing.T, cmd *exec.Cmd) (out []string) {
	t.Helper()
	b, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(strings.TrimSpace(line), "= "); ok {
			out = append(out, s)
		}
	}
	if len(out) != 2 {
		t.Fatalf("%d answers: %v\n%s", len(out), err, b)
	}
	return out
}

func TestAgain(t *testing.T) {
	bin := built(t)
	for name, as := range users() {
		t.Run(name, func(t *testing.T) {
			cmd, near := command(t, bin, as.part, "", "")
			cmd.ExtraFiles = append(cmd.ExtraFiles, near) // is not passed on
			cmd.SysProcAttr = as.attr
			out := lines(t, cmd)
			if want := `inner args=["a b"] env=["GOTRACEBACK=none"] open=[2 3] pid=1 `; !strings.HasPrefix(out[0], want) {
				t.Errorf("%s\nwant %s", out[0], want)
			}
			for _, s := range spaces("self") {
				if strings.Contains(out[0], s) {
					t.Errorf("it is in the test's namespace %s", s)
				}
			}
			if out[1] != "7 <nil> []" {
				t.Errorf("%q; want the exit code, no error, nothing to tell", out[1])
			}
		})
	}
}

// Where namespaces are not to be had, the program runs and it is told.
func TestAgainWithoutNamespaces(t *testing.T) {
	cmd, _ := command(t, built(t), "again without namespaces", "", "")
	out := lines(t, cmd)
	if !strings.HasPrefix(out[0], "inner ") || !strings.Contains(out[0], spaces("self")[0]) {
		t.Errorf("%s", out[0])
	}
	if out[1] != "7 <nil> [no namespaces of its own: the kernel says: operation not permitted]" {
		t.Errorf("%q", out[1])
	}
}

// Killing the first kills the second, with whatever it holds.
func TestAgainDiesTogether(t *testing.T) {
	cmd, near := command(t, built(t), "again and wait", "", "")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, err := near.Read(b)
	if err != nil || string(b[:n]) != "1" {
		t.Fatalf("it is process %q of its namespace, %v", b[:n], err)
	}
	second := childOf(t, cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", second))
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the second lives on")
		}
	}
}

func childOf(t *testing.T, parent int) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(b), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatalf("process %d has no child", parent)
	return 0
}
