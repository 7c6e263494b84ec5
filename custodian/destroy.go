package custodian

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// Emptier lists a user's objects and removes everything under <user>/<epoch>/.
type Emptier interface {
	List(ctx context.Context, user agentkeys.Wallet, prefix string) iter.Seq2[blobstore.Object, error]
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
	// outdated are shares that a re-wrap has replaced, and since when.
	outdated map[erasure.ShareID]time.Time
	kick     chan struct{}
	failure  failure
	stale    failure // of erasing what is outdated
}

// failure is why the last erasure did not come to its end, and when it is tried again. An
// anchor may be dead for hours, or take a root in a quarter of an hour only.
type failure struct {
	why   error // nil after one that did
	times int
	again time.Time
}

// longestPause is between two tries of a destruction that fails.
const longestPause = 10 * time.Second

func (f failure) next(err error) failure {
	if err == nil {
		return failure{}
	}
	return failure{err, f.times + 1, time.Now().Add(min(longestPause, time.Second<<min(f.times, 10)))}
}

// tell logs why something is not erased yet. An anchor that puts a commit off is no
// alarm: that is said once.
func (f failure) tell(log *slog.Logger, what string, epochs int) {
	var soon erasure.TooSoon
	switch {
	case f.why == nil:
	case !errors.As(f.why, &soon):
		log.Error(what+", will try again", "epochs", epochs, "error", f.why.Error())
	case f.times == 1:
		log.Warn(what+", an anchor puts it off", "epochs", epochs, "why", f.why.Error())
	}
}

// discarded is an object that no verified row names any more.
type discarded struct {
	user agentkeys.Wallet
	key  string
	at   time.Time
}

func newEraser(s *Server, k *Keeper, e Emptier) *eraser {
	return &eraser{s: s, k: k, emptier: e, drained: map[erasure.ShareID]time.Time{}, ready: map[erasure.ShareID]bool{}, outdated: map[erasure.ShareID]time.Time{},
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
	if e.failure.why != nil {
		return api.Job{Kind: api.JobWait, WaitMS: int(max(time.Second, time.Until(e.failure.again)).Milliseconds()),
			Detail: "share is not erased yet, will try again: " + e.failure.why.Error()}
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
	// Beside the rest: however much lies in the store, it delays no erasure.
	var search sync.WaitGroup
	defer search.Wait()
	search.Go(func() {
		for ctx.Err() == nil {
			if err := errors.Join(e.findOutdated(ctx), e.leftovers(ctx), e.reap(ctx)); err != nil && ctx.Err() == nil {
				e.s.log.Warn("what crashes may have left was not searched to the end, will try again", "error", err.Error())
			}
			_ = sleep(ctx, reapEvery)
		}
	})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.kick:
		case <-time.After(time.Second):
		}
		e.sweepTrash(ctx)
		if !time.Now().Before(e.stale.again) {
			n, err := e.eraseOutdated(ctx)
			if e.stale = e.stale.next(err); ctx.Err() == nil {
				e.stale.tell(e.s.log, "shares under an older shielding key are not erased", n)
			}
		}
		ids := e.take()
		if len(ids) == 0 {
			continue
		}
		next := e.failure.next(e.destroy(ctx, ids))
		if ctx.Err() == nil {
			next.tell(e.s.log, "epochs are drained but not destroyed", len(ids))
		}
		e.mu.Lock()
		e.failure = next
		e.mu.Unlock()
	}
}

// take gives the epochs that are to be destroyed now.
func (e *eraser) take() (ids []erasure.ShareID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Now().Before(e.failure.again) {
		return nil
	}
	for id := range e.ready {
		ids = append(ids, id)
	}
	return ids
}

// destroy is the flow "Destroy" of docs/spec/rotation.md for a batch of epochs. A
// repeat does what is left to do: no commit for what is erased, no statement that a
// row shows.
func (e *eraser) destroy(ctx context.Context, ids []erasure.ShareID) error {
	// Leases first: an anchor held by nobody cannot commit.
	e.s.step("destroy.lease")
	if _, err := e.k.leases(ctx); err != nil {
		return err
	}
	// The share goes in every live anchor.
	e.s.step("destroy.erase")
	for _, id := range ids {
		if !allErased(e.k.set.Erased(id.User, id.Epoch)) {
			e.k.set.Erase(everyVersion(id, e.k.version())...)
		}
	}
	e.s.step("destroy.commit")
	if err := e.k.set.Commit(ctx); err != nil {
		return err
	}
	// Keys of these epochs that flows have left in freed memory go before anybody is told.
	runtime.GC()
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

// everyVersion: a re-wrap may have left a share of the epoch beneath an older key.
func everyVersion(id erasure.ShareID, newest uint32) (ids []erasure.ShareID) {
	for id.WrapVersion = 1; id.WrapVersion <= newest; id.WrapVersion++ {
		ids = append(ids, id)
	}
	return ids
}

func allErased(anchors map[erasure.AnchorID]bool) bool {
	for _, erased := range anchors {
		if !erased {
			return false
		}
	}
	return true
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
	destroyed, err := anchorChain{e.k}.Destroyed(ctx, id.User, id.Epoch)
	if err != nil {
		return err
	}
	if !destroyed {
		return fmt.Errorf("epoch %d of %s: a live anchor that is not kept here has not erased it; if it is dead, evict it", id.Epoch, id.User)
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
	shown := has(rules.ParseUser, func(u rules.User) bool { return u.Draining.Epoch != id.Epoch || u.Draining.Erased&bit != 0 })
	values, _, err := e.s.cfg.Chain.Rows(ctx, rules.UserKey(id.User))
	if err != nil || shown(values[0]) {
		return err
	}
	return e.k.submit(ctx, s, rules.UserKey(id.User), shown)
}

// leftovers empties, at each search, the prefixes of destroyed epochs that a crash
// between the statement and the deletion has left.
func (e *eraser) leftovers(ctx context.Context) error {
	users, err := e.k.lister.Keys(ctx, rules.UsersPrefix())
	if err != nil {
		return err
	}
	for _, key := range users {
		user, ok := rules.Owner(key)
		if !ok {
			continue
		}
		u, ok, err := e.s.User(ctx, user)
		if err != nil {
			return err
		}
		if !ok || u.Active.Epoch < 2 {
			continue
		}
		if err := errors.Join(e.emptyDestroyed(ctx, user, u), sleep(ctx, reapPause(len(users)))); err != nil {
			return err
		}
	}
	return nil
}

// emptyDestroyed goes by what lies in the store: an epoch below the active one that
// is not draining is destroyed, and proven so by the row.
func (e *eraser) emptyDestroyed(ctx context.Context, user agentkeys.Wallet, u rules.User) error {
	dead := map[agentkeys.Epoch]bool{}
	for obj, err := range e.emptier.List(ctx, user, blobstore.UserPrefix(user)) {
		if err != nil {
			return err
		}
		n, err := blobstore.ParseKey(obj.Key)
		if err == nil && n.Epoch < u.Active.Epoch && n.Epoch != u.Draining.Epoch {
			dead[n.Epoch] = true
		}
	}
	for epoch := range dead {
		if _, err := e.emptier.EmptyPrefix(ctx, user, epoch); err != nil {
			return err
		}
	}
	return nil
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
		if err := e.delete(ctx, user, keys); err != nil {
			e.s.log.Warn("old objects are not deleted yet; they go with their epoch", "user", user.String(), "count", len(keys), "error", err.Error())
		}
	}
}

func (e *eraser) delete(ctx context.Context, user agentkeys.Wallet, keys []string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return e.s.cfg.Store.Delete(ctx, user, keys...)
}
