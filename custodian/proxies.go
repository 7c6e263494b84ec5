package custodian

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"math"
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

// calls gives the records of what a proxy tells, one for each of its leases.
func (p *proxies) calls(id proxyID, user agentkeys.Wallet, boot string, told []api.Calls) (out []record.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.by[id]
	if i == nil || i.boot != boot {
		return nil
	}
	at := map[loan]int{}
	for _, c := range told {
		session, err1 := hex.DecodeString(c.Session)
		service, err2 := agentkeys.ParseServiceID(c.ServiceID)
		if err1 != nil || err2 != nil || len(session) != 16 || c.Count == 0 {
			continue
		}
		l := loan{[16]byte(session), service, c.Version}
		what, lent := i.leases[l]
		if n, told := at[l]; told {
			out[n].Calls += min(c.Count, math.MaxUint32-out[n].Calls)
		} else if lent {
			at[l] = len(out)
			out = append(out, record.Record{Kind: record.KindCalls, Mode: uint8(modeUse), User: user, Agent: what.agent, Owner: what.owner,
				Service: service, Version: c.Version, Epoch: what.epoch, Session: l.session, Height: what.height, Calls: c.Count})
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
