package app_test

import (
	"bytes"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	sdk "github.com/cosmos/cosmos-sdk/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	"github.com/cosmos/cosmos-sdk/x/feegrant"

	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/chaintest"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

func enrol(t *testing.T, c *chaintest.Chain) []byte {
	t.Helper()
	key := rulestest.Wallet("alice")
	wire, err := key.SignStatement(c.Vault, statement.Enrol{User: key.Wallet()})
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// Refusals come from CheckTx, before a fee is taken.
func TestOnlyWhatTheChainIsForIsTaken(t *testing.T) {
	c := chaintest.New(t)
	c.Block()
	from, to := c.Relayer.Address(), c.Treasury.Address()
	coins := sdk.NewCoins(sdk.NewInt64Coin(app.Denom, 5))
	submit := func(n int) sdk.Msg {
		return &vault.MsgSubmit{Relayer: from.String(), Statements: slicesOf(n)}
	}
	allowance := &feegrant.BasicAllowance{}
	grant, err := feegrant.NewMsgGrantAllowance(allowance, from, to)
	if err != nil {
		t.Fatal(err)
	}
	revoke := feegrant.NewMsgRevokeAllowance(from, to)
	for _, tt := range []struct {
		name  string
		taken bool
		msgs  []sdk.Msg
	}{
		{"statements", true, []sdk.Msg{submit(vault.MaxStatements)}},
		{"a transfer", true, []sdk.Msg{banktypes.NewMsgSend(from, to, coins)}},
		{"a fee grant", true, []sdk.Msg{grant}},
		{"its end", true, []sdk.Msg{&revoke}},
		{"no statement", false, []sdk.Msg{submit(0)}},
		{"too many statements", false, []sdk.Msg{submit(vault.MaxStatements + 1)}},
		{"too many in two messages", false, []sdk.Msg{submit(1), submit(1)}},
		{"statements and a transfer", false, []sdk.Msg{submit(1), banktypes.NewMsgSend(from, to, coins)}},
		{"a transfer and acts", false, []sdk.Msg{banktypes.NewMsgSend(from, to, coins), &vault.MsgAuthority{Authority: from.String(), Acts: slicesOf(1)}}},
		{"two transfers", true, []sdk.Msg{banktypes.NewMsgSend(from, to, coins), banktypes.NewMsgSend(from, to, coins)}},
		{"another message", false, []sdk.Msg{&banktypes.MsgMultiSend{
			Inputs:  []banktypes.Input{banktypes.NewInput(from, coins)},
			Outputs: []banktypes.Output{banktypes.NewOutput(to, coins)}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sequence := c.Relayer.Sequence
			tx := c.Relayer.Tx(t, c.App, tt.msgs...)
			r, err := c.App.CheckTx(&abci.RequestCheckTx{Tx: tx, Type: abci.CheckTxType_New})
			if err != nil {
				t.Fatal(err)
			}
			if taken := r.Code == 0; taken != tt.taken {
				t.Fatalf("taken %v, want %v: %s", taken, tt.taken, r.Log)
			}
			if !tt.taken {
				c.Relayer.Sequence = sequence
			}
		})
	}
}

func slicesOf(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = []byte{1}
	}
	return out
}

func TestAColdTreasuryPaysForStatementsOnly(t *testing.T) {
	c := chaintest.New(t)
	treasury, relayer := c.Treasury.Address(), c.Relayer.Address()
	expires := c.Time.Add(time.Hour)
	limited, err := feegrant.NewAllowedMsgAllowance(&feegrant.BasicAllowance{Expiration: &expires},
		[]string{sdk.MsgTypeURL(&vault.MsgSubmit{})})
	if err != nil {
		t.Fatal(err)
	}
	grant, err := feegrant.NewMsgGrantAllowance(limited, treasury, relayer)
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Block(c.Treasury.Tx(t, c.App, grant)).TxResults[0]; r.Code != 0 {
		t.Fatal(r.Log)
	}
	before := balances(t, c)
	c.Relayer.Fee, c.Relayer.Granter = 1000, treasury
	if got := c.Submit(enrol(t, c)); got[0].Code != 0 {
		t.Fatalf("refused: %s", got[0].Reason)
	}
	after := balances(t, c)
	if after[0] != before[0]-1000 || after[1] != before[1] {
		t.Fatalf("treasury %d to %d, relayer %d to %d; want 1000 from the treasury", before[0], after[0], before[1], after[1])
	}
	send := banktypes.NewMsgSend(relayer, treasury, sdk.NewCoins(sdk.NewInt64Coin(app.Denom, 1)))
	if r := c.Block(c.Relayer.Tx(t, c.App, send)).TxResults[0]; r.Code == 0 {
		t.Fatal("the treasury paid for a transfer")
	}
}

func balances(t *testing.T, c *chaintest.Chain) (out [2]int64) {
	t.Helper()
	for i, who := range []sdk.AccAddress{c.Treasury.Address(), c.Relayer.Address()} {
		req := &banktypes.QueryBalanceRequest{Address: who.String(), Denom: app.Denom}
		b, err := req.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.App.Query(t.Context(), &abci.RequestQuery{Path: "/cosmos.bank.v1beta1.Query/Balance", Data: b})
		if err != nil || r.Code != 0 {
			t.Fatal(err, r.Log)
		}
		var res banktypes.QueryBalanceResponse
		if err := res.Unmarshal(r.Value); err != nil {
			t.Fatal(err)
		}
		out[i] = res.Balance.Amount.Int64()
	}
	return out
}

// Two applications fed the same blocks agree on every hash.
func TestBlocksAreDeterministic(t *testing.T) {
	a, b := chaintest.New(t), chaintest.New(t)
	b.Time = a.Time
	for range 3 {
		tx := a.Relayer.Tx(t, a.App, &vault.MsgSubmit{Relayer: a.Relayer.Address().String(), Statements: [][]byte{enrol(t, a), []byte("noise")}})
		x, y := a.Block(tx), b.Block(tx)
		if !bytes.Equal(x.AppHash, y.AppHash) || !bytes.Equal(x.TxResults[0].Data, y.TxResults[0].Data) || x.TxResults[0].GasUsed != y.TxResults[0].GasUsed {
			t.Fatalf("app hash %x and %x, gas %d and %d", x.AppHash, y.AppHash, x.TxResults[0].GasUsed, y.TxResults[0].GasUsed)
		}
	}
}
