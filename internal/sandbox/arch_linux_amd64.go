package sandbox

// Of linux/audit.h and the table of system calls.
const (
	auditArch    = 0xc000003e
	sysSeccomp   = 317
	sysGetrandom = 318
)
