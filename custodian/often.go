package custodian

import (
	"sync"
	"time"

	"example.org/agentkeys"
)

// Forced rotations of one user: each re-seals all that the user has, at the vault's cost.
// Requests that come while one is due are one; beyond that there may be so many an hour.
const (
	forcedAtMost = 20
	forcedWithin = time.Hour
)

// often remembers when users' epochs were opened because somebody asked. In memory
// only: a restart allows some more.
type often struct {
	mu sync.Mutex
	at map[agentkeys.Wallet][]time.Time
}

// wait is how long the user's next forced rotation has to wait; 0 = not at all.
func (o *often) wait(user agentkeys.Wallet) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	recent := o.recent(user)
	if len(recent) < forcedAtMost {
		return 0
	}
	return forcedWithin - time.Since(recent[len(recent)-forcedAtMost])
}

func (o *often) note(user agentkeys.Wallet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at == nil {
		o.at = map[agentkeys.Wallet][]time.Time{}
	}
	o.at[user] = append(o.recent(user), time.Now())
	for u := range o.at {
		if len(o.recent(u)) == 0 {
			delete(o.at, u)
		}
	}
}

// recent is called with mu held.
func (o *often) recent(user agentkeys.Wallet) []time.Time {
	all := o.at[user]
	for len(all) > 0 && time.Since(all[0]) >= forcedWithin {
		all = all[1:]
	}
	return all
}
