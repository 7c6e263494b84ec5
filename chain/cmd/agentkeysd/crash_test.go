package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	comettypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"

	"cosmossdk.io/log/v2"

	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"example.org/agentkeys"
	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

func addressText(t *testing.T, a *chaintest.Account) string {
	t.Helper()
	newApp(t) // sets the prefix that String uses
	return a.Address().String()
}

func newApp(t *testing.T) *app.App {
	t.Helper()
	a, err := app.New(log.NewNopLogger(), dbm.NewMemDB())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// user sends one statement a transaction and remembers what was acknowledged.
type user struct {
	t       *testing.T
	app     *app.App
	relayer *chaintest.Account
	acked   []agentkeys.Wallet
	sent    int
}

func newUser(t *testing.T) *user {
	return &user{t: t, app: newApp(t), relayer: chaintest.NewAccount("relayer", 0)}
}

func dial(t *testing.T, p *process) *rpchttp.HTTP {
	t.Helper()
	c, err := rpchttp.New(p.ready.RPC, "/websocket")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// send enrols one more wallet and waits until a block has applied it.
func (u *user) send(ctx context.Context, c *rpchttp.HTTP) error {
	key := rulestest.Wallet(fmt.Sprint("user ", u.sent))
	wire, err := key.SignStatement(testVault, statement.Enrol{User: key.Wallet()})
	if err != nil {
		return err
	}
	u.sent++
	tx := u.relayer.Tx(u.t, u.app, &vault.MsgSubmit{Relayer: u.relayer.Address().String(), Statements: [][]byte{wire}})
	r, err := c.BroadcastTxSync(ctx, tx)
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("%w: %s", errRefused, r.Log)
	}
	for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(time.Millisecond) {
		if ok, err := hasUser(ctx, c, key.Wallet()); err != nil {
			return err
		} else if ok {
			u.acked = append(u.acked, key.Wallet())
			return nil
		}
	}
	return fmt.Errorf("%w: never seen in a block", errRefused)
}

func hasUser(ctx context.Context, c *rpchttp.HTTP, w agentkeys.Wallet) (bool, error) {
	r, err := c.ABCIQuery(ctx, "/store/vault/key", rules.UserKey(w))
	if err != nil {
		return false, err
	}
	return len(r.Response.Value) > 0, nil
}

var errRefused = errors.New("refused")

// load sends until the node is gone, and calls first after the first
// acknowledgement. A block that was proposed before a kill may come after the
// restart and use up the sequence, before or after a transaction was checked; then
// the transaction is signed again.
func (u *user) load(c *rpchttp.HTTP, first func()) {
	for {
		err := u.send(u.t.Context(), c)
		if err == nil && first != nil {
			first()
			first = nil
		}
		if errors.Is(err, errRefused) {
			if u.relayer.Sequence, err = sequenceOf(u.t, c, u.relayer); err == nil {
				continue
			}
		}
		if err != nil {
			if first != nil {
				u.t.Fatalf("nothing was acknowledged: %v", err)
			}
			return
		}
	}
}

// lost counts acknowledged users whose row is gone.
func (u *user) lost(c *rpchttp.HTTP) (n int) {
	u.t.Helper()
	for _, w := range u.acked {
		ok, err := hasUser(u.t.Context(), c, w)
		if err != nil {
			u.t.Fatal(err)
		}
		if !ok {
			n++
		}
	}
	return n
}

func TestKilledUnderLoadItLosesNothingAcknowledged(t *testing.T) {
	const kills = 4
	home := initHome(t)
	planted := filepath.Join(home, "data", "write-file-atomic-1")
	u := newUser(t)
	height := int64(0)
	for round := range kills {
		p := start(t, home)
		if p.ready.Height < height {
			t.Fatalf("round %d: height %d after %d", round, p.ready.Height, height)
		}
		c := dial(t, p)
		if n := u.lost(c); n > 0 {
			t.Fatalf("round %d: %d of %d acknowledged users are gone", round, n, len(u.acked))
		}
		before := len(u.acked)
		u.load(c, func() { time.AfterFunc(time.Duration(50+31*round)*time.Millisecond, func() { _ = p.Process.Kill() }) })
		_ = p.Wait()
		height = p.ready.Height
		if len(u.acked) == before {
			t.Fatalf("round %d: nothing was acknowledged before the kill, so it shows nothing", round)
		}
		if err := os.WriteFile(planted, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, home)
	if n := u.lost(dial(t, p)); n > 0 {
		t.Fatalf("%d of %d acknowledged users are gone", n, len(u.acked))
	}
	if _, err := os.Stat(planted); err == nil {
		t.Fatal("the half-written file of a killed process was not swept")
	}
	t.Logf("%d users acknowledged over %d kills", len(u.acked), kills)
}

// An idle chain has no block to make after a restart; the first transaction must
// bring it.
func TestRestartedWhileIdleItTakesTransactions(t *testing.T) {
	home, u := initHome(t), newUser(t)
	for range 3 {
		p := start(t, home)
		if err := u.send(t.Context(), dial(t, p)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // the proof block
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestATransactionIsInABlockAtOnceAndThenItIsQuiet(t *testing.T) {
	p := start(t, initHome(t))
	c, u := dial(t, p), newUser(t)
	var fastest time.Duration
	for i := range 20 {
		began := time.Now()
		if err := u.send(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); i == 0 || d < fastest {
			fastest = d
		}
	}
	t.Logf("fastest acknowledgement %v", fastest)
	if fastest > 200*time.Millisecond {
		t.Fatalf("the fastest of 20 transactions took %v at timeout_commit 0", fastest)
	}
	time.Sleep(500 * time.Millisecond) // the proof block
	before := heightOf(t, c)
	time.Sleep(2 * time.Second)
	if after := heightOf(t, c); after != before {
		t.Fatalf("an idle chain went from height %d to %d", before, after)
	}
}

func heightOf(t *testing.T, c *rpchttp.HTTP) int64 {
	t.Helper()
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.SyncInfo.LatestBlockHeight
}

func TestExportedChainGoesOnInAnotherHome(t *testing.T) {
	home := initHome(t)
	p := start(t, home)
	u := newUser(t)
	for range 3 {
		if err := u.send(t.Context(), dial(t, p)); err != nil {
			t.Fatal(err)
		}
	}
	p.kill()
	out, err := run(t, "export", "--home", home)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "genesis.json")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	doc, err := comettypes.GenesisDocFromJSON([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(t.TempDir(), "next")
	if _, err := run(t, "init", "--home", next, "--genesis", file); err != nil {
		t.Fatal(err)
	}
	p = start(t, next)
	c := dial(t, p)
	if p.ready.Height < doc.InitialHeight || u.lost(c) > 0 {
		t.Fatalf("height %d, want at least %d; %d users lost", p.ready.Height, doc.InitialHeight, u.lost(c))
	}
	if err := u.send(t.Context(), c); err != nil {
		t.Fatal(err)
	}

	broken := bytes.Replace([]byte(out), []byte(`"rows"`), []byte(`"rowz"`), 1)
	if err := os.WriteFile(file, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "init", "--home", filepath.Join(t.TempDir(), "broken"), "--genesis", file); err == nil {
		t.Fatal("a genesis with a field of no meaning was taken")
	}
}

func sequenceOf(t *testing.T, c *rpchttp.HTTP, a *chaintest.Account) (uint64, error) {
	t.Helper()
	req, err := (&authtypes.QueryAccountInfoRequest{Address: a.Address().String()}).Marshal()
	if err != nil {
		return 0, err
	}
	r, err := c.ABCIQuery(t.Context(), "/cosmos.auth.v1beta1.Query/AccountInfo", req)
	if err != nil {
		return 0, err
	}
	var res authtypes.QueryAccountInfoResponse
	if err := res.Unmarshal(r.Response.Value); err != nil || res.Info == nil {
		return 0, fmt.Errorf("account: code %d %s: %w", r.Response.Code, r.Response.Log, err)
	}
	return res.Info.Sequence, nil
}
