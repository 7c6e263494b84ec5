package custodian

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/seed"
)

// newShare makes the shares of epochs that are to open or to be wrapped anew, in every
// live anchor. A repeat gives those that are there.
func (k *Keeper) newShare(ctx context.Context, ids ...erasure.ShareID) error {
	if _, err := k.inUse(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		var err error
		agentkeys.Scrubbed(func() { err = k.put(ctx, id) })
		if errors.Is(err, erasure.ErrTwoShares) {
			if err = k.startOver(ctx, id, err); err == nil {
				agentkeys.Scrubbed(func() { err = k.put(ctx, id) })
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startOver erases a share of which two trees have different ones. Neither was given out by
// this process, which would know it. A statement that a former process signed with one
// of them must have ended, and no row may name it: then nothing is under either.
func (k *Keeper) startOver(ctx context.Context, id erasure.ShareID, why error) error {
	// Twice, for clocks that differ.
	if wait := 2*statementLife*time.Second - time.Since(k.since); wait > 0 {
		return fmt.Errorf("%w: both are given up in %v, when nothing that was signed before this start is valid", why, wait.Round(time.Second))
	}
	u, _, _, err := one(ctx, k.chain, rules.UserKey(id.User), rules.ParseUser)
	if err != nil {
		return err
	}
	if names(u, id) {
		return fmt.Errorf("%w, and a row names it", why)
	}
	if _, err := k.leases(ctx); err != nil {
		return err
	}
	k.log.Warn("two trees had different shares for an id that nothing is under; it is made anew", "share", id.String())
	k.set.Erase(id)
	return k.set.Commit(ctx)
}

func (k *Keeper) put(ctx context.Context, id erasure.ShareID) error {
	fresh := freshShare()
	defer clear(fresh[:])
	stored, err := k.set.Put(ctx, id, fresh)
	clear(stored[:])
	return err
}

func freshShare() erasure.Share { return erasure.Share(seed.New().Reveal()) }

// newShares makes many shares with one commit of each tree.
func (k *Keeper) newShares(ctx context.Context, ids []erasure.ShareID) error {
	if _, err := k.leases(ctx); err != nil {
		return err
	}
	var err error
	agentkeys.Scrubbed(func() { err = k.set.AddShares(ids, freshShare) })
	if err != nil {
		return err
	}
	return k.set.Commit(ctx)
}
