package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/proto/tendermint/crypto"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// settingsKey holds a GenesisState with authority and validators only: what no
// statement changes. It lies above every key of package rules.
const settingsKey = "\xff"

// Validate checks everything that does not need a running chain: the rows keep
// the invariants of package rules, and someone can sign.
func (g *GenesisState) Validate() error {
	if len(g.VaultId) != len(agentkeys.VaultID{}) {
		return errors.New("vault genesis: the vault id is not 32 bytes")
	}
	if _, err := sdk.AccAddressFromBech32(g.Authority); err != nil {
		return fmt.Errorf("vault genesis: authority: %w", err)
	}
	if len(g.Validators) == 0 {
		return errors.New("vault genesis: no validator")
	}
	for _, v := range g.Validators {
		if len(v.Key) != 32 || v.Power <= 0 {
			return errors.New("vault genesis: a validator is an Ed25519 key of 32 bytes with a power above 0")
		}
	}
	return g.validateRows()
}

func (g *GenesisState) validateRows() error {
	rows := make([]rules.Row, len(g.Rows))
	for i, r := range g.Rows {
		rows[i] = rules.Row{Key: r.Key, Value: r.Value}
		if bytes.Equal(r.Key, rules.VaultKey()) && !bytes.Equal(r.Value, g.VaultId) {
			return errors.New("vault genesis: the rows belong to another vault id")
		}
	}
	if err := rules.CheckRows(rows); err != nil {
		return fmt.Errorf("vault genesis: %w", err)
	}
	return nil
}

// NewGenesis is the state of a vault that nobody has used yet.
func NewGenesis(id agentkeys.VaultID, authority string, p statement.Params, validators []Validator) (*GenesisState, error) {
	kv := rowMap{}
	if err := rules.InitGenesis(kv, id, p); err != nil {
		return nil, err
	}
	g := &GenesisState{VaultId: id[:], Authority: authority, Rows: kv.rows(), Validators: validators}
	return g, g.Validate()
}

func (k Keeper) initGenesis(ctx context.Context, g *GenesisState) ([]abci.ValidatorUpdate, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	kv := k.rows.OpenKVStore(ctx)
	settings, err := (&GenesisState{Authority: g.Authority, Validators: g.Validators}).Marshal()
	if err != nil {
		return nil, err
	}
	if err := kv.Set([]byte(settingsKey), settings); err != nil {
		return nil, err
	}
	for _, r := range g.Rows {
		if err := kv.Set(r.Key, r.Value); err != nil {
			return nil, err
		}
	}
	updates := make([]abci.ValidatorUpdate, len(g.Validators))
	for i, v := range g.Validators {
		updates[i] = abci.ValidatorUpdate{
			PubKey: crypto.PublicKey{Sum: &crypto.PublicKey_Ed25519{Ed25519: v.Key}},
			Power:  v.Power,
		}
	}
	return updates, nil
}

func (k Keeper) exportGenesis(ctx context.Context) (*GenesisState, error) {
	g, err := k.settings(ctx)
	if err != nil {
		return nil, err
	}
	kv := k.rows.OpenKVStore(ctx)
	if g.VaultId, err = kv.Get(rules.VaultKey()); err != nil {
		return nil, err
	}
	it, err := kv.Iterator(nil, []byte(settingsKey))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		g.Rows = append(g.Rows, Row{Key: it.Key(), Value: it.Value()})
	}
	return g, nil
}

// settings names the authority and the validators of genesis.
func (k Keeper) settings(ctx context.Context) (*GenesisState, error) {
	b, err := k.rows.OpenKVStore(ctx).Get([]byte(settingsKey))
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, errors.New("vault: the chain has no genesis yet; wait for its first block")
	}
	g := new(GenesisState)
	return g, g.Unmarshal(b)
}
