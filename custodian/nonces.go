package custodian

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	nonceLife = 5 * time.Minute
	maxNonces = 1 << 16
)

// nonces are the challenges given out and not used yet, in memory only: after a
// restart a client asks for another. When full the oldest go.
type nonces struct {
	mu    sync.Mutex
	until map[[32]byte]time.Time
	order [][32]byte // in the order given out, so in the order of expiry
}

func newNonces() *nonces { return &nonces{until: map[[32]byte]time.Time{}} }

func (n *nonces) give() [32]byte {
	var c [32]byte
	rand.Read(c[:])
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for len(n.order) > 0 {
		oldest := n.order[0]
		end, open := n.until[oldest]
		if open && now.Before(end) && len(n.order) < maxNonces {
			break
		}
		delete(n.until, oldest)
		n.order = n.order[1:]
	}
	n.until[c] = now.Add(nonceLife)
	n.order = append(n.order, c)
	return c
}

// take uses a challenge up; false if it was not given, was used, or is too old.
func (n *nonces) take(c []byte) bool {
	if len(c) != 32 {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	end, ok := n.until[[32]byte(c)]
	delete(n.until, [32]byte(c))
	return ok && time.Now().Before(end)
}
