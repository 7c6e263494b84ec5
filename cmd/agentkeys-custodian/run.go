package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/custodian"
	"example.org/agentkeys/internal/service"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
	"golang.org/x/sync/errgroup"
)

const limit = "software sealing, software attestation: root reads everything"

// trustingPeriod is far below what validators of a public chain answer for; a
// development chain may sleep for long.
const trustingPeriod = 365 * 24 * time.Hour

func run(c config) error {
	vault, trust, err := c.check()
	if err != nil {
		return err
	}
	log := c.log()
	st, err := custodian.OpenState(c.home, c.development)
	if err != nil {
		return err
	}
	defer st.Close()
	client, err := listen("listen", c.listen, false)
	if err != nil {
		return err
	}
	operator, err := listen("operator-listen", c.operatorListen, true)
	if err != nil {
		return err
	}
	ctx, cancel := service.Context(c.stopOnEOF)
	defer cancel()
	store, err := c.store(st, vault)
	if err != nil {
		return err
	}
	chain, err := openChain(ctx, c, trust, st)
	if err != nil {
		return err
	}
	p := &process{log: log, state: st, chain: chain, client: client, operator: operator}
	if err := p.build(c, vault, store); err != nil {
		return err
	}
	defer p.server.Close()
	if err := p.ready(); err != nil {
		return err
	}
	return p.serve(ctx)
}

// openChain waits for a node that is not up yet or whose chain is too young.
func openChain(ctx context.Context, c config, trust agentkeys.Hash, st *custodian.State) (*ledger.Client, error) {
	cfg := ledger.Config{RPC: c.node, ChainID: c.chainID, Trust: ledger.Trust{Height: c.trustHeight, Hash: trust},
		TrustingPeriod: trustingPeriod, StateFile: filepath.Join(c.home, "ledger.json"), StateKey: st.LedgerKey()}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		chain, err := ledger.Open(ctx, cfg)
		if err == nil || errors.Is(err, ledger.ErrFork) || ctx.Err() != nil || wait >= time.Second {
			return chain, err
		}
		time.Sleep(wait)
	}
}

// exchange mints the tokens that STS trades for sessions.
type exchange struct{ issuer token.Issuer }

func (e exchange) Token(_ context.Context, user agentkeys.Wallet, _ blobstore.Role) (string, error) {
	return e.issuer.Identity(user, time.Now())
}

// store publishes the issuer's keys before the first token is used.
func (c config) store(st *custodian.State, vault agentkeys.VaultID) (*blobstore.Store, error) {
	key, err := st.Seed.OIDCIssuer(vault)
	if err != nil {
		return nil, err
	}
	issuer := token.Issuer{Key: key, URL: c.issuer, Audience: c.audience}
	jwks, err := issuer.JWKS()
	if err != nil {
		return nil, err
	}
	if err := custodian.WritePublic(filepath.Join(c.home, "jwks.json"), jwks); err != nil {
		return nil, err
	}
	return blobstore.New(blobstore.Config{Endpoint: c.s3, STSEndpoint: c.sts, Region: c.region, Bucket: c.bucket, Account: c.account}, exchange{issuer})
}

// process is one running custodian.
type process struct {
	log              *slog.Logger
	state            *custodian.State
	chain            *ledger.Client
	client, operator net.Listener
	server           *custodian.Server
	keeper           *custodian.Keeper
	jobs             *custodian.Jobs
	evidence         attest.Evidence
}

func (p *process) build(c config, vault agentkeys.VaultID, store *blobstore.Store) error {
	keys, err := p.state.KeysHash()
	if err != nil {
		return err
	}
	m, err := attest.MeasureSelf()
	if err != nil {
		return err
	}
	p.evidence = attest.Software(m, keys)
	anchors, err := devices{p.state, store, c.region}.open(c.anchors)
	if err != nil {
		return err
	}
	cfg := custodian.Config{Vault: vault, ChainID: c.chainID, State: p.state, Chain: p.chain, Lister: custodian.NodeLister{Node: p.chain.Node()},
		Store: store, Objects: store.System(), Relay: custodian.NewHTTPRelay(c.relay), Platform: statement.PlatformSoftware,
		Evidence: p.evidence.Append(nil), Limit: limit + "; " + c.anchors.limits(), Log: p.log, Idle: idleRules[c.idle]}
	p.keeper = custodian.NewKeeper(cfg, store.System(), anchors, nil)
	cfg.Shares = p.keeper
	if p.server, err = custodian.New(cfg); err != nil {
		return err
	}
	p.jobs = custodian.NewJobs(p.server, p.keeper, store, store)
	return nil
}

func (p *process) ready() error {
	pin, err := p.state.Pin()
	if err != nil {
		return err
	}
	return service.Ready(map[string]string{
		"api": "https://" + p.client.Addr().String(), "operator": "http://" + p.operator.Addr().String(), "pin": pin.String(),
		"key": p.server.Key().String(), "evidence": agentkeys.Hash(statement.Hash(p.evidence.Append(nil))).String(),
		"measurement": fmt.Sprintf("%x", p.evidence.Measurement)})
}

func (p *process) serve(ctx context.Context) error {
	tlsConfig, err := p.state.TLS()
	if err != nil {
		return err
	}
	api := &http.Server{Handler: p.server.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)}
	ops := &http.Server{Handler: p.server.OperatorHandler(p.jobs), ReadHeaderTimeout: 10 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.chain.Run(ctx) })
	g.Go(func() error { return p.start(ctx, g) })
	g.Go(func() error { return api.Serve(tls.NewListener(p.client, tlsConfig)) })
	g.Go(func() error { return ops.Serve(p.operator) })
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		return errors.Join(api.Shutdown(stop), ops.Shutdown(stop))
	})
	if err := g.Wait(); !errors.Is(err, context.Canceled) && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// start opens the share trees once the chain lists this process, and only then lets
// records and erasures go out. One tree is enough to read; it goes on until all are open
// or out of use.
func (p *process) start(ctx context.Context, g *errgroup.Group) error {
	started := false
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := p.keeper.Open(ctx)
		if !started && p.keeper.Readable() {
			started = true
			p.server.Opened()
			g.Go(func() error { return p.server.Run(ctx) })
			g.Go(func() error { return p.jobs.Run(ctx) })
		}
		if err == nil {
			return nil
		}
		if wait > 300*time.Millisecond {
			p.log.Warn("share trees are not open yet", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
