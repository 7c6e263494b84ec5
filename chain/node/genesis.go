package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	cometjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	comettypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"

	"cosmossdk.io/log/v2"
	sdkmath "cosmossdk.io/math"

	"github.com/cosmos/cosmos-sdk/baseapp"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"example.org/agentkeys"
	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/statement"
)

// MaxGas is the gas of one block, enough for one transaction of 4 MiB.
const MaxGas = 100_000_000

// Fund gives an account coins at genesis.
type Fund struct {
	Address sdk.AccAddress
	Amount  uint64 // uagent
}

// Genesis says how a new chain begins.
type Genesis struct {
	ChainID   string
	Vault     agentkeys.VaultID
	Authority sdk.AccAddress
	Funds     []Fund
	Params    statement.Params
}

// Init makes dir the home of a new chain with one validator, which pauses for
// timeoutCommit between blocks unless its start says otherwise. It refuses a home
// that holds a chain; after a crash it can simply be repeated.
func Init(dir string, timeoutCommit time.Duration, g Genesis) error {
	return initHome(dir, timeoutCommit, func(a *app.App, v vault.Validator) (*comettypes.GenesisDoc, error) {
		doc := &comettypes.GenesisDoc{ChainID: g.ChainID, GenesisTime: time.Now().UTC(), ConsensusParams: consensusParams()}
		state, err := g.state(a, v)
		if err != nil {
			return nil, err
		}
		doc.AppState, err = json.Marshal(state)
		return doc, err
	})
}

// Import makes dir the home of a chain that goes on from an exported genesis, with
// this home's validator in place of the exported ones. A chain id other than ""
// replaces the exported one.
func Import(dir string, timeoutCommit time.Duration, chainID string, exported []byte) error {
	return initHome(dir, timeoutCommit, func(a *app.App, v vault.Validator) (*comettypes.GenesisDoc, error) {
		doc, err := comettypes.GenesisDocFromJSON(exported)
		if err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
		if chainID != "" {
			doc.ChainID = chainID
		}
		doc.Validators = nil
		return doc, replaceValidators(a, doc, v)
	})
}

func replaceValidators(a *app.App, doc *comettypes.GenesisDoc, v vault.Validator) error {
	var state map[string]json.RawMessage
	if err := json.Unmarshal(doc.AppState, &state); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	var g vault.GenesisState
	if err := a.Codec.UnmarshalJSON(state[vault.ModuleName], &g); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	g.Validators = []vault.Validator{v}
	var err error
	if state[vault.ModuleName], err = a.Codec.MarshalJSON(&g); err != nil {
		return err
	}
	doc.AppState, err = json.Marshal(state)
	return err
}

type makeGenesis func(*app.App, vault.Validator) (*comettypes.GenesisDoc, error)

func initHome(dir string, timeoutCommit time.Duration, build makeGenesis) (err error) {
	h, err := openHome(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if ok, err := h.hasChain(); err != nil || ok {
		return errors.Join(fmt.Errorf("init: %s holds a chain already; start it or choose another --home", dir), err)
	}
	v, err := makeKeys(dir)
	if err != nil {
		return err
	}
	a, err := app.New(log.NewNopLogger(), dbm.NewMemDB())
	if err != nil {
		return err
	}
	doc, err := build(a, v)
	if err != nil {
		return err
	}
	if err := check(doc); err != nil {
		return err
	}
	b, err := cometjson.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	if err := setPace(dir, timeoutCommit); err != nil {
		return err
	}
	return h.writeGenesis(append(b, '\n'))
}

// check starts a chain from doc in memory, so that a genesis that is written is
// one that starts.
func check(doc *comettypes.GenesisDoc) error {
	if err := doc.ValidateAndComplete(); err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	a, err := app.New(log.NewNopLogger(), dbm.NewMemDB(), baseapp.SetChainID(doc.ChainID))
	if err != nil {
		return err
	}
	_, err = a.InitChain(app.InitRequest(doc))
	return err
}

// makeKeys makes the validator's and the node's key, or keeps those that are there.
func makeKeys(dir string) (vault.Validator, error) {
	c := Config{Home: dir}.comet("127.0.0.1:0")
	if _, err := p2p.LoadOrGenNodeKey(c.NodeKeyFile()); err != nil {
		return vault.Validator{}, err
	}
	signer := privval.LoadOrGenFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	return vault.Validator{Key: signer.Key.PubKey.Bytes(), Power: 10}, nil
}

func consensusParams() *comettypes.ConsensusParams {
	p := comettypes.DefaultConsensusParams()
	p.Block.MaxBytes = maxTxBytes
	p.Block.MaxGas = MaxGas
	return p
}

// state is the application's genesis. The authority has an account even without
// coins, because an account that does not exist cannot sign.
func (g Genesis) state(a *app.App, v vault.Validator) (map[string]json.RawMessage, error) {
	state := a.Basics.DefaultGenesis(a.Codec)
	var accounts []authtypes.GenesisAccount
	var balances []banktypes.Balance
	seen := map[string]bool{}
	for _, f := range slices.Concat(g.Funds, []Fund{{Address: g.Authority}}) {
		if name := f.Address.String(); seen[name] {
			if f.Amount > 0 {
				return nil, fmt.Errorf("init: %s is funded twice", name)
			}
			continue
		}
		seen[f.Address.String()] = true
		accounts = append(accounts, authtypes.NewBaseAccount(f.Address, nil, uint64(len(accounts)), 0))
		if f.Amount > 0 {
			coins := sdk.NewCoins(sdk.NewCoin(app.Denom, sdkmath.NewIntFromUint64(f.Amount)))
			balances = append(balances, banktypes.Balance{Address: f.Address.String(), Coins: coins})
		}
	}
	rows, err := vault.NewGenesis(g.Vault, g.Authority.String(), g.Params, []vault.Validator{v})
	if err != nil {
		return nil, err
	}
	state[authtypes.ModuleName] = a.Codec.MustMarshalJSON(authtypes.NewGenesisState(authtypes.DefaultParams(), accounts))
	state[banktypes.ModuleName] = a.Codec.MustMarshalJSON(banktypes.NewGenesisState(banktypes.DefaultParams(), balances, nil, nil, nil))
	state[vault.ModuleName] = a.Codec.MustMarshalJSON(rows)
	return state, nil
}
