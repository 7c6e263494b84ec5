package proxy

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peerAllowed refuses a process of another user: root and the proxy's own pass.
func peerAllowed(conn net.Conn) error {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("control: a %T says nothing of its peer", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Xucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	}); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("control: user id %d is not this proxy's", cred.Uid)
	}
	return nil
}

// Harden shuts this process to debuggers (PT_DENY_ATTACH) and writes no core file. It
// does not stop root. Call it before any secret is read.
func Harden() error {
	const denyAttach = 31
	if _, _, e := unix.Syscall6(unix.SYS_PTRACE, denyAttach, 0, 0, 0, 0, 0); e != 0 {
		return fmt.Errorf("proxy: the process stays readable: %w", e)
	}
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}

func dumpable() bool { return false }
