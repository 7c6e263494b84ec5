package custodian

import (
	"sync"
	"time"

	"example.org/agentkeys/api"
)

// maxProofs is how many requests of one generation are remembered: beyond, requests
// are refused until the generation is over.
const maxProofs = 1 << 20

// proofLife is how long a proof could be taken: a window on either side of its time.
const proofLife = 2 * api.ProofWindow

// proofs remembers the proofs of requests as long as one could come again, in two
// generations.
type proofs struct {
	mu       sync.Mutex
	start    time.Time // of this custodian; what came before is not remembered
	began    time.Time
	now, old map[[16]byte]struct{}
}

func newProofs() *proofs {
	now := time.Now()
	return &proofs{start: now, began: now, now: map[[16]byte]struct{}{}}
}

// first takes a proof that was checked if it comes for the first time. When that
// cannot be known the request is refused, and another proof of it may be taken.
func (p *proofs) first(proof api.Proof) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.began) > proofLife {
		p.old, p.now, p.began = p.now, map[[16]byte]struct{}{}, now
	}
	_, before := p.old[proof.Nonce]
	_, again := p.now[proof.Nonce]
	switch {
	case before || again:
		return sessionInvalid.because("Send each request with a proof of its own", "this very request came before")
	case now.Sub(p.start) <= proofLife && proof.Time < uint64(p.start.Unix()):
		return busy.because("Try again; if it stays set the clock right", "the request is older than this custodian's start, so it may have come before")
	case len(p.now) >= maxProofs:
		return busy.because("Try again in a minute", "more requests came than can be told from repeats")
	}
	p.now[proof.Nonce] = struct{}{}
	return nil
}
