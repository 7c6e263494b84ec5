package sandbox

import "syscall"

// threadStorage is what the runtime adds to the flags of a new thread.
const threadStorage = syscall.CLONE_SETTLS

// Of linux/audit.h and the table of system calls.
const (
	auditArch    = 0xc000003e
	sysSeccomp   = 317
	sysGetrandom = 318
)
