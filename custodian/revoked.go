package custodian

import (
	"context"
	"sync"

	"example.org/agentkeys"
)

// revocations are those whose signature was checked here but whose block is not
// verified yet. They need no file: whoever sent one gets no acknowledgement before
// the block, so a crash breaks no promise. Rows alone count once they show it.
type revocations struct {
	mu    sync.RWMutex
	below map[agentkeys.Wallet]map[agentkeys.Wallet]uint64 // by user and agent
}

// Anybody can make wallets and sign: what is kept is bounded. Beyond these a
// revocation counts from its block on.
const (
	maxRevokingUsers = 1 << 14
	maxRevokedAgents = 256 // of one user
)

func newRevocations() *revocations {
	return &revocations{below: map[agentkeys.Wallet]map[agentkeys.Wallet]uint64{}}
}

// add ends all sessions and grants of an agent with this counter or a lower one.
func (r *revocations) add(user, agent agentkeys.Wallet, counter uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	agents := r.below[user]
	if agents == nil {
		if len(r.below) >= maxRevokingUsers {
			return
		}
		agents = map[agentkeys.Wallet]uint64{}
		r.below[user] = agents
	}
	if _, known := agents[agent]; known || len(agents) < maxRevokedAgents {
		agents[agent] = max(agents[agent], counter)
	}
}

// remove forgets a revocation that a proven row shows.
func (r *revocations) remove(user, agent agentkeys.Wallet, counter uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if agents := r.below[user]; agents[agent] <= counter {
		if delete(agents, agent); len(agents) == 0 {
			delete(r.below, user)
		}
	}
}

func (r *revocations) covers(user, agent agentkeys.Wallet, counter uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.below[user][agent]
	return ok && counter <= c
}

// of says whether anything of a user is kept.
func (r *revocations) of(user agentkeys.Wallet) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.below[user] != nil
}

func (r *revocations) forget(user agentkeys.Wallet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.below, user)
}

// forgetStranger keeps no revocation of somebody who is proven to be no user: there
// is no session that it could end, and strangers would fill the memory.
func (s *Server) forgetStranger(ctx context.Context, user agentkeys.Wallet) {
	if !s.revoked.of(user) {
		return
	}
	if _, enrolled, err := s.User(context.WithoutCancel(ctx), user); err == nil && !enrolled {
		s.revoked.forget(user)
	}
}
