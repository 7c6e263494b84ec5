package vault_test

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// mirror runs the same blocks by package rules on a map: the chain must equal it.
type mirror struct {
	*rulestest.Vault
	chain *chaintest.Chain
}

func newMirror(t *testing.T, c *chaintest.Chain) mirror {
	t.Helper()
	v, err := rulestest.NewVault(c.Vault, statement.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	return mirror{v, c}
}

// block repeats the chain's newest block.
func (m mirror) block(t *testing.T, wires ...[]byte) {
	t.Helper()
	m.Block = rules.Block{Height: uint64(m.chain.Height), Time: uint64(m.chain.Time.Unix())}
	for _, wire := range wires {
		var err error
		if act, parse := statement.ParseAct(wire); parse == nil {
			_, err = m.Act(act)
		} else {
			_, err = m.Apply(wire)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := m.NextBlock(1); err != nil {
		t.Fatal(err)
	}
	m.compare(t)
}

func (m mirror) compare(t *testing.T) {
	t.Helper()
	want := m.KV.Rows()
	got := m.chain.Genesis().Rows
	equal := slices.EqualFunc(got, want, func(a vault.Row, b rules.Row) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
	})
	if equal {
		return
	}
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i].Key, want[i].Key) || !bytes.Equal(got[i].Value, want[i].Value) {
			t.Fatalf("row %d:\nchain %x = %x\nrules %x = %x", i, got[i].Key, got[i].Value, want[i].Key, want[i].Value)
		}
	}
	t.Fatalf("chain has %d rows, rules %d", len(got), len(want))
}

func sign(t *testing.T, c *chaintest.Chain, key eip712.Key, body statement.Body) []byte {
	t.Helper()
	wire, err := key.SignStatement(c.Vault, body)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func enrol(t *testing.T, c *chaintest.Chain, name string) []byte {
	t.Helper()
	key := rulestest.Wallet(name)
	return sign(t, c, key, statement.Enrol{User: key.Wallet()})
}

func codes(results []vault.Result) (out []rules.Code) {
	for _, r := range results {
		out = append(out, rules.Code(r.Code))
	}
	return out
}

func submit(c *chaintest.Chain, statements ...[]byte) *vault.MsgSubmit {
	return &vault.MsgSubmit{Relayer: c.Relayer.Address().String(), Statements: statements}
}

func TestBadStatementDoesNotSinkItsBatch(t *testing.T) {
	c := chaintest.New(t)
	m := newMirror(t, c)
	bob := rulestest.Wallet("bob")
	forged := sign(t, c, rulestest.Wallet("mallory"), statement.Enrol{User: bob.Wallet()})
	batch := [][]byte{enrol(t, c, "alice"), forged, []byte("noise"), enrol(t, c, "bob"), enrol(t, c, "alice")}

	results := c.Submit(batch...)
	want := []rules.Code{rules.OK, rules.BadSignature, rules.BadLayout, rules.OK, rules.AlreadyApplied}
	if got := codes(results); !slices.Equal(got, want) {
		t.Fatalf("codes %v, want %v", got, want)
	}
	for i, r := range results {
		if (r.Reason == "") != (r.Code == 0) {
			t.Errorf("result %d: code %d with reason %q", i, r.Code, r.Reason)
		}
	}
	m.block(t, batch...)
}

func TestPositionCountsAcceptedOnesOfTheBlock(t *testing.T) {
	c := chaintest.New(t)
	m := newMirror(t, c)
	first, second := enrol(t, c, "a"), enrol(t, c, "b")
	act := statement.AppendAct(nil, statement.RotateAll{})
	third := enrol(t, c, "c")
	block := c.Block(
		c.Relayer.Tx(t, c.App, submit(c, first)),
		c.Relayer.Tx(t, c.App, submit(c, []byte("noise"), second)),
		c.Authority.Tx(t, c.App, &vault.MsgAuthority{Authority: c.Authority.Address().String(), Acts: [][]byte{act}}),
		c.Relayer.Tx(t, c.App, submit(c, third)),
	)
	for i, r := range block.TxResults {
		if r.Code != 0 {
			t.Fatalf("tx %d: %s", i, r.Log)
		}
	}
	m.block(t, first, second, act, third)
}

func TestFailedTransactionLeavesNoTrace(t *testing.T) {
	c := chaintest.New(t)
	m := newMirror(t, c)
	lost, kept := enrol(t, c, "lost"), enrol(t, c, "kept")
	c.Relayer.Gas = 130_000 // pays for the transaction, not for all of its statements
	poor := c.Relayer.Tx(t, c.App, submit(c, lost, bytes.Repeat([]byte{9}, 6_000)))
	c.Relayer.Gas = 50_000_000
	block := c.Block(poor, c.Relayer.Tx(t, c.App, submit(c, kept)))
	if !strings.Contains(block.TxResults[0].Log, "vault statement") {
		t.Fatalf("gas ran out elsewhere: %s", block.TxResults[0].Log)
	}
	if block.TxResults[0].Code != 11 || block.TxResults[1].Code != 0 {
		t.Fatalf("want out of gas (11) and success, got %d %q and %d", block.TxResults[0].Code, block.TxResults[0].Log, block.TxResults[1].Code)
	}
	m.block(t, kept)
}

func TestSimulationGathersNothing(t *testing.T) {
	c := chaintest.New(t)
	c.Block() // nothing can be simulated before the first block
	m := newMirror(t, c)
	wire := enrol(t, c, "alice")
	tx := c.Relayer.Tx(t, c.App, submit(c, wire))
	for range 3 {
		if _, _, err := c.App.Simulate(tx); err != nil {
			t.Fatal(err)
		}
	}
	if c.Block(); len(c.Genesis().Rows) != 3 {
		t.Fatalf("an empty block after a simulation wrote rows: %d", len(c.Genesis().Rows))
	}
	c.Block(tx)
	m.block(t, wire)
}

func TestTouchedIsWrittenOnceAndOnlyOnChange(t *testing.T) {
	c := chaintest.New(t)
	empty := c.Block().AppHash
	if again := c.Block().AppHash; !bytes.Equal(empty, again) {
		t.Fatal("an empty block changed the app hash, so an idle chain would make blocks for ever")
	}
	refused := c.Relayer.Tx(t, c.App, submit(c, []byte("noise")))
	c.Block(refused)
	if n := touchedRows(c); n != 0 {
		t.Fatalf("a refused statement left %d Touched rows", n)
	}
	c.Block(c.Relayer.Tx(t, c.App, submit(c, enrol(t, c, "a"))), c.Relayer.Tx(t, c.App, submit(c, enrol(t, c, "b"))))
	if n := touchedRows(c); n != 1 {
		t.Fatalf("one block wrote %d Touched rows", n)
	}
}

func touchedRows(c *chaintest.Chain) (n int) {
	prefix := rules.TouchedKey(0)[:1]
	for _, r := range c.Genesis().Rows {
		if bytes.HasPrefix(r.Key, prefix) {
			n++
		}
	}
	return n
}

func TestEventsNameWhatHappened(t *testing.T) {
	c := chaintest.New(t)
	key, agent := rulestest.Wallet("alice"), rulestest.Wallet("scribe").Wallet()
	revoke := sign(t, c, key, statement.RevokeAgent{User: key.Wallet(), Agent: agent})
	block := c.Block(c.Relayer.Tx(t, c.App, submit(c, enrol(t, c, "alice"), revoke, revoke)))
	want := &vault.EventAgentRevoked{User: key.Wallet().String(), Agent: agent.String()}
	seen := 0
	for _, e := range block.TxResults[0].Events {
		if !strings.HasPrefix(e.Type, "agentkeys.") {
			continue
		}
		got, err := sdk.ParseTypedEvent(e)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, %v; want %v", got, err, want)
		}
		seen++
	}
	if seen != 1 {
		t.Fatalf("%d events of the vault, want 1: a repeat is no event", seen)
	}
}
