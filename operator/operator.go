// Package operator is trusted for availability only: it relays statements and pays
// for them, schedules rotation, and carries bytes between rotator and store. It
// holds no key that opens anything and deletes nothing. Start at [Operator.Run].
package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"golang.org/x/sync/errgroup"
)

// Config of one operator.
type Config struct {
	Vault      agentkeys.VaultID
	ChainID    string
	Node       string // RPC of the node
	Custodian  string // its operator API; may come up later
	Token      string // for the custodian's operator API
	RelayKey   agentkeys.Secret
	RotatorBin string
	NoSandbox  bool         // of the rotator; nothing else turns it off
	Listener   net.Listener // relay, health and metrics, loopback
	Log        *slog.Logger
	Stderr     io.Writer // of the rotator
}

// errEnrols is answered while too many new users come at once.
var errEnrols = &api.Error{Status: 429, Code: "enrol_limited", Message: "too many new users at once", Next: "Try again in a minute", Retry: true}

// Operator is one running operator.
type Operator struct {
	cfg       Config
	node      *ledger.Node
	sender    *ledger.Sender
	relay     *Relay
	scheduler *Scheduler
	courier   *Courier
	custodian *custodianClient
	rotators  *rotatorPool
}

// errBusy is answered while too many statements wait.
var errBusy = &api.Error{Status: 503, Code: "relay_busy", Message: "too many statements are waiting", Next: "Try again in a moment", Retry: true}

// New checks the configuration; nothing is started or dialled.
func New(cfg Config) (*Operator, error) {
	node, err := ledger.NewNode(cfg.Node)
	if err != nil {
		return nil, err
	}
	signer, err := ledger.NewSigner(cfg.RelayKey)
	if err != nil {
		return nil, err
	}
	o := &Operator{cfg: cfg, node: node, sender: ledger.NewSender(node, signer, cfg.ChainID, "uagent"),
		custodian: newCustodianClient(cfg.Custodian, cfg.Token)}
	o.rotators = &rotatorPool{bin: cfg.RotatorBin, vault: cfg.Vault, stderr: cfg.Stderr, open: cfg.NoSandbox, vouch: o.custodian.vouch}
	o.courier = &Courier{custodian: o.custodian, rotators: o.rotators, store: blobstore.NewHTTPClient(), progress: o.progress}
	o.scheduler = newScheduler(cfg.Log)
	o.scheduler.step, o.scheduler.wrap, o.scheduler.users = o.courier.Step, o.courier.Wrap, o.userRows
	o.scheduler.hints, o.scheduler.params = o.hints, o.params
	o.relay = NewRelay(o.sender, o.scheduler.Look)
	return o, nil
}

// Run serves until ctx ends.
func (o *Operator) Run(ctx context.Context) error {
	defer o.rotators.close()
	srv := &http.Server{Handler: o.routes(), ReadHeaderTimeout: 10 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return o.sender.Run(ctx) })
	g.Go(func() error { return o.relay.Run(ctx) })
	g.Go(func() error { return o.scheduler.Run(ctx) })
	g.Go(func() error { return srv.Serve(o.cfg.Listener) })
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		return srv.Shutdown(stop)
	})
	if err := g.Wait(); !errors.Is(err, context.Canceled) && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (o *Operator) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathRelay, o.serveRelay)
	mux.HandleFunc("POST /v1/look", o.serveLook)
	mux.HandleFunc("GET "+api.PathHealth, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET "+api.PathReady, o.serveReady)
	mux.HandleFunc("GET /metrics", o.serveMetrics)
	return mux
}

func (o *Operator) serveRelay(w http.ResponseWriter, r *http.Request) {
	var in api.Relay
	if err := api.Decode(r.Body, 64<<20, &in); err != nil || len(in.Wires) == 0 || len(in.Wires) > 4096 {
		api.Fail(w, &api.Error{Status: 400, Code: "bad_request", Message: "relay: want 1 to 4096 statements"})
		return
	}
	height, results, err := o.relay.Submit(r.Context(), in.Wires)
	if err != nil {
		o.cfg.Log.Warn("relay", "error", err.Error())
		var e *api.Error
		if !errors.As(err, &e) {
			err = &api.Error{Status: 503, Code: "chain_unavailable", Message: "no block answered: " + err.Error(), Retry: true}
		}
		api.Fail(w, err)
		return
	}
	out := api.Relayed{Height: height, Results: make([]api.Accepted, len(results))}
	for i, res := range results {
		out.Results[i] = api.Accepted{Code: res.Code, Name: rules.Code(res.Code).String(), Reason: res.Reason, Height: height}
	}
	api.Reply(w, out)
}

// serveLook asks for a user's job at once, or for a scan of all users.
func (o *Operator) serveLook(w http.ResponseWriter, r *http.Request) {
	var in struct {
		User string `json:"user"`
	}
	if err := api.Decode(r.Body, 1<<10, &in); err != nil {
		api.Fail(w, &api.Error{Status: 400, Code: "bad_request", Message: err.Error()})
		return
	}
	if in.User == "" {
		o.scheduler.hint(r.Context())
		if err := o.scheduler.scan(r.Context()); err != nil {
			api.Fail(w, err)
			return
		}
	} else {
		u, err := agentkeys.ParseWallet(in.User)
		if err != nil {
			api.Fail(w, &api.Error{Status: 400, Code: "bad_request", Message: err.Error()})
			return
		}
		o.scheduler.Look(u, 0)
	}
	api.Reply(w, struct{}{})
}

func (o *Operator) serveReady(w http.ResponseWriter, r *http.Request) {
	if _, err := o.node.Status(r.Context()); err != nil {
		api.Fail(w, &api.Error{Status: 503, Code: "chain_unavailable", Message: "the node does not answer", Retry: true})
		return
	}
	fmt.Fprintln(w, "ready")
}

func (o *Operator) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, m := range []struct {
		name, help string
		value      uint64
	}{
		{"agentkeys_relay_transactions_total", "transactions sent", o.relay.Transactions.Load()},
		{"agentkeys_relay_statements_total", "statements sent", o.relay.Statements.Load()},
		{"agentkeys_relay_refused_total", "statements that a block refused", o.relay.Refused.Load()},
	} {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s counter\n%s %d\n", m.name, m.help, m.name, m.name, m.value)
	}
	fmt.Fprintf(w, "# HELP agentkeys_rotation_pending users with a rotation step that is due or failed\n"+
		"# TYPE agentkeys_rotation_pending gauge\nagentkeys_rotation_pending %d\n", o.scheduler.Pending())
}

func (o *Operator) progress(user, kind string, done, total int) {
	o.cfg.Log.Info("rotation", "user", user, "job", kind, "done", done, "total", total)
}

func (o *Operator) userRows(ctx context.Context, each func(agentkeys.Wallet, rules.User, uint64)) error {
	return userRows(ctx, o.node, each)
}

func (o *Operator) hints(ctx context.Context) (out []agentkeys.Wallet, version uint32) {
	h, err := o.custodian.hints(ctx)
	if err != nil {
		return nil, 0 // a custodian that is away has no hints; its absence shows in the jobs
	}
	for _, s := range h.Users {
		if u, err := agentkeys.ParseWallet(s); err == nil {
			out = append(out, u)
		}
	}
	return out, h.Version
}

func (o *Operator) params(ctx context.Context) (cadence, rotateBefore uint64, err error) {
	a, err := o.node.Query(ctx, "/store/vault/key", rules.ParamsKey(), 0, false)
	if err != nil {
		return 0, 0, err
	}
	p, err := rules.ParseParams(a.Value)
	if err != nil {
		return 0, 0, fmt.Errorf("params: %w", err)
	}
	if a, err = o.node.Query(ctx, "/store/vault/key", rules.SystemKey(), 0, false); err != nil {
		return 0, 0, err
	}
	s, err := rules.ParseSystem(a.Value)
	return p.At(a.Height).Cadence, s.RotateBefore, err
}
