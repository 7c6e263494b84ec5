package vault

import (
	"context"

	"cosmossdk.io/core/store"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"example.org/agentkeys/rules"
)

// Keeper applies statements to the rows of the vault store. It holds no state of
// its own: rows are in the store, and what a block gathers is in the transient
// store, because a simulation runs the same handlers.
type Keeper struct {
	rows   store.KVStoreService
	gather gatherer
}

// NewKeeper works on the stores named [StoreKey] and [TransientKey].
func NewKeeper(rows store.KVStoreService, transient store.TransientStoreService) Keeper {
	return Keeper{rows: rows, gather: gatherer{store: transient}}
}

// rule is rules.Apply or rules.ApplyAuthority.
type rule func(kv rules.KV, b rules.Block, wire []byte) (rules.Result, error)

// each applies wires one by one. A refusal is a result, not an error; an error
// fails the transaction.
func (k Keeper) each(ctx sdk.Context, wires [][]byte, apply rule) ([]Result, error) {
	if err := checkCount(len(wires)); err != nil {
		return nil, err
	}
	results := make([]Result, len(wires))
	for i, wire := range wires {
		ctx.GasMeter().ConsumeGas(Gas(wire), "vault statement")
		r, err := k.one(ctx.WithKVGasConfig(free()).WithTransientKVGasConfig(free()), wire, apply)
		if err != nil {
			return nil, err
		}
		results[i] = Result{Code: uint32(r.Code), Reason: r.Reason, Skipped: packIndices(r.Skipped)}
	}
	return results, nil
}

// one applies wire in a cache of its own, which is written only if the statement
// is accepted.
func (k Keeper) one(ctx sdk.Context, wire []byte, apply rule) (rules.Result, error) {
	cached, write := ctx.CacheContext()
	position, err := k.gather.position(cached)
	if err != nil {
		return rules.Result{}, err
	}
	block := rules.Block{
		Height:   uint64(ctx.BlockHeight()),
		Time:     uint64(ctx.BlockTime().Unix()),
		Position: position,
	}
	r, err := apply(k.rows.OpenKVStore(cached), block, wire)
	if err != nil || r.Code != rules.OK {
		return r, err
	}
	if err := k.gather.note(cached, position, r); err != nil {
		return r, err
	}
	for _, e := range r.Events {
		typed, err := typedEvent(e)
		if err != nil {
			return r, err
		}
		if err := cached.EventManager().EmitTypedEvent(typed); err != nil {
			return r, err
		}
	}
	write()
	return r, nil
}

// EndBlock writes the Touched row if the block accepted a statement. Any other
// block leaves the app hash alone, so an idle chain makes no blocks.
func (k Keeper) EndBlock(c context.Context) error {
	ctx := sdk.UnwrapSDKContext(c)
	accepted, err := k.gather.position(ctx)
	if err != nil || accepted == 0 {
		return err
	}
	users, scope, err := k.gather.touched(ctx)
	if err != nil {
		return err
	}
	return rules.Touch(k.rows.OpenKVStore(ctx), uint64(ctx.BlockHeight()), users, scope)
}

func packIndices(skipped []uint16) []byte {
	var b []byte
	for _, n := range skipped {
		b = append(b, byte(n>>8), byte(n))
	}
	return b
}
