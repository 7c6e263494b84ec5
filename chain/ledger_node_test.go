package chain_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/node"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// runNode runs a node on loopback until the test ends.
func runNode(t *testing.T, vault agentkeys.VaultID, relayer *chaintest.Account) (rpc string) {
	t.Helper()
	home := t.TempDir()
	g := app.Genesis{ChainID: chaintest.ChainID, Vault: vault, Authority: chaintest.NewAccount("authority", 1).Address(),
		Funds: []app.Fund{{Address: relayer.Address(), Amount: 1000}}, Params: statement.DefaultParams()}
	if err := node.Init(home, 0, g); err != nil {
		t.Fatal(err)
	}
	ready := make(chan node.Ready, 1)
	n := node.New(node.Config{Home: home, RPC: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
		Ready: func(r node.Ready) error { ready <- r; return nil }})
	background(t, n.Run)
	select {
	case r := <-ready:
		return r.RPC
	case <-time.After(30 * time.Second):
		t.Fatal("the node never became ready")
		return ""
	}
}

// background runs f until the test ends and waits for it.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// The whole way of a statement: sent by the ledger's relay, put in a block by the
// node, read back with a proof under a verified header.
func TestAStatementGoesInAndComesBackProven(t *testing.T) {
	vault := agentkeys.VaultID{7}
	relayer := chaintest.NewAccount("relayer", 0)
	rpc := runNode(t, vault, relayer)
	plain, err := ledger.NewNode(rpc)
	if err != nil {
		t.Fatal(err)
	}
	sender := ledger.NewSender(plain, signer(t, relayer), chaintest.ChainID, app.Denom)
	background(t, sender.Run)
	first, err := plain.LightBlock(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ledger.Open(t.Context(), ledger.Config{RPC: rpc, ChainID: chaintest.ChainID,
		Trust: ledger.Trust{Height: 1, Hash: first.Header.Hash()}, TrustingPeriod: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	background(t, client.Run)

	for _, name := range []string{"alice", "bob", "carol"} {
		key := rulestest.Wallet(name)
		wire, err := key.SignStatement(vault, statement.Enrol{User: key.Wallet()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		height, results, err := sender.Send(ctx, ledger.MsgSubmit, [][]byte{wire, []byte("noise")})
		if err != nil || results[0].Code != 0 || rules.Code(results[1].Code) != rules.BadLayout {
			t.Fatalf("%s: %+v, %v", name, results, err)
		}
		if _, err := client.Await(ctx, height); err != nil {
			t.Fatal(err)
		}
		row, _, err := client.Row(ctx, rules.UserKey(key.Wallet()))
		if err != nil || len(row) == 0 {
			t.Fatalf("%s: row %x, %v", name, row, err)
		}
	}
	absent, _, err := client.Row(t.Context(), rules.UserKey(rulestest.Wallet("nobody").Wallet()))
	if err != nil || absent != nil {
		t.Fatalf("nobody: row %x, %v", absent, err)
	}
	users, more, err := plain.Users(t.Context(), nil, 10)
	if err != nil || more || len(users) != 3 {
		t.Fatalf("users %v, %v, %v", users, more, err)
	}
	rows, err := plain.AllUserRows(t.Context(), users[0])
	if err != nil || len(rows) != 2 {
		t.Fatalf("rows %v, %v", rows, err)
	}
}
