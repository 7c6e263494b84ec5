package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cosmos/cosmos-sdk/baseapp"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"example.org/agentkeys"
	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/statement"
)

func genesis() app.Genesis {
	authority := sdk.AccAddress(make([]byte, 20))
	authority[0] = 1
	return app.Genesis{ChainID: "node-test", Vault: agentkeys.VaultID{9}, Authority: authority, Params: statement.DefaultParams()}
}

// running starts a node and waits until it is ready.
func running(t *testing.T, c Config, options ...func(*baseapp.BaseApp)) (Ready, <-chan error, context.CancelFunc) {
	t.Helper()
	ready := make(chan Ready, 1)
	c.RPC, c.Log = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	c.Ready = func(r Ready) error { ready <- r; return nil }
	n := New(c)
	n.options = options
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(cancel)
	select {
	case r := <-ready:
		return r, done, cancel
	case err := <-done:
		t.Fatalf("the node ended before it was ready: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("the node never became ready")
	}
	return Ready{}, nil, nil
}

func TestDeadConsensusEndsTheNode(t *testing.T) {
	home := t.TempDir()
	if err := Init(home, 0, genesis()); err != nil {
		t.Fatal(err)
	}
	broken := func(b *baseapp.BaseApp) {
		b.SetPreBlocker(func(ctx sdk.Context, _ *abci.RequestFinalizeBlock) (*sdk.ResponsePreBlock, error) {
			if ctx.BlockHeight() == 3 {
				panic("block 3")
			}
			return &sdk.ResponsePreBlock{}, nil
		})
	}
	_, done, _ := running(t, Config{Home: home, EmptyBlocks: true}, broken)
	select {
	case err := <-done:
		if !errors.Is(err, ErrConsensus) {
			t.Fatalf("ended with %v, want ErrConsensus", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the node lives on without blocks")
	}
}

func TestQueriesByGRPCAndHTTP(t *testing.T) {
	home := t.TempDir()
	if err := Init(home, 0, genesis()); err != nil {
		t.Fatal(err)
	}
	rpc, err := loopback("grpc", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web, err := loopback("gateway", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, done, cancel := running(t, Config{Home: home, GRPC: rpc, Gateway: web})

	conn, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	params, err := vault.NewQueryClient(conn).Params(t.Context(), &vault.QueryParamsRequest{})
	if err != nil || agentkeys.VaultID(params.VaultId) != genesis().Vault {
		t.Fatalf("by gRPC %v, %v", params, err)
	}
	res, err := http.Get("http://" + web + "/agentkeys/vault/v1/params")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body struct {
		Authority string `json:"authority"`
	}
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil || body.Authority != params.Authority {
		t.Fatalf("by HTTP %q, by gRPC %q: %v", body.Authority, params.Authority, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// answering is an application that answers every query.
type answering struct{ abci.BaseApplication }

func (answering) Query(context.Context, *abci.RequestQuery) (*abci.ResponseQuery, error) {
	return &abci.ResponseQuery{Value: []byte{1}}, nil
}

// Queries do not wait for blocks, so none may read what a block is writing.
func TestQueriesReadCommittedVersionsOnly(t *testing.T) {
	c := &creator{app: answering{}}
	queries, err := c.NewABCIClient()
	if err != nil {
		t.Fatal(err)
	}
	for path, answered := range map[string]bool{
		"/store/vault/key":                   true,
		"/agentkeys.vault.v1.Query/Row":      true,
		"/cosmos.auth.v1beta1.Query/Account": true,
		"/store/vault/subspace":              false,
		"store/vault/subspace":               false,
		"/app/simulate":                      false,
		"/app/simulate/key":                  false,
		"app/simulate":                       false,
		"":                                   false,
		"/store":                             false,
		"/app/agentkeys.vault.v1.Query/Row":  false,
		"/store/agentkeys.vault.v1.Query/subspace": false,
	} {
		r, err := queries.Query(t.Context(), &abci.RequestQuery{Path: path})
		if err != nil || (r.Code == 0) != answered || answered != (len(r.Value) == 1) {
			t.Errorf("%q: %+v, %v; want answered %v", path, r, err, answered)
		}
	}
}

func TestPaceIsWhatInitRecorded(t *testing.T) {
	home := t.TempDir()
	if p, err := Pace(home); p != 0 || err != nil {
		t.Fatalf("a home without a pace: %v, %v", p, err)
	}
	if err := Init(home, 750*time.Millisecond, genesis()); err != nil {
		t.Fatal(err)
	}
	if p, err := Pace(home); p != 750*time.Millisecond || err != nil {
		t.Fatalf("pace %v, %v", p, err)
	}
}

// committingSlowly is an application whose Commit takes until it is let go.
type committingSlowly struct {
	answering
	begun, end chan struct{}
}

func (c committingSlowly) Commit(context.Context, *abci.RequestCommit) (*abci.ResponseCommit, error) {
	close(c.begun)
	<-c.end
	return &abci.ResponseCommit{}, nil
}

// The tree exchanges its newest version while it commits: nothing may be read then.
func TestQueriesWaitForACommit(t *testing.T) {
	app := committingSlowly{begun: make(chan struct{}), end: make(chan struct{})}
	c := &creator{app: app}
	queries, err := c.NewABCIClient()
	if err != nil {
		t.Fatal(err)
	}
	consensus, err := c.NewABCIClient()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = consensus.Commit(t.Context(), &abci.RequestCommit{}) })
	<-app.begun
	if c.store.TryRLock() {
		t.Error("the store can be read while it commits")
	}
	answered := make(chan struct{})
	wg.Go(func() {
		defer close(answered)
		_, _ = queries.Query(t.Context(), &abci.RequestQuery{Path: "/store/vault/key"})
	})
	select {
	case <-answered:
		t.Error("a query is answered while the store commits")
	case <-time.After(50 * time.Millisecond):
	}
	close(app.end)
	<-answered
	wg.Wait()
}
