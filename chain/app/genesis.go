package app

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	comettypes "github.com/cometbft/cometbft/types"

	sdkmath "cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"example.org/agentkeys"
	"example.org/agentkeys/chain/x/vault"
	"example.org/agentkeys/statement"
)

// MaxBytes is the most bytes of a block and of a transaction.
const MaxBytes = 4 << 20

// MaxGas is the gas of one block. A transaction of MaxBytes uses less than half;
// the rest is room for limits that were set generously.
const MaxGas = 200_000_000

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

func consensusParams() *comettypes.ConsensusParams {
	p := comettypes.DefaultConsensusParams()
	p.Block.MaxBytes = MaxBytes
	p.Block.MaxGas = MaxGas
	return p
}

// Doc is the genesis of the chain, with one validator. The authority has an account
// even without coins, because one that does not exist cannot sign.
func (g Genesis) Doc(a *App, v vault.Validator) (*comettypes.GenesisDoc, error) {
	accounts, balances, err := g.accounts()
	if err != nil {
		return nil, err
	}
	rows, err := vault.NewGenesis(g.Vault, g.Authority.String(), g.Params, []vault.Validator{v})
	if err != nil {
		return nil, err
	}
	state := a.Basics.DefaultGenesis(a.Codec)
	state[authtypes.ModuleName] = a.Codec.MustMarshalJSON(authtypes.NewGenesisState(authtypes.DefaultParams(), accounts))
	state[banktypes.ModuleName] = a.Codec.MustMarshalJSON(banktypes.NewGenesisState(banktypes.DefaultParams(), balances, nil, nil, nil))
	state[vault.ModuleName] = a.Codec.MustMarshalJSON(rows)
	doc := &comettypes.GenesisDoc{ChainID: g.ChainID, GenesisTime: time.Now().UTC(), ConsensusParams: consensusParams()}
	doc.AppState, err = json.Marshal(state)
	return doc, err
}

// accounts gives every account of genesis once.
func (g Genesis) accounts() (accounts []authtypes.GenesisAccount, balances []banktypes.Balance, err error) {
	seen := map[string]bool{}
	for _, f := range slices.Concat(g.Funds, []Fund{{Address: g.Authority}}) {
		if name := f.Address.String(); seen[name] {
			if f.Amount > 0 {
				return nil, nil, fmt.Errorf("init: %s is funded twice", name)
			}
			continue
		}
		seen[f.Address.String()] = true
		accounts = append(accounts, authtypes.NewBaseAccount(f.Address, nil, uint64(len(accounts)), 0))
		if f.Amount > 0 {
			coins := sdk.NewCoins(sdk.NewCoin(Denom, sdkmath.NewIntFromUint64(f.Amount)))
			balances = append(balances, banktypes.Balance{Address: f.Address.String(), Coins: coins})
		}
	}
	return accounts, balances, nil
}
