package custodian

import (
	"sync"
	"time"

	"example.org/agentkeys/api"
)

// maxProofs is how many requests of two windows are remembered: beyond, requests are
// refused until a window is over.
const maxProofs = 1 << 20

// proofs remembers the proofs of requests as long as one could come again: a proof is
// taken within a window on either side of its time.
type proofs struct {
	mu       sync.Mutex
	began    time.Time
	now, old map[[16]byte]struct{}
}

// first reports whether a proof that was checked comes for the first time. Proofs are
// told apart by their nonce, which the signature covers.
func (p *proofs) first(nonce [16]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.now == nil || now.Sub(p.began) > 2*api.ProofWindow {
		p.old, p.now, p.began = p.now, map[[16]byte]struct{}{}, now
	}
	_, before := p.old[nonce]
	_, again := p.now[nonce]
	if before || again || len(p.now) >= maxProofs {
		return false
	}
	p.now[nonce] = struct{}{}
	return true
}
