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
	return &leases{cfg: cfg, instance: hex.EncodeToString(b), children: map[[32]byte]*child{}, calls: map[counted]uint32{}}
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
	return call{ctx: ctx, credential: l.Credential, placeholder: placeholder(name, l.Credential)[0], version: l.Version,
		end: func() { once.Do(func() { unfollow(); cancel(); k.end(l) }) }}, nil
}

// tries is how often a value is asked for when drops cross the answer.
const tries = 4

// lend gives a lease that one more call uses; the caller ends it by end.
func (k *leases) lend(ctx context.Context, c *child, name agentkeys.Service) (*lease, error) {
	c.asking.Lock() // one question at a time: the others find its answer
	defer c.asking.Unlock()
	for range tries {
		l, d, told, err := k.take(c, name)
		if l != nil || err != nil {
			return l, err
		}
		got, err := k.cfg.Vault.Use(ctx, d, name, k.instance)
		if err != nil {
			return nil, err
		}
		if l := k.keep(c, name, got, told); l != nil {
			return l, nil
		}
	}
	return nil, denied(http.StatusConflict, "changed", "access changes faster than it is asked for", "Try again", true)
}

// take finds a live lease, or what to ask for one with.
func (k *leases) take(c *child, name agentkeys.Service) (*lease, api.Delegation, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	switch {
	case c.dead:
		return nil, c.delegation, 0, c.revoked()
	case !now.Before(k.valid):
		return nil, c.delegation, 0, denied(http.StatusServiceUnavailable, "proxy_not_watching", "the proxy does not hear the custodian, so it gives nothing",
			"Try again; if it stays: agentkeys doctor", true)
	}
	if l := c.held[name]; l != nil && now.Before(l.Until) {
		l.users++
		return l, c.delegation, 0, nil
	}
	return nil, c.delegation, k.told, nil
}

// keep takes what was asked for, unless a drop came meanwhile.
func (k *leases) keep(c *child, name agentkeys.Service, got client.Lease, told uint64) *lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.dead || k.told != told || !time.Now().Before(k.valid) {
		got.Secret.Wipe()
		return nil
	}
	l := &lease{Lease: got, child: c, count: counted{got.Session, got.ServiceID.String(), got.Version}, users: 1, over: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if old := c.held[name]; old != nil {
		k.release(old)
	}
	c.held[name], c.rules[name] = l, got.Hosts
	c.session, c.wallet = got.Session, got.Agent.String()
	return l
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
	l.gone = true
	l.child.old[l] = true
	k.settle(l)
}

func (k *leases) settle(l *lease) {
	if !l.gone || l.users > 0 {
		return
	}
	select {
	case <-l.over:
	default:
		delete(l.child.old, l)
		l.Secret.Wipe()
		l.cancel()
		close(l.over)
	}
}

// sweep wipes what ran out and nobody uses.
func (k *leases) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for _, c := range k.children {
		for name, l := range c.held {
			if !now.Before(l.Until) {
				delete(c.held, name)
				k.release(l)
			}
		}
	}
}

// cut ends what a drop names: leases, running calls, and the children themselves when
// it is not about one service. It returns the leases whose calls have yet to end.
func (k *leases) cut(d api.Drop) (ending []*lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.told++
	for _, c := range k.children {
		if d.Agent != "" && d.Agent != c.wallet && d.Agent != k.cfg.Wallet.String() || d.Session != "" && d.Session != c.session {
			continue
		}
		if d.ServiceID == "" && (d.Agent != "" || d.Session != "") {
			c.dead = true
		}
		for name, l := range c.held {
			if d.ServiceID == "" || d.ServiceID == l.ServiceID.String() {
				delete(c.held, name)
				ending = append(ending, l)
			}
		}
		for l := range c.old {
			if d.ServiceID == "" || d.ServiceID == l.ServiceID.String() {
				ending = append(ending, l)
			}
		}
	}
	for _, l := range ending {
		l.cancel()
		k.release(l)
	}
	return ending
}

// carryOut cuts what a drop names and waits until every call has ended.
func (k *leases) carryOut(ctx context.Context, d api.Drop) error {
	for _, l := range k.cut(d) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.over:
		}
	}
	return nil
}
