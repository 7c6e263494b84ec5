package ledger

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

const liveVault = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"

// liveNode starts the built node on a new chain and returns the address of its RPC.
func liveNode(t *testing.T, payer *Signer) string {
	dir := os.Getenv("AGENTKEYS_BIN")
	if dir == "" {
		t.Skip("needs the built agentkeysd: run make test, or set AGENTKEYS_BIN to the directory of the binaries")
	}
	bin, home := filepath.Join(dir, "agentkeysd"), filepath.Join(t.TempDir(), "chain")
	address := payer.Address().String()
	out, err := exec.Command(bin, "init", "--home", home, "--chain-id", "live-1", "--vault-id", liveVault,
		"--authority", address, "--fund", address+"=1000000000").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(bin, "start", "--home", home, "--rpc", "127.0.0.1:0")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{w}, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	var ready struct {
		RPC string `json:"rpc"`
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("no ready line: %v", err)
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "ready ")), &ready); err != nil || ready.RPC == "" {
		t.Fatalf("ready line %q: %v", line, err)
	}
	return "http://" + strings.TrimPrefix(ready.RPC, "http://")
}

func TestAgainstTheBuiltNode(t *testing.T) {
	payer := testSigner(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rpc := liveNode(t, payer)
	node, err := NewNode(rpc)
	if err != nil {
		t.Fatal(err)
	}
	first, err := node.LightBlock(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(ctx, Config{RPC: rpc, ChainID: "live-1", Trust: Trust{1, first.Header.Hash()}, TrustingPeriod: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c)

	if _, _, err := node.Account(ctx, testSigner(t, 2).Address().String()); !errors.Is(err, ErrNoAccount) {
		t.Errorf("account of a stranger: %v", err)
	}
	number, sequence, err := node.Account(ctx, payer.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	user, err := eip712.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	vault, err := agentkeys.ParseVaultID(liveVault)
	if err != nil {
		t.Fatal(err)
	}
	enrol, err := user.SignStatement(vault, statement.Enrol{User: user.Wallet()})
	if err != nil {
		t.Fatal(err)
	}
	key := rules.UserKey(user.Wallet())
	statements := [][]byte{enrol, {1, 2, 3}, enrol}
	terms := Terms{ChainID: "live-1", Number: number, Sequence: sequence, Timeout: 1000, Gas: 5_000_000, Fee: 1000, Denom: "uagent"}
	tx, err := payer.Submit(terms, statements)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := node.BroadcastTxSync(ctx, tx)
	if err != nil || sent.Code != 0 {
		t.Fatalf("broadcast: %+v, %v", sent, err)
	}
	value, at, err := c.AwaitRow(ctx, key, func(v []byte) bool { return v != nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rules.ParseUser(value); err != nil {
		t.Error(err)
	}
	in, err := node.Included(ctx, tx, 1, at.StateHeight)
	if err != nil || in.Result.Code != 0 {
		t.Fatalf("%+v, %v", in, err)
	}
	results, err := Results(in.Result.Data)
	if err != nil || len(results) != 3 || results[0].Code != 0 || results[1].Code < 2 || results[2].Code != 1 {
		t.Errorf("results %+v, %v", results, err)
	}
	checkBlock(ctx, t, node, in.Height, statements)

	absent := rules.UserKey(agentkeys.Wallet{1})
	if value, _, err := c.Row(ctx, absent); err != nil || value != nil {
		t.Errorf("absent row: %x, %v", value, err)
	}
	authority(ctx, t, c, payer, terms)
}

// checkBlock holds transactions and results against the headers.
func checkBlock(ctx context.Context, t *testing.T, node *Node, height uint64, statements [][]byte) {
	t.Helper()
	b, err := node.Block(ctx, height)
	if err != nil {
		t.Fatal(err)
	}
	if hash := TxsHash(b.Txs); !bytes.Equal(hash[:], b.Header.DataHash) {
		t.Error("data hash differs")
	}
	got, err := Statements(b.Txs[0])
	if err != nil || !bytes.Equal(bytes.Join(got, nil), bytes.Join(statements, nil)) {
		t.Errorf("statements %x, %v", got, err)
	}
	results, err := node.BlockResults(ctx, height)
	if err != nil {
		t.Fatal(err)
	}
	next, err := node.Commit(ctx, height+1)
	if err != nil {
		t.Fatal(err)
	}
	if hash := ResultsHash(results); !bytes.Equal(hash[:], next.Header.LastResultsHash) {
		t.Error("results hash differs")
	}
}

// authority sends an act with a granter-less fee and reads its result.
func authority(ctx context.Context, t *testing.T, c *Client, payer *Signer, terms Terms) {
	t.Helper()
	terms.Sequence++
	tx, err := payer.Authority(terms, [][]byte{{255, 0}})
	if err != nil {
		t.Fatal(err)
	}
	from := c.Head().StateHeight
	if sent, err := c.Node().BroadcastTxSync(ctx, tx); err != nil || sent.Code != 0 {
		t.Fatalf("broadcast: %+v, %v", sent, err)
	}
	head, err := c.Await(ctx, from+1)
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Node().Included(ctx, tx, from, head.Height)
	if err != nil {
		t.Fatal(err)
	}
	results, err := Results(in.Result.Data)
	if err != nil || len(results) != 1 || results[0].Code < 2 {
		t.Errorf("an act of unknown kind: %+v, %+v, %v", in, results, err)
	}
	replay, err := c.Node().BroadcastTxSync(ctx, tx)
	if err == nil && replay.Code == 0 {
		t.Error("a transaction was taken twice")
	}
}
