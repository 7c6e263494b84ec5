package proxy

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"

	"golang.org/x/sync/errgroup"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
)

// Policy says what happens to a host that no rule of the child names. Nothing is ever
// injected or decrypted there.
type Policy uint8

const (
	Pass   Policy = iota // goes through untouched, a blind tunnel
	Refuse               // host_refused
)

func (p Policy) String() string {
	if p == Refuse {
		return "refuse"
	}
	return "pass"
}

// Config of a proxy. Wallet is its own, which its owner admitted.
type Config struct {
	Vault   vault // the custodian as this proxy's session sees it
	Wallet  agentkeys.Wallet
	CA      *CA
	Others  Policy
	Resolve map[string]string // "host:port" to "address:port": the owner named it, so it may be loopback
	Roots   *x509.CertPool    // of upstreams; nil stands for the system's
	Log     *slog.Logger
}

// caller is one child as the engine sees it. Its methods may be called at once.
type caller interface {
	// pick gives the credential whose rules name this host; ok is false when none does.
	// An error is an [api.Error], hosts_overlap when two do.
	pick(host string, port uint16) (name agentkeys.Service, ok bool, err error)
	// begin starts one call under a live lease, asked for when there is none. A refusal
	// is an [api.Error]: the custodian's own, or revoked.
	begin(ctx context.Context, name agentkeys.Service) (call, error)
	// hosts is what this child's certificate is for.
	hosts() []credential.HostRule
	// agent is the name for the log.
	agent() string
	// gone closes when the child is: its idle connections go too.
	gone() <-chan struct{}
}

// call is one use of a credential. Its context ends when the lease is dropped or the
// watch is lost, not when the lease runs out: a long stream outlives its lease.
type call struct {
	ctx         context.Context
	credential  credential.Credential // valid until end
	placeholder string
	version     uint64
	end         func() // exactly once, when nothing of the call can be written upstream any more
}

// callers finds a child by its token, in constant time.
type callers interface {
	find(token string) (caller, bool)
}

// Proxy is one proxy process.
type Proxy struct {
	engine *engine
	keeper *leases
}

// New checks the configuration. Nothing is asked or opened yet.
func New(cfg Config) (*Proxy, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := newKeeper(cfg)
	e, err := newEngine(cfg, k)
	if err != nil {
		return nil, err
	}
	return &Proxy{e, k}, nil
}

// Run serves both listeners until ctx ends or the custodian says that this proxy is none
// any more. When it returns no call runs and nothing is held.
func (p *Proxy) Run(ctx context.Context, traffic, control net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.keeper.address = traffic.Addr().String()
	var g errgroup.Group
	g.Go(func() error {
		defer cancel()
		return p.engine.run(ctx, traffic)
	})
	g.Go(func() error {
		defer cancel()
		return p.keeper.run(ctx, control)
	})
	return g.Wait()
}
