//go:build linux && (amd64 || arm64)

package sandbox

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// place is what an attempt has to work with.
type place struct {
	dir   string // there: "file", "socket"
	child int    // a process of this program and user
}

func startChild() int {
	runtime.LockOSThread() // the child ends with this thread
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	pid, _, err := syscall.StartProcess("/proc/self/exe", []string{"child"}, &syscall.ProcAttr{Files: []uintptr{0, w.Fd()},
		Env: []string{envDoor + "=sleep"}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		panic(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 1)); err != nil { // until it has its memory
		panic(err)
	}
	r.Close()
	return pid
}

// door is one way out of a process.
type door struct {
	name string
	root bool // without the sandbox, only root can use it
	try  func(place) syscall.Errno
}

func call(nr uintptr, args ...uintptr) syscall.Errno {
	var a [6]uintptr
	copy(a[:], args)
	_, _, e := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return e
}

// calls makes a door of one system call whose arguments are numbers.
func calls(name string, nr uintptr, args ...uintptr) door {
	return door{name: name, try: func(place) syscall.Errno { return call(nr, args...) }}
}

// opens makes a door of opening a file, by its whole path or one in the folder.
func opens(name, file string, flags int) door {
	return door{name: name, try: func(p place) syscall.Errno {
		if !filepath.IsAbs(file) {
			file = filepath.Join(p.dir, file)
		}
		return call(unix.SYS_OPENAT, cwd(), path(file), uintptr(flags), 0o600)
	}}
}

func cwd() uintptr { at := unix.AT_FDCWD; return uintptr(at) }

func path(s string) uintptr {
	b, err := syscall.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	return ptr(b)
}

const (
	fileFlags = unix.O_CLOEXEC
	readMore  = unix.O_RDONLY | fileFlags
)

func doors() (all []door) {
	for _, list := range [][]door{networkDoors(), fileDoors(), processDoors(), memoryDoors(), kernelDoors()} {
		all = append(all, list...)
	}
	return all
}

func networkDoors() []door {
	const stream = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	return []door{
		calls("socket inet", unix.SYS_SOCKET, unix.AF_INET, stream, 0),
		calls("socket datagram", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0),
		calls("socket unix", unix.SYS_SOCKET, unix.AF_UNIX, stream, 0),
		calls("socket netlink", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0),
		{name: "socketpair", try: func(place) syscall.Errno {
			var fds [2]int32
			return call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, stream, 0, ptr(&fds))
		}},
		{name: "connect", try: func(p place) syscall.Errno { return named(unix.SYS_CONNECT, p.dir+"/socket") }},
		{name: "bind", try: func(p place) syscall.Errno { return named(unix.SYS_BIND, p.dir+"/bound") }},
		{name: "send a descriptor", try: func(place) syscall.Errno {
			rights := unix.UnixRights(0)
			h := unix.Msghdr{Control: &rights[0]}
			h.SetControllen(len(rights))
			return call(unix.SYS_SENDMSG, 3, ptr(&h), 0)
		}},
		{name: "receive a descriptor", try: func(place) syscall.Errno {
			var b [64]byte
			h := unix.Msghdr{Control: &b[0]}
			h.SetControllen(len(b))
			return call(unix.SYS_RECVMSG, 3, ptr(&h), 0)
		}},
		{name: "set a socket option", try: func(place) syscall.Errno {
			on := int32(1)
			return call(unix.SYS_SETSOCKOPT, 3, unix.SOL_SOCKET, unix.SO_PASSCRED, ptr(&on), 4)
		}},
	}
}

// named connects or binds descriptor 3 to a path.
func named(nr uintptr, name string) syscall.Errno {
	a := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	for i := range len(name) {
		a.Path[i] = int8(name[i])
	}
	return call(nr, 3, ptr(&a), unix.SizeofSockaddrUnix)
}

func fileDoors() []door {
	return []door{
		opens("open to read", "file", readMore),
		opens("open to write", "file", unix.O_WRONLY|fileFlags),
		opens("create", "new", unix.O_CREAT|unix.O_WRONLY|fileFlags),
		opens("open a folder", "/", readMore),
		opens("memory of itself as a file", "/proc/self/mem", unix.O_RDWR|fileFlags),
		{name: "open by the second call", try: func(p place) syscall.Errno {
			how := unix.OpenHow{Flags: readMore}
			return call(unix.SYS_OPENAT2, cwd(), path(p.dir+"/file"), ptr(&how), unix.SizeofOpenHow)
		}},
		{name: "stat", try: func(p place) syscall.Errno {
			var s unix.Statx_t
			return call(unix.SYS_STATX, cwd(), path(p.dir+"/file"), 0, unix.STATX_BASIC_STATS, ptr(&s))
		}},
		{name: "delete", try: func(p place) syscall.Errno { return call(unix.SYS_UNLINKAT, cwd(), path(p.dir+"/file"), 0) }},
		{name: "make a folder", try: func(p place) syscall.Errno { return call(unix.SYS_MKDIRAT, cwd(), path(p.dir+"/folder"), 0o700) }},
		{name: "rename", try: func(p place) syscall.Errno {
			return call(unix.SYS_RENAMEAT2, cwd(), path(p.dir+"/file"), cwd(), path(p.dir+"/other"), 0)
		}},
		{name: "change the folder", try: func(p place) syscall.Errno { return call(unix.SYS_CHDIR, path(p.dir)) }},
		{name: "read another descriptor", try: func(place) syscall.Errno {
			var b [1]byte
			return call(unix.SYS_READ, 0, ptr(&b), 1) // /dev/null
		}},
		{name: "write another descriptor", try: func(place) syscall.Errno {
			var b [1]byte
			return call(unix.SYS_WRITE, 1, ptr(&b), 1) // /dev/null
		}},
		calls("duplicate a descriptor", unix.SYS_DUP, 3),
		calls("change a descriptor", unix.SYS_FCNTL, 3, unix.F_SETFD, 0),
		{name: "ioctl", try: func(place) syscall.Errno {
			var n int32
			return call(unix.SYS_IOCTL, 3, unix.TIOCINQ, ptr(&n))
		}},
	}
}

func processDoors() []door {
	self := uintptr(os.Getpid())
	return []door{
		{name: "exec", try: func(place) syscall.Errno { return execute(unix.SYS_EXECVE) }},
		{name: "exec at", try: func(place) syscall.Errno { return execute(unix.SYS_EXECVEAT) }},
		{name: "fork", try: func(place) syscall.Errno { return forks(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0) }},
		{name: "fork by the third call", try: func(place) syscall.Errno {
			args := [11]uint64{4: uint64(unix.SIGCHLD)}
			return forks(unix.SYS_CLONE3, ptr(&args), 88)
		}},
		{name: "ptrace", try: func(p place) syscall.Errno { return call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(p.child)) }},
		{name: "read memory of another", try: func(p place) syscall.Errno { return copies(unix.SYS_PROCESS_VM_READV, p.child) }},
		{name: "write memory of another", try: func(p place) syscall.Errno { return copies(unix.SYS_PROCESS_VM_WRITEV, p.child) }},
		{name: "kill another", try: func(p place) syscall.Errno { return call(unix.SYS_KILL, uintptr(p.child), uintptr(unix.SIGKILL)) }},
		{name: "signal a thread of another", try: func(p place) syscall.Errno {
			return call(unix.SYS_TGKILL, uintptr(p.child), uintptr(p.child), uintptr(unix.SIGKILL))
		}},
		{name: "handle on another", try: func(p place) syscall.Errno { return call(unix.SYS_PIDFD_OPEN, uintptr(p.child), 0) }},
		calls("raise a limit", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, 0, 0),
		calls("be dumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1),
		calls("change the user", unix.SYS_SETRESUID, ^uintptr(0), ^uintptr(0), ^uintptr(0)),
		calls("unshare", unix.SYS_UNSHARE, unix.CLONE_FS),
		{name: "enter namespaces", root: true, try: func(place) syscall.Errno {
			fd, _, e := syscall.RawSyscall(unix.SYS_PIDFD_OPEN, self, 0, 0)
			if e != 0 {
				return e
			}
			return call(unix.SYS_SETNS, fd, unix.CLONE_NEWUTS)
		}},
	}
}

// execute runs this program anew, which then answers that it could.
func execute(nr uintptr) syscall.Errno {
	const self = "/proc/self/exe"
	name, variable := path("again"), path(envDoor+"=executed")
	argv, envv := [2]uintptr{name}, [2]uintptr{variable}
	if nr == unix.SYS_EXECVE {
		return call(nr, path(self), ptr(&argv), ptr(&envv))
	}
	return call(nr, cwd(), path(self), ptr(&argv), ptr(&envv), 0)
}

// forks calls what may return twice; the new process ends at once.
func forks(nr, a, b uintptr) syscall.Errno {
	pid, _, e := syscall.RawSyscall6(nr, a, b, 0, 0, 0, 0)
	if e == 0 && pid == 0 {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return e
}

// there has one address in every process of this program.
var there [1]byte

func copies(nr uintptr, pid int) syscall.Errno {
	var here [1]byte
	local := unix.Iovec{Base: &here[0], Len: 1}
	remote := unix.RemoteIovec{Base: ptr(&there), Len: 1}
	return call(nr, uintptr(pid), ptr(&local), 1, ptr(&remote), 1, 0)
}

func memoryDoors() []door {
	const private = unix.MAP_ANON | unix.MAP_PRIVATE
	none := ^uintptr(0)
	return []door{
		calls("map code", unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, private, none, 0),
		calls("map code to write", unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, private, none, 0),
		{name: "make code of data", try: func(place) syscall.Errno {
			b, _, e := syscall.RawSyscall6(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, private, none, 0)
			if e != 0 {
				return syscall.EDOM // mapping data is allowed
			}
			return call(unix.SYS_MPROTECT, b, 4096, unix.PROT_READ|unix.PROT_EXEC)
		}},
		calls("memory as a file", unix.SYS_MEMFD_CREATE, path("m"), 0),
		calls("secret memory as a file", unix.SYS_MEMFD_SECRET, 0),
		{name: "shared memory", try: func(place) syscall.Errno {
			id, _, e := syscall.RawSyscall(unix.SYS_SHMGET, unix.IPC_PRIVATE, 4096, 0o600)
			if e == 0 {
				_ = call(unix.SYS_SHMCTL, id, unix.IPC_RMID, 0)
			}
			return e
		}},
	}
}

func kernelDoors() []door {
	list := []door{
		{name: "io_uring", try: func(place) syscall.Errno {
			var params [120]byte
			return call(unix.SYS_IO_URING_SETUP, 1, ptr(&params))
		}},
		{name: "keyctl", try: func(place) syscall.Errno { return call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(4-1), 1) }},
		{name: "bpf", root: true, try: func(place) syscall.Errno {
			attr := [4]uint32{unix.BPF_MAP_TYPE_ARRAY, 4, 4, 1}
			return call(unix.SYS_BPF, unix.BPF_MAP_CREATE, ptr(&attr), 16)
		}},
		{name: "perf", root: true, try: func(place) syscall.Errno {
			attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY}
			attr.Size = unix.PERF_ATTR_SIZE_VER5
			return call(unix.SYS_PERF_EVENT_OPEN, ptr(&attr), 0, ^uintptr(0), ^uintptr(0), 0)
		}},
		calls("userfaultfd", unix.SYS_USERFAULTFD, 1), // of user mode only
		{name: "mount", root: true, try: func(p place) syscall.Errno {
			e := call(unix.SYS_MOUNT, path("none"), path(p.dir), path("tmpfs"), 0, 0)
			if e == 0 {
				_ = syscall.Unmount(p.dir, syscall.MNT_DETACH)
			}
			return e
		}},
		{name: "chroot", root: true, try: func(p place) syscall.Errno { return call(unix.SYS_CHROOT, path(p.dir)) }},
	}
	return list
}

// TestDoors tries every door three times: nothing closed, where the attempt must
// succeed, or it would show nothing; all closed; and the filter of system calls
// alone, since root's rights, which are gone in the second, may be what was missing.
func TestDoors(t *testing.T) {
	bin, refused := built(t), strconv.Itoa(int(syscall.EPERM))
	closed := map[string][]string{}
	for _, layer := range []string{"all", "seccomp"} {
		said := try(t, bin, "every", layer, furnished(t))
		if closed[layer] = strings.Fields(said); len(closed[layer]) != len(doors()) {
			t.Fatalf("closed %s: %s", layer, said)
		}
	}
	for i, d := range doors() {
		t.Run(d.name, func(t *testing.T) {
			for layer, got := range closed {
				if got[i] != refused {
					t.Errorf("closed %s: %s, want EPERM", layer, errno(got[i]))
				}
			}
			if d.root && os.Getuid() != 0 {
				return
			}
			if got := try(t, bin, d.name, "none", furnished(t)); got != "0" {
				t.Errorf("nothing closed: %s, and that must succeed", errno(got))
			}
		})
	}
}

func errno(s string) string {
	n, err := strconv.Atoi(s)
	switch {
	case err != nil:
		return s
	case n == 0:
		return "open"
	}
	return unix.ErrnoName(syscall.Errno(n))
}

// furnished is a folder with a file and a socket that listens.
func furnished(t *testing.T) string {
	t.Helper()
	dir := openDir(t)
	if err := os.WriteFile(dir+"/file", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/file", 0o666); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/socket"}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestLayers: landlock and the limits hold by themselves too, should the filter
// have a hole.
func TestLayers(t *testing.T) {
	bin := built(t)
	for _, c := range []struct {
		layer, door string
		want        syscall.Errno
	}{
		{"landlock", "open to read", syscall.EACCES},
		{"landlock", "open to write", syscall.EACCES},
		{"landlock", "create", syscall.EACCES},
		{"landlock", "memory of itself as a file", syscall.EACCES},
		{"landlock", "delete", syscall.EACCES},
		{"landlock", "make a folder", syscall.EACCES},
		{"landlock", "exec", syscall.EACCES},
		{"landlock", "ptrace", syscall.EPERM},
		{"landlock", "read memory of another", syscall.EPERM},
		{"limits", "socket inet", syscall.EMFILE},
		{"limits", "open to read", syscall.EMFILE},
		{"limits", "memory as a file", syscall.EMFILE},
		{"limits", "duplicate a descriptor", syscall.EMFILE},
	} {
		t.Run(c.layer+"/"+c.door, func(t *testing.T) {
			want := strconv.Itoa(int(c.want))
			if got := try(t, bin, c.door, c.layer, furnished(t)); got != want {
				t.Errorf("%s, want %s", errno(got), errno(want))
			}
		})
	}
}
