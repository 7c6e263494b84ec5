package sandbox

// Of linux/audit.h and the table of system calls.
const (
	auditArch    = 0xc00000b7
	sysSeccomp   = 277
	sysGetrandom = 278
)
