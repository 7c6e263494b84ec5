package custodian

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/record"
)

// proxies are the running proxies and what they hold on loan, in memory only: a proxy
// holds something no longer than WatchLife after its last watch was received, by the
// monotonic clock, and drops everything when it hears of another boot. So the proxies
// of an earlier start hold nothing WatchLife after this one.
type proxies struct {
	mu    sync.Mutex
	alone time.Time // from then on nobody holds anything of an earlier start
	by    map[proxyID]*instance
	drops uint64 // number of the newest
	lent  uint64 // likewise
}

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

// Bounds: a proxy beyond them does not watch, a lease is not given.
const (
	maxInstances = 4096
	maxOfUser    = 64
	maxLoans     = 4096 // of one instance
	maxDrops     = 256  // of one instance; beyond, everything is dropped
)

// newProxies: boots is 1 at a custodian's first start, when there was none before.
func newProxies(boots uint64) *proxies {
	p := &proxies{by: map[proxyID]*instance{}, alone: time.Now()}
	if boots > 1 {
		p.alone = p.alone.Add(api.WatchLife)
	}
	return p
}

// confirm takes a proxy's word that it has carried drops out.
func (p *proxies) confirm(id proxyID, boot string, seen uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.by[id]
	if i == nil || i.boot != boot || seen <= i.seen {
		return
	}
	i.seen = seen
	for len(i.drops) > 0 && i.drops[0].Number <= seen {
		i.gone(i.drops[0])
		i.drops = i.drops[1:]
	}
	i.since = time.Now()
	i.stir()
}

// watching notes that a proxy watches and gives its registration. One that has not
// carried out a drop in WatchLife is not prolonged.
func (p *proxies) watching(id proxyID, user agentkeys.Wallet, received time.Time) (*instance, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(received)
	i := p.by[id]
	if i == nil {
		of := 0
		for _, other := range p.by {
			if other.user == user {
				of++
			}
		}
		if of >= maxOfUser || len(p.by) >= maxInstances {
			return nil, false
		}
		boot := make([]byte, 16)
		rand.Read(boot)
		i = &instance{user: user, boot: hex.EncodeToString(boot), wake: make(chan struct{}), leases: map[loan]loaned{}}
		p.by[id] = i
	}
	i.until = received.Add(api.WatchLife)
	if len(i.drops) > 0 && i.since.Add(api.WatchLife).Before(i.until) {
		i.until = i.since.Add(api.WatchLife)
	}
	return i, true
}

// forget drops the registrations of proxies that hold nothing any more.
func (p *proxies) forget(now time.Time) {
	for id, i := range p.by {
		if !now.Before(i.until) {
			delete(p.by, id)
			i.stir()
		}
	}
}

// lend notes a lease before it is decided on; false if the proxy does not watch.
func (p *proxies) lend(id proxyID, l loan, what loaned) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	i := p.by[id]
	if i == nil || !now.Before(i.until) {
		return false
	}
	if _, known := i.leases[l]; !known && len(i.leases) >= maxLoans {
		for old, o := range i.leases {
			if now.After(o.until.Add(api.WatchLife)) {
				delete(i.leases, old)
				i.more = true // streams outlive their lease
			}
		}
		if len(i.leases) >= maxLoans {
			return false
		}
	}
	p.lent++
	what.number = p.lent
	i.leases[l] = what
	return true
}

// calls gives the records of what a proxy tells, of leases that it was given.
func (p *proxies) calls(id proxyID, user agentkeys.Wallet, boot string, told []api.Calls) (out []record.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.by[id]
	if i == nil || i.boot != boot {
		return nil
	}
	for _, c := range told {
		session, err1 := hex.DecodeString(c.Session)
		service, err2 := agentkeys.ParseServiceID(c.ServiceID)
		if err1 != nil || err2 != nil || len(session) != 16 || c.Count == 0 {
			continue
		}
		if l, ok := i.leases[loan{[16]byte(session), service, c.Version}]; ok {
			out = append(out, record.Record{Kind: record.KindCalls, Mode: uint8(modeUse), User: user, Agent: l.agent, Owner: l.owner,
				Service: service, Version: c.Version, Epoch: l.epoch, Session: [16]byte(session), Height: l.height, Calls: c.Count})
		}
	}
	return out
}

// drop tells the proxies of a user that hold part of it what to drop. The function it
// returns waits until none of it is held: each has carried the drop out, this one and
// earlier ones about the same, or can hold nothing any more.
func (p *proxies) drop(user agentkeys.Wallet, t taken) (carriedOut func(context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drops++
	t.Number = p.drops
	var told []*instance
	for _, i := range p.by {
		if i.user == user && i.tell(t) {
			told = append(told, i)
		}
	}
	return func(ctx context.Context) error {
		for _, i := range told {
			if err := p.await(ctx, i, t.Number); err != nil {
				return err
			}
		}
		return until(ctx, p.alone)
	}
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

// await waits for one proxy.
func (p *proxies) await(ctx context.Context, i *instance, number uint64) error {
	for {
		p.mu.Lock()
		wake, end := i.wake, i.until
		if limit := i.since.Add(api.WatchLife); limit.Before(end) {
			end = limit
		}
		done := i.seen >= number || !time.Now().Before(end)
		p.mu.Unlock()
		if done {
			return nil
		}
		timer := time.NewTimer(time.Until(end))
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// news gives what an instance has to carry out, and what to wait on for more.
func (p *proxies) news(i *instance) (api.Watched, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := api.Watched{Boot: i.boot}
	for _, o := range i.drops {
		out.Drops = append(out.Drops, o.Drop)
	}
	return out, i.wake
}

// stir wakes who waits for this instance.
func (i *instance) stir() {
	close(i.wake)
	i.wake = make(chan struct{})
}

func until(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
