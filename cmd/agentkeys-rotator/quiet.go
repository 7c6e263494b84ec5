package main

import (
	"os"
	"runtime/debug"
	"time"
)

// quietAfter is how long nothing is asked before freed memory is given back.
const quietAfter = 200 * time.Millisecond

// quiet is the courier's descriptor. When it has nothing to say for a while, the
// collector runs: what jobs have left is erased, or with its pages given back.
type quiet struct {
	*os.File
	timer *time.Timer
}

func newQuiet(f *os.File) *quiet {
	return &quiet{f, time.AfterFunc(quietAfter, debug.FreeOSMemory)}
}

func (q *quiet) Read(p []byte) (int, error) {
	q.timer.Reset(quietAfter)
	return q.File.Read(p)
}
