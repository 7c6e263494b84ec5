package tpmanchor

import (
	"encoding/binary"
	"time"

	"example.org/agentkeys/erasure"
)

const (
	slotCount = 2
	slotSize  = len(erasure.Root{}) + 8
)

// slot is one NV index.
type slot struct {
	defined, written bool
	root             erasure.Root
	staged           time.Time
}

type slots [slotCount]slot

func (h *slots) clear() {
	for i := range h {
		clear(h[i].root[:])
	}
}

// find gives the slot of a root, or -1.
func (h *slots) find(root erasure.Root) int {
	for i := range h {
		if h[i].written && h[i].root == root {
			return i
		}
	}
	return -1
}

// wait is how long the newest root keeps others out. One from the future says that
// a clock was wrong and keeps nobody out: this guards the chip, not the roots.
func (h *slots) wait(now time.Time, interval time.Duration) (wait time.Duration) {
	for i := range h {
		if h[i].written && !h[i].staged.After(now) {
			wait = max(wait, h[i].staged.Add(interval).Sub(now))
		}
	}
	return wait
}

func appendSlot(root erasure.Root, staged time.Time) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), root[:]...), uint64(staged.Unix()))
}

func parseSlot(b []byte) (s slot, ok bool) {
	if len(b) != slotSize {
		return s, false
	}
	n := copy(s.root[:], b)
	s.staged = time.Unix(int64(binary.BigEndian.Uint64(b[n:])), 0)
	s.defined, s.written = true, true
	return s, s.root != (erasure.Root{})
}
