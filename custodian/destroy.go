package custodian

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// Emptier removes everything under <user>/<epoch>/.
type Emptier interface {
	EmptyPrefix(ctx context.Context, user agentkeys.Wallet, epoch agentkeys.Epoch) (blobstore.Emptied, error)
}

// eraser ends drained epochs: it waits out the grace, erases the shares of all that
// are ready in one commit, tells the chain, and empties their prefixes. It keeps
// nothing durable: a crash restarts the grace, and what a row does not show is done
// again.
type eraser struct {
	s       *Server
	k       *Keeper
	emptier Emptier

	mu      sync.Mutex
	drained map[erasure.ShareID]time.Time // first seen empty, monotonic
	ready   map[erasure.ShareID]bool      // grace is over
	trash   []discarded
	kick    chan struct{}
}

// discarded is an object that no verified row names any more.
type discarded struct {
	user agentkeys.Wallet
	key  string
	at   time.Time
}

func newEraser(s *Server, k *Keeper, e Emptier) *eraser {
	return &eraser{s: s, k: k, emptier: e, drained: map[erasure.ShareID]time.Time{}, ready: map[erasure.ShareID]bool{},
		kick: make(chan struct{}, 1)}
}

// job notes a drained epoch and says how long its grace still lasts.
func (e *eraser) job(user agentkeys.Wallet, drained rules.EpochRow, grace time.Duration) api.Job {
	id := shareOf(user, drained)
	e.mu.Lock()
	defer e.mu.Unlock()
	since, ok := e.drained[id]
	if !ok {
		since = time.Now()
		e.drained[id] = since
	}
	if left := grace - time.Since(since); left > 0 {
		return api.Job{Kind: api.JobWait, WaitMS: int(left.Milliseconds()) + 1, Detail: "grace before the share is erased"}
	}
	if !e.ready[id] {
		e.ready[id] = true
		select {
		case e.kick <- struct{}{}:
		default:
		}
	}
	return api.Job{Kind: api.JobWait, WaitMS: 50, Detail: "share is being erased"}
}

// discard deletes an object after the grace.
func (e *eraser) discard(user agentkeys.Wallet, key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trash = append(e.trash, discarded{user, key, time.Now()})
}

func (e *eraser) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.kick:
		case <-time.After(time.Second):
		}
		e.sweepTrash(ctx)
		ids := e.take()
		if len(ids) == 0 {
			continue
		}
		if err := e.destroy(ctx, ids); err != nil && ctx.Err() == nil {
			e.s.log.Error("epochs are drained but not destroyed, will try again", "epochs", len(ids), "error", err.Error())
			if sleep(ctx, time.Second) == nil {
				e.again(ids)
			}
		}
	}
}

func (e *eraser) take() (ids []erasure.ShareID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.ready {
		ids = append(ids, id)
	}
	return ids
}

func (e *eraser) again([]erasure.ShareID) {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// destroy is the design's flow "Destroy K" for a batch of epochs.
func (e *eraser) destroy(ctx context.Context, ids []erasure.ShareID) error {
	// Leases first: an anchor held by nobody cannot commit.
	e.s.step("destroy.lease")
	for _, id := range e.k.ids {
		if err := e.k.lease(ctx, id); err != nil {
			return fmt.Errorf("anchor %s: %w", id, err)
		}
	}
	// The share goes in every live anchor.
	e.s.step("destroy.erase")
	e.k.set.Erase(ids...)
	e.s.step("destroy.commit")
	if err := e.k.set.Commit(ctx); err != nil {
		return err
	}
	// Each anchor's keeper says so; the last one clears the place.
	e.s.step("destroy.statement")
	var errs []error
	for _, id := range ids {
		if err := e.finish(ctx, id); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// finish has one erased epoch proven destroyed and empties its prefix.
func (e *eraser) finish(ctx context.Context, id erasure.ShareID) error {
	for anchor, erased := range e.k.set.Erased(id.User, id.Epoch) {
		if !erased {
			return fmt.Errorf("anchor %s has not erased epoch %d of %s; if it is dead, evict it", anchor, id.Epoch, id.User)
		}
		row, err := anchorChain{e.k}.Anchor(ctx, anchor)
		if err != nil {
			return err
		}
		if err := e.tell(ctx, anchor, row, id); err != nil {
			return err
		}
	}
	e.s.step("destroy.empty")
	done, err := e.emptier.EmptyPrefix(ctx, id.User, id.Epoch)
	if err != nil {
		return fmt.Errorf("empty epoch %d of %s: %w", id.Epoch, id.User, err)
	}
	if len(done.Left) > 0 {
		e.s.log.Error("a destroyed epoch's prefix does not get empty", "user", id.User.String(), "epoch", uint32(id.Epoch), "left", len(done.Left))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ready, id)
	delete(e.drained, id)
	return nil
}

func (e *eraser) tell(ctx context.Context, anchor erasure.AnchorID, at erasure.Row, id erasure.ShareID) error {
	s := statement.DestroyEpoch{Anchor: statement.AnchorID(anchor), Term: at.Term, Generation: at.Generation, User: id.User,
		Epoch: id.Epoch, ValidUntil: e.s.statementValidUntil()}
	list, _, _, err := one(ctx, e.s.cfg.Chain, rules.AnchorsKey(), rules.ParseAnchors)
	if err != nil {
		return err
	}
	var bit uint8
	for i, a := range list {
		if a == s.Anchor {
			bit = 1 << i
		}
	}
	return e.k.submit(ctx, s, rules.UserKey(id.User), func(v []byte) bool {
		u, ok, err := row(v, rules.ParseUser)
		return err == nil && ok && (u.Draining.Epoch != id.Epoch || u.Draining.Erased&bit != 0)
	})
}

// sweepTrash deletes objects whose grace is over. What a crash forgets goes with
// its epoch's prefix.
func (e *eraser) sweepTrash(ctx context.Context) {
	params, err := e.s.Params(ctx)
	if err != nil {
		return
	}
	grace := time.Duration(2*params.MaxHeadAge) * time.Second
	byUser := map[agentkeys.Wallet][]string{}
	e.mu.Lock()
	kept := e.trash[:0]
	for _, d := range e.trash {
		if time.Since(d.at) < grace {
			kept = append(kept, d)
		} else {
			byUser[d.user] = append(byUser[d.user], d.key)
		}
	}
	e.trash = kept
	e.mu.Unlock()
	for user, keys := range byUser {
		if err := e.s.cfg.Store.Delete(ctx, user, keys...); err != nil {
			e.s.log.Warn("old objects are not deleted yet; they go with their epoch", "user", user.String(), "count", len(keys), "error", err.Error())
		}
	}
}
