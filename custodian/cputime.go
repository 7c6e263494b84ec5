package custodian

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime adds up the CPU time of parts of flows. What they leave to other threads, the
// collector's work above all, is not in it.
type cpuTime struct{ ns atomic.Int64 }

// of runs f and adds what its thread took.
func (c *cpuTime) of(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadTime()
	defer func() { c.ns.Add(int64(threadTime() - began)) }()
	f()
}

func (c *cpuTime) seconds() float64 { return time.Duration(c.ns.Load()).Seconds() }

func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
