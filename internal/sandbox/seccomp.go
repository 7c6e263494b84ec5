//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Of linux/seccomp.h. A refused call fails with EPERM, so that the program can still
// say why it ends; one of another architecture's numbering ends it at once.
const (
	seccompSetFilter = 1
	seccompTSync     = 1
	retAllow         = 0x7fff0000
	retRefuse        = 0x00050000 | uint32(syscall.EPERM)
	retKill          = 0x80000000
	x32              = 0x40000000
)

// Offsets in struct seccomp_data: number, architecture, six arguments of 8 bytes.
const offNumber, offArch, offArgs = 0, 4, 16

// rule allows a system call whose arguments match.
type rule struct {
	nr   uint32
	args []match
}

// match looks at the low half of an argument: arg&mask == want. Each argument that
// is looked at here is a number of 32 bits to the kernel.
type match struct{ arg, mask, want uint32 }

func is(arg, want int) match { return match{uint32(arg), 0xffffffff, uint32(want)} }

// threadFlags are those with which the Go runtime starts a thread, and nothing else
// may be started with.
const threadFlags = syscall.CLONE_VM | syscall.CLONE_FS | syscall.CLONE_FILES | syscall.CLONE_SIGHAND |
	syscall.CLONE_SYSVSEM | syscall.CLONE_THREAD | threadStorage

// rules is all that may be called, the most frequent first. Every other call,
// opening, sockets, processes, other processes' memory, is refused.
func rules(fd int, p poller) []rule {
	noExec := match{2, syscall.PROT_EXEC, 0}
	anonymous := match{3, syscall.MAP_ANON, syscall.MAP_ANON}
	list := []rule{
		{syscall.SYS_READ, []match{is(0, fd)}},
		{syscall.SYS_WRITE, []match{is(0, fd)}},
		{syscall.SYS_READ, []match{is(0, p.event)}},
		{syscall.SYS_WRITE, []match{is(0, p.event)}},
		{syscall.SYS_WRITE, []match{is(0, 2)}},
		{syscall.SYS_EPOLL_PWAIT, []match{is(0, p.epoll)}},
		{syscall.SYS_CLONE, []match{is(0, threadFlags)}},
		{syscall.SYS_TGKILL, []match{is(0, syscall.Getpid())}},
		{syscall.SYS_MMAP, []match{noExec, anonymous}},
		{syscall.SYS_MPROTECT, []match{noExec}},
	}
	for _, nr := range []uint32{syscall.SYS_FUTEX, syscall.SYS_NANOSLEEP, syscall.SYS_SCHED_YIELD, syscall.SYS_CLOCK_GETTIME,
		syscall.SYS_MUNMAP, syscall.SYS_MADVISE, sysGetrandom, syscall.SYS_GETPID, syscall.SYS_GETTID,
		syscall.SYS_RT_SIGACTION, syscall.SYS_RT_SIGPROCMASK, syscall.SYS_RT_SIGRETURN, syscall.SYS_SIGALTSTACK,
		syscall.SYS_RESTART_SYSCALL, syscall.SYS_EXIT, syscall.SYS_EXIT_GROUP} {
		list = append(list, rule{nr: nr})
	}
	return list
}

// program is the filter in classic BPF.
func program(list []rule) []syscall.SockFilter {
	load := func(off uint32) syscall.SockFilter {
		return syscall.SockFilter{Code: syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS, K: off}
	}
	ret := func(v uint32) syscall.SockFilter {
		return syscall.SockFilter{Code: syscall.BPF_RET | syscall.BPF_K, K: v}
	}
	// jump goes on when the value is k, else skips.
	jump := func(op uint16, k uint32, skip int) syscall.SockFilter {
		return syscall.SockFilter{Code: syscall.BPF_JMP | syscall.BPF_K | op, K: k, Jf: uint8(skip)}
	}
	out := []syscall.SockFilter{load(offArch), jump(syscall.BPF_JEQ, auditArch, 2),
		load(offNumber), jump(syscall.BPF_JGE, x32, 1), ret(retKill)}
	for _, r := range list {
		after := 3*len(r.args) + 1 // what is left of this rule behind the jump
		out = append(out, load(offNumber), jump(syscall.BPF_JEQ, r.nr, after))
		for _, m := range r.args {
			after -= 3
			out = append(out, load(offArgs+8*m.arg), syscall.SockFilter{Code: syscall.BPF_ALU | syscall.BPF_AND | syscall.BPF_K, K: m.mask},
				jump(syscall.BPF_JEQ, m.want, after))
		}
		out = append(out, ret(retAllow))
	}
	return append(out, ret(retRefuse))
}

// filter puts every thread, and all that come, under a program.
func filter(p []syscall.SockFilter) error {
	prog := syscall.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	left, _, e := syscall.Syscall(sysSeccomp, seccompSetFilter, seccompTSync, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return e
	}
	if left != 0 {
		return fmt.Errorf("thread %d stays outside", left)
	}
	return nil
}
