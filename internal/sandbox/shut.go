//go:build linux && (amd64 || arm64)

package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Of linux/prctl.h; package syscall does not have them all.
const (
	prSetPdeathsig  = 1
	prSetDumpable   = 4
	prSetNoNewPrivs = 38
)

// Shut closes every door of this process but reading and writing descriptor fd and
// writing descriptor 2. It cannot be undone. After an error some are closed and some
// are not: the process should end.
func Shut(fd int) error {
	poll, err := warm(fd)
	if err != nil {
		return fmt.Errorf("sandbox: descriptors: %w", err)
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"user", leaveRoot},
		{"descriptors", func() error { return closeOthers(fd, poll) }},
		{"privileges", privileges},
		{"landlock", restrict},
		{"limits", limit}, // landlock needs one descriptor more
		{"seccomp", func() error { return filter(program(rules(fd, poll))) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("sandbox: %s: %w", step.name, err)
		}
	}
	return nil
}

// poller is what the Go runtime has opened for itself: an epoll instance, and the
// descriptor that wakes whoever waits on it.
type poller struct{ epoll, event int }

// warm makes the runtime open what it opens at the first use, and finds it.
func warm(fd int) (p poller, err error) {
	rand.Read(make([]byte, 1))
	time.Sleep(time.Nanosecond)
	names, err := descriptors()
	if err != nil {
		return p, err
	}
	p = poller{-1, -1}
	for n, name := range names {
		switch {
		case n == fd:
		case name == "anon_inode:[eventpoll]" && p.epoll < 0:
			p.epoll = n
		case name == "anon_inode:[eventfd]" && p.event < 0:
			p.event = n
		case name == "anon_inode:[eventpoll]" || name == "anon_inode:[eventfd]":
			return p, errors.New("more than one poller is open")
		}
	}
	if p.epoll < 0 || p.event < 0 {
		return p, errors.New("the poller of the runtime is not found")
	}
	return p, nil
}

// descriptors gives each open descriptor and what it is.
func descriptors() (map[int]string, error) {
	const dir = "/proc/self/fd"
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, e := range list {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		if name, err := os.Readlink(dir + "/" + e.Name()); err == nil { // not the one that read the folder
			names[n] = name
		}
	}
	return names, nil
}

func closeOthers(fd int, p poller) error {
	names, err := descriptors()
	if err != nil {
		return err
	}
	for n := range names {
		if n == 2 || n == fd || n == p.epoll || n == p.event {
			continue
		}
		if err := syscall.Close(n); err != nil {
			return err
		}
	}
	return nil
}

// leaveRoot changes from root to nobody. Without groups and capabilities nothing is
// left of root; in a user namespace of its own the process never was.
func leaveRoot() error {
	if os.Getuid() != 0 && os.Geteuid() != 0 {
		return nil
	}
	return errors.Join(syscall.Setgroups([]int{}), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody))
}

// privileges: no program it might start has more rights, no process of the same user
// looks into this one's memory, and it ends with whoever started it, an order that
// changing the user has taken back.
func privileges() error {
	for _, p := range [][2]uintptr{{prSetNoNewPrivs, 1}, {prSetDumpable, 0}, {prSetPdeathsig, uintptr(syscall.SIGKILL)}} {
		if err := everyThread(syscall.SYS_PRCTL, p[0], p[1]); err != nil {
			return err
		}
	}
	return nil
}

// limit: no core file, no byte into any file, no descriptor more. A limit on
// processes would count threads too, so those are the filter's.
func limit() error {
	for _, l := range []int{syscall.RLIMIT_CORE, syscall.RLIMIT_FSIZE, syscall.RLIMIT_NOFILE} {
		if err := syscall.Setrlimit(l, &syscall.Rlimit{}); err != nil {
			return err
		}
	}
	return nil
}

// everyThread does a system call in all threads. It fails in a program with cgo,
// whose threads the runtime does not know.
func everyThread(nr, a, b uintptr) error {
	if _, _, e := syscall.AllThreadsSyscall6(nr, a, b, 0, 0, 0, 0); e != 0 {
		return e
	}
	return nil
}
