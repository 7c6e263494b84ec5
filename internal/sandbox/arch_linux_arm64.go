package sandbox

// threadStorage is what the runtime adds to the flags of a new thread: nothing.
const threadStorage = 0

// Of linux/audit.h and the table of system calls.
const (
	auditArch    = 0xc00000b7
	sysSeccomp   = 277
	sysGetrandom = 278
)
