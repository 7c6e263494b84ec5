//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.org/agentkeys/rotation"
)

const vaultHex = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func program(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no Go toolchain in PATH; make test brings one")
	}
	bin := filepath.Join(t.TempDir(), "agentkeys-rotator")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-p", "2", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// greeted starts the program with descriptor 3 and more, says hello, and gives what
// it says on standard error and whether it answered.
func greeted(t *testing.T, bin string, more []*os.File, args ...string) (says string, answered bool, code int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	var stderr strings.Builder
	cmd := exec.Command(bin, args...)
	cmd.ExtraFiles, cmd.Stderr, cmd.WaitDelay = append([]*os.File{far}, more...), &stderr, 10*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if err := rotation.WriteMessage(near, rotation.Hello, nil); err == nil {
		typ, _, err := rotation.ReadMessage(near)
		answered = err == nil && typ == rotation.Hello
	}
	near.Close()
	_ = cmd.Wait()
	return stderr.String(), answered, cmd.ProcessState.ExitCode()
}

func TestStart(t *testing.T) {
	bin := program(t)
	poller := func() []*os.File {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "poller")
		t.Cleanup(func() { f.Close() })
		return []*os.File{f}
	}
	const cannot = "agentkeys-rotator: sandbox: descriptors: more than one poller is open; to run without: agentkeys dev start --no-sandbox, or of the operator --rotator-no-sandbox\n"
	for _, c := range []struct {
		name     string
		more     []*os.File
		args     []string
		answered bool
		code     int
		says     string
	}{
		{"as the operator starts it", nil, []string{"--vault", vaultHex}, true, 0, ""},
		{"with descriptors that nobody asked for", poller(), []string{"--vault", vaultHex}, true, 0, ""},
		{"where the sandbox cannot be shut", poller(), []string{"--vault", vaultHex, "--inside"}, false, 1, cannot},
		{"there, and told to go on", poller(), []string{"--vault", vaultHex, "--inside", "--no-sandbox"}, true, 0,
			"agentkeys-rotator: sandbox: off, by --no-sandbox\n"},
		{"without a vault", nil, nil, false, 1, "agentkeys-rotator: --vault: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			says, answered, code := greeted(t, bin, c.more, c.args...)
			if answered != c.answered || code != c.code || !strings.HasPrefix(says, c.says) || c.says == "" && says != "" {
				t.Errorf("answered %v, code %d, says %q; want %v, %d, %q", answered, code, says, c.answered, c.code, c.says)
			}
		})
	}
}

// Started by hand it says who starts it.
func TestStartedByHand(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), program(t), "--vault", vaultHex)
	out, err := cmd.CombinedOutput()
	if err == nil || string(out) != "agentkeys-rotator: descriptor 3 is not open; the operator starts this program\n" {
		t.Errorf("%v: %q", err, out)
	}
}
