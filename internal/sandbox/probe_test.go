//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// The tests run in processes of their own: this package's test program, built
// without cgo, started again with these variables. A process answers on standard
// error with one line "= text", since that is a way that stays open.
const (
	envDoor  = "SANDBOX_DOOR"  // what to try: a door, "every" door, or a part
	envLayer = "SANDBOX_LAYER" // what to close first
	envDir   = "SANDBOX_DIR"   // a folder that everybody may write
)

func TestMain(m *testing.M) {
	if door := os.Getenv(envDoor); door != "" {
		answer(probe(door))
		os.Exit(0)
	}
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "again-") { // Again leaves no variables
		answer(inner(os.Args[1], os.Args[2:]))
		os.Exit(7)
	}
	code := m.Run()
	if dir, err := building(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func answer(s string) { _, _ = os.Stderr.WriteString("= " + s + "\n") }

func probe(name string) string {
	if part, ok := parts()[name]; ok {
		return part()
	}
	var try []door
	for _, d := range doors() {
		if d.name == name || name == "every" {
			try = append(try, d)
		}
	}
	p := place{dir: os.Getenv(envDir), child: startChild()}
	if err := closeLayer(os.Getenv(envLayer)); err != nil {
		return err.Error()
	}
	var got []string
	for _, d := range try {
		got = append(got, strconv.Itoa(int(d.try(p))))
	}
	return strings.Join(got, " ")
}

// closeLayer closes one layer, or all.
func closeLayer(layer string) error {
	switch layer {
	case "all":
		return Shut(3)
	case "seccomp":
		poll, err := warm(3)
		if err == nil {
			err = everyThread(syscall.SYS_PRCTL, prSetNoNewPrivs, 1)
		}
		if err == nil {
			err = filter(program(rules(3, poll)))
		}
		return err
	case "landlock":
		if err := everyThread(syscall.SYS_PRCTL, prSetNoNewPrivs, 1); err != nil {
			return err
		}
		return restrict()
	case "limits":
		return limit()
	}
	return nil
}

// building gives the folder with the test program without cgo, in which system calls
// reach all threads. TestMain removes it.
var building = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "sandbox"); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "test", "-c", "-p", strconv.Itoa(min(2, runtime.NumCPU())), "-o", filepath.Join(dir, "probe"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("go test -c: %w\n%s", err, out)
	}
	return dir, os.Chmod(dir, 0o755) // other users start it too
})

func built(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no Go toolchain in PATH; make test brings one")
	}
	dir, err := building()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "probe")
}

// openDir is a folder that the user nobody may use too.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sandbox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command prepares a process that tries one thing, with one end of a pair of
// datagram sockets as descriptor 3 and a message with a descriptor waiting on it.
func command(t *testing.T, bin, door, layer, dir string) (cmd *exec.Cmd, near *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Sendmsg(fds[0], []byte("x"), syscall.UnixRights(0), nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetsockoptTimeval(fds[0], syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 20}); err != nil {
		t.Fatal(err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	t.Cleanup(func() { near.Close(); far.Close() })
	cmd = exec.CommandContext(t.Context(), bin)
	cmd.Env = []string{envDoor + "=" + door, envLayer + "=" + layer, envDir + "=" + dir}
	cmd.ExtraFiles = []*os.File{far}
	return cmd, near
}

// try runs one attempt and gives its answer.
func try(t *testing.T, bin, door, layer, dir string) string {
	t.Helper()
	cmd, _ := command(t, bin, door, layer, dir)
	return said(t, cmd)
}

func said(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = struct{ *bytes.Buffer }{&stderr}
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	for line := range strings.Lines(stderr.String()) {
		if s, ok := strings.CutPrefix(line, "= "); ok {
			return strings.TrimSpace(s)
		}
	}
	return fmt.Sprintf("no answer: %v, %s", err, stderr.String())
}

// refuse makes the kernel refuse one system call from now on when its first argument
// has a bit of mask; with mask 0, always. It plays a kernel or a container that does
// not have what the sandbox needs.
func refuse(nr, mask uint32) error {
	if err := everyThread(syscall.SYS_PRCTL, prSetNoNewPrivs, 1); err != nil {
		return err
	}
	stmt := func(code uint16, k uint32) syscall.SockFilter { return syscall.SockFilter{Code: code, K: k} }
	p := []syscall.SockFilter{
		stmt(syscall.BPF_LD|syscall.BPF_W|syscall.BPF_ABS, offNumber),
		{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, K: nr, Jf: 4},
		stmt(syscall.BPF_LD|syscall.BPF_W|syscall.BPF_ABS, offArgs),
		stmt(syscall.BPF_ALU|syscall.BPF_AND|syscall.BPF_K, mask),
		{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, K: 0, Jt: 1},
		stmt(syscall.BPF_RET|syscall.BPF_K, retRefuse),
		stmt(syscall.BPF_RET|syscall.BPF_K, retAllow),
	}
	if mask == 0 {
		p[4].Jt = 0
	}
	return filter(p)
}

// kept are the arguments of system calls: what a number points to must neither move
// nor be freed.
var kept []unsafe.Pointer

// ptr is an argument of a system call.
func ptr[T any](p *T) uintptr {
	kept = append(kept, unsafe.Pointer(p))
	return uintptr(unsafe.Pointer(p))
}
