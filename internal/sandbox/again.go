//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"syscall"
)

// Here says whether this system has a sandbox.
const Here = true

// nobody is the user and group id that a process started by root goes on with.
const nobody = 65534

// A system call, the same on every architecture, and its flag for closing at exec.
const sysCloseRange, closeRangeCloexec = 436, 4

const namespaces = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

// Again runs this program once more, with these arguments, in namespaces of its own,
// gives it descriptor fd as the one it had here, standard error, and no other; it waits for its
// end and returns its exit code. The caller keeps neither fd nor anything to tell.
// When this process dies, so does the other.
//
// Where the kernel does not allow namespaces the program runs without, and tell gets
// the reason. fd is at least 3.
func Again(fd int, args []string, tell func(string)) (code int, err error) {
	// The other is told of the death of the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, _, e := syscall.Syscall(sysCloseRange, uintptr(fd+1), math.MaxUint32, closeRangeCloexec); e != 0 {
		return 0, fmt.Errorf("sandbox: descriptors: %w", e)
	}
	files := make([]uintptr, fd+1)
	for i := range files {
		files[i] = ^uintptr(0) // closed
	}
	files[2], files[fd] = 2, uintptr(fd)
	start := func(a syscall.SysProcAttr) (int, error) {
		a.Pdeathsig = syscall.SIGKILL
		// A crash prints no frames: they hold words of the stack.
		pid, _, err := syscall.StartProcess("/proc/self/exe", append([]string{os.Args[0]}, args...),
			&syscall.ProcAttr{Files: files, Env: []string{"GOTRACEBACK=none"}, Sys: &a})
		return pid, err
	}
	pid, err := start(own(os.Getuid(), os.Getgid()))
	if err != nil && os.Getuid() == 0 { // a root that is confined already
		pid, err = start(ownUser(os.Getuid(), os.Getgid()))
	}
	if err != nil {
		tell(fmt.Sprintf("no namespaces of its own: the kernel says: %v", err))
		pid, err = start(syscall.SysProcAttr{})
	}
	if err != nil {
		return 0, fmt.Errorf("sandbox: %w", err)
	}
	if err := syscall.Close(fd); err != nil { // the other has the only one, so its death is seen
		return 0, fmt.Errorf("sandbox: descriptor %d: %w", fd, err)
	}
	return wait(pid)
}

// own gives namespaces as root can have them, and anybody else.
func own(uid, gid int) syscall.SysProcAttr {
	if uid == 0 {
		return syscall.SysProcAttr{Cloneflags: namespaces}
	}
	return ownUser(uid, gid)
}

func ownUser(uid, gid int) syscall.SysProcAttr {
	return syscall.SysProcAttr{Cloneflags: namespaces | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: gid, Size: 1}}}
}

func wait(pid int) (code int, err error) {
	var s syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &s, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("sandbox: %w", err)
		case s.Signaled():
			return 128 + int(s.Signal()), nil
		default:
			return s.ExitStatus(), nil
		}
	}
}
