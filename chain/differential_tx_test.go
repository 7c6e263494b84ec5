package chain_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"

	"example.org/agentkeys"
	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

func signer(t *testing.T, a *chaintest.Account) *ledger.Signer {
	t.Helper()
	s, err := ledger.NewSigner(agentkeys.NewSecret(slices.Clone(a.Key.Key)))
	if err != nil {
		t.Fatal(err)
	}
	if s.Address().String() != a.Address().String() {
		t.Fatalf("address %s, want %s", s.Address(), a.Address())
	}
	return s
}

// The SDK reads out of the ledger's transactions what the ledger put in.
func TestTheSDKReadsTheLedgersTransactions(t *testing.T) {
	c := chaintest.New(t)
	r := rand.New(rand.NewPCG(7, 8))
	relayer := signer(t, c.Relayer)
	for i := range 300 {
		parts := make([][]byte, 1+r.IntN(5))
		for i := range parts {
			parts[i] = bytesOf(r, r.IntN(300))
		}
		terms := ledger.Terms{ChainID: chaintest.ChainID, Number: c.Relayer.Number, Sequence: uint64(r.IntN(1000)),
			Timeout: uint64(r.IntN(3)) * r.Uint64N(1e9), Gas: r.Uint64N(1e9), Fee: uint64(r.IntN(2)) * r.Uint64N(1e9), Denom: app.Denom}
		if r.IntN(2) == 0 {
			terms.Granter = c.Treasury.Address().String()
		}
		wire, err := relayer.Submit(terms, parts)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := c.App.TxConfig.TxDecoder()(wire)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		tx := decoded.(authsigning.Tx)
		msg, ok := tx.GetMsgs()[0].(*vault.MsgSubmit)
		if !ok || len(tx.GetMsgs()) != 1 || msg.Relayer != c.Relayer.Address().String() || !slices.EqualFunc(msg.Statements, parts, bytes.Equal) {
			t.Fatalf("case %d: messages %v", i, tx.GetMsgs())
		}
		signatures, err := tx.GetSignaturesV2()
		if err != nil || signatures[0].Sequence != terms.Sequence {
			t.Fatalf("case %d: signatures %v, %v", i, signatures, err)
		}
		granter := ""
		if tx.FeeGranter() != nil {
			granter = sdk.AccAddress(tx.FeeGranter()).String()
		}
		if tx.GetTimeoutHeight() != terms.Timeout || tx.GetGas() != terms.Gas || granter != terms.Granter ||
			tx.GetFee().AmountOf(app.Denom).Uint64() != terms.Fee {
			t.Fatalf("case %d: timeout %d, gas %d, granter %q, fee %v; want %+v", i, tx.GetTimeoutHeight(), tx.GetGas(), granter, tx.GetFee(), terms)
		}
	}
}

// A block takes them, and the ledger reads its answers.
func TestABlockTakesTheLedgersTransactions(t *testing.T) {
	c := chaintest.New(t)
	terms := func(a *chaintest.Account) ledger.Terms {
		a.Sequence++
		return ledger.Terms{ChainID: chaintest.ChainID, Number: a.Number, Sequence: a.Sequence - 1, Timeout: 100, Gas: 10_000_000, Denom: app.Denom}
	}
	key := rulestest.Wallet("alice")
	enrol, err := key.SignStatement(c.Vault, statement.Enrol{User: key.Wallet()})
	if err != nil {
		t.Fatal(err)
	}
	submit, err := signer(t, c.Relayer).Submit(terms(c.Relayer), [][]byte{enrol, []byte("noise"), enrol})
	if err != nil {
		t.Fatal(err)
	}
	act, err := signer(t, c.Authority).Authority(terms(c.Authority), [][]byte{statement.AppendAct(nil, statement.RotateAll{})})
	if err != nil {
		t.Fatal(err)
	}
	block := c.Block(submit, act)
	for i, r := range block.TxResults {
		want := chaintest.Results(t, r)
		got, err := ledger.Results(r.Data)
		if err != nil || len(got) != len(want) {
			t.Fatalf("tx %d: %v, %v", i, got, err)
		}
		for j := range got {
			if got[j].Code != want[j].Code || got[j].Reason != want[j].Reason || len(got[j].Skipped)*2 != len(want[j].Skipped) {
				t.Fatalf("tx %d part %d: %+v, want %+v", i, j, got[j], want[j])
			}
		}
	}
	read, err := ledger.Statements(submit)
	if err != nil || len(read) != 3 || !bytes.Equal(read[0], enrol) {
		t.Fatalf("statements %x, %v", read, err)
	}
}

// Whatever the chain can decode, the ledger reads alike: an auditor misses nothing
// that the chain applied.
func TestTheLedgerReadsWhatTheSDKDecodes(t *testing.T) {
	cases := 10_000
	if testing.Short() {
		cases = 2_000
	}
	c := chaintest.New(t)
	r := rand.New(rand.NewPCG(9, 10))
	send := c.Treasury.Tx(t, c.App, &vault.MsgAuthority{Authority: c.Treasury.Address().String(), Acts: [][]byte{{64, 1}, {65}}})
	base := [][]byte{send}
	for i := range 8 {
		msgs := []sdk.Msg{&vault.MsgSubmit{Relayer: c.Relayer.Address().String(), Statements: [][]byte{bytesOf(r, 40), {}, bytesOf(r, i)}}}
		base = append(base, c.Relayer.Tx(t, c.App, msgs...))
	}
	decoded := 0
	for i := range cases {
		wire := slices.Clone(base[r.IntN(len(base))])
		for range r.IntN(3) {
			flip(r, wire)
		}
		tx, err := c.App.TxConfig.TxDecoder()(wire)
		if err != nil {
			continue
		}
		decoded++
		want := fmt.Sprintf("%x", partsOf(tx.GetMsgs()))
		messages, err := ledger.Messages(wire)
		if err != nil {
			t.Fatalf("case %d: the SDK decodes it, the ledger says %v", i, err)
		}
		var got [][]byte
		for _, m := range messages {
			got = append(got, m.Parts...)
		}
		if fmt.Sprintf("%x", got) != want {
			t.Fatalf("case %d: the ledger reads %x, the SDK %s", i, got, want)
		}
	}
	t.Logf("%d of %d decoded", decoded, cases)
	if decoded < cases/10 {
		t.Fatalf("only %d of %d decoded", decoded, cases)
	}
}

func partsOf(msgs []sdk.Msg) (out [][]byte) {
	for _, m := range msgs {
		switch m := m.(type) {
		case *vault.MsgSubmit:
			out = append(out, m.Statements...)
		case *vault.MsgAuthority:
			out = append(out, m.Acts...)
		}
	}
	return out
}
