package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	cometjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	comettypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"

	"cosmossdk.io/log/v2"

	"github.com/cosmos/cosmos-sdk/baseapp"

	"example.org/agentkeys/chain/app"
	"example.org/agentkeys/chain/x/vault"
)

// Init makes dir the home of a new chain with one validator, which pauses for
// timeoutCommit between blocks unless its start says otherwise. It refuses a home
// that holds a chain; after a crash it can simply be repeated.
func Init(dir string, timeoutCommit time.Duration, g app.Genesis) error {
	return initHome(dir, timeoutCommit, g.Doc)
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
