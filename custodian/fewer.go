package custodian

import (
	"sync"

	"example.org/agentkeys"
)

// fewer is how many rows the next move job of a user may have. A chunk is taken whole or
// not at all, so a courier or a store that loses a part of the objects would hold up a
// large one for ever; one of a single row gets through. In memory only: a restart begins
// with large jobs again.
type fewer struct {
	mu   sync.Mutex
	rows map[agentkeys.Wallet]int
}

func (f *fewer) limit(user agentkeys.Wallet) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, ok := f.rows[user]; ok {
		return n
	}
	return maxRows
}

// lost is told of a chunk whose objects were not all there.
func (f *fewer) lost(user agentkeys.Wallet, rows int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rows == nil {
		f.rows = map[agentkeys.Wallet]int{}
	}
	f.rows[user] = max(1, rows/2)
}

// arrived is told of a chunk that moved: the next may be twice as large.
func (f *fewer) arrived(user agentkeys.Wallet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.rows[user]
	switch {
	case ok && 2*n < maxRows:
		f.rows[user] = 2 * n
	case ok:
		delete(f.rows, user)
	}
}
