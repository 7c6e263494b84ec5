package custodian

import (
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
)

// proxyID is one start of a proxy.
type proxyID struct {
	wallet agentkeys.Wallet
	start  [16]byte
}

// instance is a proxy that watches.
type instance struct {
	user   agentkeys.Wallet
	boot   string // the registration; another one makes the proxy drop everything
	until  time.Time
	seen   uint64
	drops  []owed    // not confirmed, ascending
	since  time.Time // when the oldest of them was made
	wake   chan struct{}
	leases map[loan]loaned
	more   bool // leases were forgotten to make room: it may hold anything
}

// owed is a drop that is not confirmed, with the leases that end by it.
type owed struct {
	api.Drop
	leases map[loan]uint64 // to the number that each had
}

// loan is what a proxy counts its calls by.
type loan struct {
	session [16]byte
	service agentkeys.ServiceID
	version uint64
}

// loaned is what allowed a lease, and what a record of its calls says.
type loaned struct {
	agent    agentkeys.Wallet // whose session
	counter  uint64           // of its admission
	proxy    agentkeys.Wallet
	admitted uint64           // counter of the proxy's admission
	grant    uint64           // its version, 0 for an owner's session
	owner    agentkeys.Wallet // agent part of the slot
	epoch    agentkeys.Epoch
	height   uint64
	until    time.Time
	number   uint64 // set by lend: the same loan, lent again, has another
}

// tell has an instance drop what it holds of it; false if it holds nothing of it.
func (i *instance) tell(t taken) bool {
	o := owed{t.Drop, i.of(t.from)}
	if len(o.leases) == 0 && !i.more {
		return false
	}
	if len(i.drops) == 0 {
		i.since = time.Now()
	}
	if len(i.drops) >= maxDrops {
		i.drops = nil
		o = owed{api.Drop{Number: t.Number, Reason: t.Reason}, i.of(func(loan, loaned) bool { return true })}
	}
	i.drops = append(i.drops, o)
	i.stir()
	return true
}

// of gives the leases that a drop is about.
func (i *instance) of(from func(loan, loaned) bool) map[loan]uint64 {
	out := map[loan]uint64{}
	for l, what := range i.leases {
		if from(l, what) {
			out[l] = what.number
		}
	}
	return out
}

// gone forgets the leases that a confirmed drop ended, unless they were lent again.
func (i *instance) gone(o owed) {
	for l, number := range o.leases {
		if i.leases[l].number == number {
			delete(i.leases, l)
		}
	}
}

// stir wakes who waits for this instance.
func (i *instance) stir() {
	close(i.wake)
	i.wake = make(chan struct{})
}
