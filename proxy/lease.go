package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
)

// vault is the custodian as this proxy's session sees it.
type vault interface {
	Use(ctx context.Context, d api.Delegation, name agentkeys.Service, instance string) (client.Lease, error)
	Watch(ctx context.Context, in api.Watch) (api.Watched, error)
}

// leases are the children and what is on loan for them, in memory only. Nothing is held
// past valid: six seconds after the last answered watch was sent.
type leases struct {
	cfg      Config
	instance string
	stop     context.CancelFunc // of the whole proxy; set by run
	address  string             // host:port of the traffic listener; set before run

	mu       sync.Mutex
	boot     string
	seen     uint64 // newest drop carried out
	told     uint64 // drops that came, in all: an answer that one has crossed is thrown away
	valid    time.Time
	children map[[32]byte]*child // by the hash of their tokens
	loans    map[*lease]bool     // not wiped yet: of those who are gone, too
	calls    map[counted]uint32
	lapse    *time.Timer
}

// counted is what calls are told by.
type counted struct {
	session, service string
	version          uint64
}

// lease is one value on loan. A call under way keeps it until its end.
type lease struct {
	client.Lease
	child  *child
	name   agentkeys.Service
	stands string // the placeholder
	count  counted
	ctx    context.Context // ends when the lease is dropped, not when it runs out
	cancel context.CancelFunc
	users  int
	gone   bool          // nobody else gets it
	over   chan struct{} // closed when gone and the last call has ended
}

func newKeeper(cfg Config) *leases {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return &leases{cfg: cfg, instance: hex.EncodeToString(b), children: map[[32]byte]*child{}, loans: map[*lease]bool{}, calls: map[counted]uint32{}}
}

// begin gives a live lease to one call.
func (k *leases) begin(ctx context.Context, c *child, name agentkeys.Service) (call, error) {
	l, err := k.lend(ctx, c, name)
	if err != nil {
		return call{}, err
	}
	k.mu.Lock()
	k.calls[l.count]++
	k.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	unfollow := context.AfterFunc(l.ctx, cancel)
	var once sync.Once
	return call{ctx: ctx, credential: l.Credential, placeholder: l.stands, version: l.Version,
		end: func() { once.Do(func() { unfollow(); cancel(); k.end(l) }) }}, nil
}

// tries is how often a value is asked for when drops cross the answer.
const tries = 4

// askWithin bounds one question; those who wait for its answer wait no longer.
const askWithin = 2 * api.WatchLife

// question is one that the custodian has not answered yet. Whoever needs the same value
// waits for it.
type question struct {
	delegation api.Delegation
	told       uint64        // drops that had come when it was asked
	answered   chan struct{} // closed then
	refusal    error         // everybody's; set before answered
}

// lend gives a lease that one more call uses; the caller ends it by end.
func (k *leases) lend(ctx context.Context, c *child, name agentkeys.Service) (*lease, error) {
	for range tries {
		l, q, asks, err := k.take(c, name)
		switch {
		case l != nil || err != nil:
			return l, err
		case asks:
			if l, err = k.ask(ctx, c, name, q); l != nil || err != nil {
				return l, err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-q.answered:
		}
		if q.refusal != nil {
			return nil, q.refusal
		}
	}
	return nil, denied(http.StatusConflict, "changed", "access changes faster than it is asked for", "Try again", true)
}

// take finds a live lease, or the question whose answer to wait for; asks tells the
// caller to ask it.
func (k *leases) take(c *child, name agentkeys.Service) (l *lease, q *question, asks bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case c.dead:
		return nil, nil, false, c.revoked()
	case past(k.valid):
		return nil, nil, false, denied(http.StatusServiceUnavailable, "proxy_not_watching", "the proxy does not hear the custodian, so it gives nothing",
			"Try again; if it stays: agentkeys doctor", true)
	}
	if l := c.held[name]; l != nil && !past(l.Until) {
		l.users++
		return l, nil, false, nil
	}
	if q = c.asked[name]; q == nil {
		q, asks = &question{delegation: c.delegation, told: k.told, answered: make(chan struct{})}, true
		c.asked[name] = q
	}
	return nil, q, asks, nil
}

// ask puts a question and keeps what comes. Both results are nil when a drop crossed
// the answer.
func (k *leases) ask(ctx context.Context, c *child, name agentkeys.Service, q *question) (l *lease, err error) {
	bounded, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	got, err := k.cfg.Vault.Use(bounded, q.delegation, name, k.instance)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(c.asked, name)
	defer close(q.answered)
	if err != nil {
		if ctx.Err() == nil { // who gives up takes nobody along
			q.refusal = err
		}
		return nil, err
	}
	return k.keep(c, name, got, q.told), nil
}

// keep takes what was asked for, unless a drop came meanwhile.
func (k *leases) keep(c *child, name agentkeys.Service, got client.Lease, told uint64) *lease {
	if c.dead || k.told != told || past(k.valid) {
		got.Secret.Wipe()
		return nil
	}
	l := &lease{Lease: got, child: c, name: name, stands: placeholder(name, got.Credential)[0],
		count: counted{got.Session, got.ServiceID.String(), got.Version}, users: 1, over: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if old := c.held[name]; old != nil {
		k.release(old)
	}
	k.loans[l] = true
	c.held[name], c.rules[name] = l, got.Hosts
	c.session, c.wallet = got.Session, got.Agent.String()
	return l
}

// past reports whether a time is over by the monotonic clock or by the wall clock: the
// first stands still on some systems while the machine sleeps, the second can be set.
func past(t time.Time) bool {
	now := time.Now()
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}

// end is called when nothing of a call can be written upstream any more.
func (k *leases) end(l *lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l.users--
	k.settle(l)
}

// release takes a lease from those who come later. Calls that still run, such as long
// streams, can be cut until they end.
func (k *leases) release(l *lease) {
	if l.child.held[l.name] == l {
		delete(l.child.held, l.name)
	}
	l.gone = true
	k.settle(l)
}

// settle wipes what nobody has any more.
func (k *leases) settle(l *lease) {
	if !l.gone || l.users > 0 || !k.loans[l] {
		return
	}
	delete(k.loans, l)
	l.Secret.Wipe()
	l.cancel()
	close(l.over)
}

// sweep wipes what ran out and nobody uses. When the custodian has been silent for too
// long it ends everything, in case the timer stood still in a sleep of the machine.
func (k *leases) sweep() {
	k.lapsed()
	k.mu.Lock()
	defer k.mu.Unlock()
	for l := range k.loans {
		if past(l.Until) {
			k.release(l)
		}
	}
}

// cut ends what drops name: leases, running calls, and the children themselves where it
// is not about one service. It returns the leases whose calls have yet to end.
func (k *leases) cut(drops ...api.Drop) (ending []*lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range drops {
		k.told++
		for _, c := range k.children {
			if d.ServiceID == "" && (d.Agent != "" || d.Session != "") && k.names(d, c.wallet, c.session) {
				c.dead = true
			}
		}
		for l := range k.loans {
			if k.names(d, l.Agent.String(), l.Session) && (d.ServiceID == "" || d.ServiceID == l.ServiceID.String()) {
				l.cancel()
				k.release(l)
				ending = append(ending, l)
			}
		}
	}
	return ending
}

// names reports whether a drop is about this agent's session. One about the proxy
// itself is about everybody's.
func (k *leases) names(d api.Drop, agent, session string) bool {
	return (d.Agent == "" || d.Agent == agent || d.Agent == k.cfg.Wallet.String()) && (d.Session == "" || d.Session == session)
}

// carryOut cuts what drops name and waits until every call has ended.
func (k *leases) carryOut(ctx context.Context, drops ...api.Drop) error {
	for _, l := range k.cut(drops...) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.over:
		}
	}
	return nil
}
