//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"syscall"
	"unsafe"
)

// System calls of landlock, the same on every architecture, and a flag.
const (
	sysLandlockCreate, sysLandlockRestrict = 444, 446
	landlockVersion                        = 1
)

// ruleset is struct landlock_ruleset_attr of linux/landlock.h: what is handled, and
// so refused, since no rule allows any of it again.
type ruleset struct{ files, ports, scopes uint64 }

// handled is everything that a version of landlock knows.
func handled(abi uintptr) (r ruleset) {
	bits := uint64(13)
	switch {
	case abi >= 5:
		bits = 16 // moving between folders, truncating, ioctl on devices
	case abi >= 3:
		bits = 15
	case abi >= 2:
		bits = 14
	}
	r.files = 1<<bits - 1
	if abi >= 4 {
		r.ports = 3 // TCP bind and connect
	}
	if abi >= 6 {
		r.scopes = 3 // abstract sockets and signals of others
	}
	return r
}

// size of the part of the structure that a version knows.
func (ruleset) size(abi uintptr) uintptr {
	switch {
	case abi >= 6:
		return 24
	case abi >= 4:
		return 16
	}
	return 8
}

// restrict puts every thread under a ruleset that allows nothing.
func restrict() error {
	abi, _, e := syscall.Syscall(sysLandlockCreate, 0, 0, landlockVersion)
	if e != 0 {
		return fmt.Errorf("this kernel has none, Linux 5.13 or newer can: %w", e)
	}
	r := handled(abi)
	fd, _, e := syscall.Syscall(sysLandlockCreate, uintptr(unsafe.Pointer(&r)), r.size(abi), 0)
	if e != 0 {
		return e
	}
	if err := everyThread(sysLandlockRestrict, fd, 0); err != nil {
		return err
	}
	return syscall.Close(int(fd))
}
