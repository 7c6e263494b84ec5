package custodian

import (
	"sync"

	"example.org/agentkeys"
)

// revocations are those whose signature was checked here but whose block is not
// verified yet. They need no file: whoever sent one gets no acknowledgement before
// the block, so a crash breaks no promise. Rows alone count once they show it.
type revocations struct {
	mu    sync.RWMutex
	below map[admission]uint64
}

type admission struct{ user, agent agentkeys.Wallet }

func newRevocations() *revocations { return &revocations{below: map[admission]uint64{}} }

// add ends all sessions and grants of an agent with this counter or a lower one.
func (r *revocations) add(user, agent agentkeys.Wallet, counter uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := admission{user, agent}
	r.below[k] = max(r.below[k], counter)
}

// remove forgets a revocation that a proven row shows.
func (r *revocations) remove(user, agent agentkeys.Wallet, counter uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := (admission{user, agent}); r.below[k] <= counter {
		delete(r.below, k)
	}
}

func (r *revocations) covers(user, agent agentkeys.Wallet, counter uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.below[admission{user, agent}]
	return ok && counter <= c
}
