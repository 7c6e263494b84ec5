//go:build linux && (amd64 || arm64)

package sandbox

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// parts are what a test process can do besides trying doors.
func parts() map[string]func() string {
	return map[string]func() string{
		"sleep":                    func() string { os.Stdout.WriteString("s"); time.Sleep(time.Hour); return "" },
		"executed":                 func() string { return "0" },
		"echo":                     func() string { return shutThen(echo) },
		"work":                     func() string { return shutThen(work) },
		"landlock is refused":      func() string { return without(sysLandlockCreate) },
		"landlock stops half way":  func() string { return without(sysLandlockRestrict) },
		"seccomp is refused":       func() string { return without(sysSeccomp) },
		"limits are refused":       func() string { return without(syscall.SYS_PRLIMIT64) },
		"privileges are refused":   func() string { return without(syscall.SYS_PRCTL) },
		"another poller":           func() string { _, err := unix.EpollCreate1(0); return fmt.Sprint(err, Shut(3)) },
		"again":                    func() string { return again("again-look") },
		"again without rights":     againConfined,
		"again without namespaces": againRefused,
		"again and wait":           func() string { return again("again-wait") },
	}
}

func shutThen(do func() string) string {
	if err := Shut(3); err != nil {
		return err.Error()
	}
	return do()
}

// without shuts where the kernel does not have one system call.
func without(nr uint32) string {
	if err := refuse(nr, 0); err != nil {
		return err.Error()
	}
	if err := Shut(3); err != nil {
		return err.Error()
	}
	return "it went on"
}

// echo answers what comes, until nothing does.
func echo() string {
	b := make([]byte, 64)
	for {
		n, err := syscall.Read(3, b)
		if err != nil || n == 0 {
			return fmt.Sprint("end: ", n, err)
		}
		if _, err := syscall.Write(3, b[:n]); err != nil {
			return err.Error()
		}
	}
}

// work uses what a Go program needs: threads, memory, collections, timers, random
// bytes, a signal to itself.
func work() string {
	var g sync.WaitGroup
	for range 16 {
		g.Go(func() {
			runtime.LockOSThread() // and end the thread with it
			b := make([]byte, 1<<20)
			for i := range 8 {
				rand.Read(b)
				time.Sleep(time.Duration(i) * time.Millisecond)
			}
		})
	}
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); { // is interrupted by signals
	}
	g.Wait()
	runtime.GC()
	debug.FreeOSMemory()
	select {
	case <-time.After(time.Millisecond):
		return "worked"
	case <-make(chan int):
		return ""
	}
}

func TestWorkGoesOn(t *testing.T) {
	if got := try(t, built(t), "work", "", openDir(t)); got != "worked" {
		t.Error(got)
	}
}

// TestRefusals: a sandbox that is not whole is an error that names what is missing.
func TestRefusals(t *testing.T) {
	bin := built(t)
	for name, want := range map[string]string{
		"landlock is refused":     "sandbox: landlock: this kernel has none, Linux 5.13 or newer can: operation not permitted",
		"landlock stops half way": "sandbox: landlock: operation not permitted",
		"seccomp is refused":      "sandbox: seccomp: operation not permitted",
		"limits are refused":      "sandbox: limits: operation not permitted",
		"privileges are refused":  "sandbox: privileges: operation not permitted",
		"another poller":          "<nil> sandbox: descriptors: more than one poller is open",
	} {
		t.Run(name, func(t *testing.T) {
			if got := try(t, bin, name, "", openDir(t)); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// TestState looks from outside at processes that have shut themselves in.
func TestState(t *testing.T) {
	bin := built(t)
	for name, as := range users() {
		t.Run(name, func(t *testing.T) {
			cmd, near := command(t, bin, "echo", "", openDir(t))
			cmd.SysProcAttr = as.attr
			cmd.ExtraFiles = append(cmd.ExtraFiles, near) // not what it should have
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			b := make([]byte, 64)
			if n, err := near.Read(b); err != nil || string(b[:n]) != "x" {
				t.Fatalf("it does not answer: %q, %v", b[:n], err)
			}
			proc := fmt.Sprintf("/proc/%d", cmd.Process.Pid)
			checkThreads(t, proc, as.attr == nil)
			if s, err := os.Stat(proc + "/mem"); err != nil || s.Sys().(*syscall.Stat_t).Uid != 0 {
				t.Errorf("its memory is open to its user: %v, %v", s, err)
			}
			if os.Getuid() == 0 { // nobody else may look
				checkLimits(t, proc)
				checkDescriptors(t, proc)
			}
		})
	}
}

func checkThreads(t *testing.T, proc string, wasRoot bool) {
	t.Helper()
	tasks, err := filepath.Glob(proc + "/task/*/status")
	if err != nil || len(tasks) < 2 {
		t.Fatalf("%d threads, %v", len(tasks), err)
	}
	want := map[string]string{"Seccomp": "2", "NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000"}
	if os.Getuid() == 0 && wasRoot {
		want["Uid"], want["Gid"], want["Groups"] = "65534 65534 65534 65534", "65534 65534 65534 65534", ""
	}
	for _, task := range tasks {
		for key, w := range want {
			if got := field(t, task, key); got != w {
				t.Errorf("%s: %s is %q, want %q", task, key, got, w)
			}
		}
	}
}

func field(t *testing.T, file, key string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == key {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	t.Fatalf("%s has no %s", file, key)
	return ""
}

func checkLimits(t *testing.T, proc string) {
	t.Helper()
	b, err := os.ReadFile(proc + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Max core file size", "Max file size", "Max open files"} {
		_, rest, ok := strings.Cut(string(b), name)
		if f := strings.Fields(rest); !ok || f[0] != "0" || f[1] != "0" {
			t.Errorf("%s is not 0: %v", name, f)
		}
	}
}

func checkDescriptors(t *testing.T, proc string) {
	t.Helper()
	list, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range list {
		name, err := os.Readlink(proc + "/fd/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := strconv.Atoi(e.Name()); n > 3 {
			open = append(open, name)
		} else {
			open = append(open, e.Name())
		}
	}
	slices.Sort(open)
	if want := []string{"2", "3", "anon_inode:[eventfd]", "anon_inode:[eventpoll]"}; !slices.Equal(open, want) {
		t.Errorf("open are %v, want %v", open, want)
	}
}

// TestHandled: each version of landlock is asked for all that it knows.
func TestHandled(t *testing.T) {
	for _, c := range []struct {
		abi, size uintptr
		want      ruleset
	}{
		{1, 8, ruleset{1<<13 - 1, 0, 0}}, {2, 8, ruleset{1<<14 - 1, 0, 0}}, {3, 8, ruleset{1<<15 - 1, 0, 0}},
		{4, 16, ruleset{1<<15 - 1, 3, 0}}, {5, 16, ruleset{1<<16 - 1, 3, 0}},
		{6, 24, ruleset{1<<16 - 1, 3, 3}}, {7, 24, ruleset{1<<16 - 1, 3, 3}}, {99, 24, ruleset{1<<16 - 1, 3, 3}},
	} {
		if got := handled(c.abi); got != c.want || got.size(c.abi) != c.size {
			t.Errorf("version %d: %+v of %d bytes, want %+v of %d", c.abi, got, got.size(c.abi), c.want, c.size)
		}
	}
}
