// Package chaintest runs the real application in memory for tests: blocks on
// demand, accounts that sign, rows read back. Start with [New].
package chaintest

import (
	"crypto/sha256"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	comettypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/gogoproto/proto"

	"cosmossdk.io/log/v2"

	"github.com/cosmos/cosmos-sdk/baseapp"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"example.org/agentkeys"
	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/statement"
)

// ChainID names the chain in memory.
const ChainID = "agentkeys-test"

// Chain is an application without CometBFT. Accounts are funded at genesis.
type Chain struct {
	App                          *app.App
	Vault                        agentkeys.VaultID
	Authority, Relayer, Treasury *Account
	Height                       int64
	Time                         time.Time

	t testing.TB
}

// New starts a chain at height 0.
func New(t testing.TB) *Chain {
	t.Helper()
	a := open(t)
	c := &Chain{t: t, App: a, Vault: sha256.Sum256([]byte(t.Name()))}
	c.Authority, c.Relayer, c.Treasury = NewAccount("authority", 2), NewAccount("relayer", 0), NewAccount("treasury", 1)
	g := app.Genesis{
		ChainID:   ChainID,
		Vault:     c.Vault,
		Authority: c.Authority.Address(),
		Funds:     []app.Fund{{Address: c.Relayer.Address(), Amount: 1e12}, {Address: c.Treasury.Address(), Amount: 1e12}},
		Params:    statement.DefaultParams(),
	}
	doc, err := g.Doc(a, Validator())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.start(doc); err != nil {
		t.Fatal(err)
	}
	return c
}

// Start runs an application from doc and returns what InitChain says.
func Start(t testing.TB, doc *comettypes.GenesisDoc) (*Chain, error) {
	t.Helper()
	c := &Chain{t: t, App: open(t)}
	return c, c.start(doc)
}

func open(t testing.TB) *app.App {
	t.Helper()
	a, err := app.New(log.NewNopLogger(), dbm.NewMemDB(), baseapp.SetChainID(ChainID))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func (c *Chain) start(doc *comettypes.GenesisDoc) error {
	if err := doc.ValidateAndComplete(); err != nil {
		return err
	}
	c.Height, c.Time = doc.InitialHeight-1, doc.GenesisTime
	_, err := c.App.InitChain(app.InitRequest(doc))
	return err
}

// Validator is the only one, with a key that nobody holds.
func Validator() vault.Validator {
	key := sha256.Sum256([]byte("validator"))
	return vault.Validator{Key: key[:], Power: 10}
}

// Block makes one block, one second after the last, and commits it.
func (c *Chain) Block(txs ...[]byte) *abci.ResponseFinalizeBlock {
	c.t.Helper()
	c.Height++
	c.Time = c.Time.Add(time.Second)
	res, err := c.App.FinalizeBlock(&abci.RequestFinalizeBlock{Height: c.Height, Time: c.Time, Txs: txs})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.App.Commit(); err != nil {
		c.t.Fatal(err)
	}
	return res
}

// Submit puts the statements into a block of their own and returns what became of
// each.
func (c *Chain) Submit(statements ...[]byte) []vault.Result {
	c.t.Helper()
	tx := c.Relayer.Tx(c.t, c.App, &vault.MsgSubmit{Relayer: c.Relayer.Address().String(), Statements: statements})
	return Results(c.t, c.Block(tx).TxResults[0])
}

// Results reads the response of a transaction with one vault message.
func Results(t testing.TB, r *abci.ExecTxResult) []vault.Result {
	t.Helper()
	if r.Code != 0 {
		t.Fatalf("transaction failed with code %d: %s", r.Code, r.Log)
	}
	var data sdk.TxMsgData
	if err := proto.Unmarshal(r.Data, &data); err != nil {
		t.Fatal(err)
	}
	var out vault.MsgSubmitResponse // the authority's response has the same fields
	if err := proto.Unmarshal(data.MsgResponses[0].Value, &out); err != nil {
		t.Fatal(err)
	}
	return out.Results
}

// Genesis exports the vault's state.
func (c *Chain) Genesis() vault.GenesisState {
	c.t.Helper()
	state, err := c.App.Modules.ExportGenesis(c.App.NewContext(true), c.App.Codec)
	if err != nil {
		c.t.Fatal(err)
	}
	var g vault.GenesisState
	if err := c.App.Codec.UnmarshalJSON(state[vault.ModuleName], &g); err != nil {
		c.t.Fatal(err)
	}
	return g
}

// Query asks the application the way clients do, by ABCI.
func (c *Chain) Query(method string, req, res proto.Message) error {
	c.t.Helper()
	b, err := proto.Marshal(req)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := c.App.Query(c.t.Context(), &abci.RequestQuery{Path: "/agentkeys.vault.v1.Query/" + method, Data: b})
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return queryError(r.Log)
	}
	return proto.Unmarshal(r.Value, res)
}

type queryError string

func (e queryError) Error() string { return string(e) }
