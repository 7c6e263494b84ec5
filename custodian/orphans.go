package custodian

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/rules"
)

// reapEvery is how often the store is searched for orphans and for what was left of
// destroyed epochs.
const reapEvery = time.Hour

// reapPause is between one user's objects and the next one's: a search of many users takes
// a quarter of its hour and little of the machine.
func reapPause(users int) time.Duration {
	return min(time.Second, reapEvery/4/time.Duration(max(1, users)))
}

// orphans are objects in live epochs that no pointer names: of a write whose statement
// was never accepted, or of a job that ended in the middle. They go once nothing that was
// signed for them can be accepted any more.
type orphans struct {
	mu      sync.Mutex
	seen    map[string]time.Time // not named since
	adopted map[string]time.Time // a repeated write has taken it up
	doomed  map[string]bool      // is being deleted
}

// adopt keeps an object for a write that is repeated with its blob id; false says that it
// is being deleted.
func (o *orphans) adopt(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.doomed[key] {
		return false
	}
	if o.adopted == nil {
		o.adopted = map[string]time.Time{}
	}
	o.adopted[key] = time.Now()
	return true
}

// sweep takes what is not named now and gives what has not been for that long. What it
// gives cannot be adopted any more.
func (o *orphans) sweep(unnamed map[string]agentkeys.Wallet, age time.Duration) map[string]agentkeys.Wallet {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, at := range o.adopted {
		if time.Since(at) >= age {
			delete(o.adopted, key)
		}
	}
	seen, old := map[string]time.Time{}, map[string]agentkeys.Wallet{}
	o.doomed = map[string]bool{}
	for key, user := range unnamed {
		first, ok := o.seen[key]
		if !ok {
			first = time.Now()
		}
		seen[key] = first
		if _, kept := o.adopted[key]; !kept && time.Since(first) >= age {
			old[key], o.doomed[key] = user, true
		}
	}
	o.seen = seen
	return old
}

// reap deletes what has been an orphan for long enough.
func (e *eraser) reap(ctx context.Context) error {
	params, err := e.s.Params(ctx)
	if err != nil {
		return err
	}
	// A job may put an object, and sign for it until the job is over; what was signed is
	// accepted until its validity ends.
	age := jobLife + time.Duration(params.MaxValidity+2*params.MaxHeadAge)*time.Second
	users, err := e.k.lister.Keys(ctx, rules.UsersPrefix())
	if err != nil {
		return err
	}
	unnamed := map[string]agentkeys.Wallet{}
	for _, key := range users {
		if user, ok := rules.Owner(key); ok {
			if err := errors.Join(e.unnamed(ctx, user, unnamed), sleep(ctx, reapPause(len(users)))); err != nil {
				return err
			}
		}
	}
	for key, user := range e.s.orphans.sweep(unnamed, age) {
		if err := e.delete(ctx, user, []string{key}); err != nil {
			return err
		}
		e.s.log.Warn("an object that nothing names was deleted", "key", key)
	}
	return nil
}

// unnamed adds the objects in a user's live epochs that no proven pointer names. The
// node's list of pointers counts only where the proven counts agree: one that it left out
// must not cost an object.
func (e *eraser) unnamed(ctx context.Context, user agentkeys.Wallet, out map[string]agentkeys.Wallet) error {
	var keys []string
	for obj, err := range e.emptier.List(ctx, user, blobstore.UserPrefix(user)) {
		if err != nil {
			return err
		}
		keys = append(keys, obj.Key)
	}
	u, ok, err := e.s.User(ctx, user)
	if err != nil || !ok || uint64(len(keys)) <= uint64(u.Active.LiveCount)+uint64(u.Draining.LiveCount) {
		return err
	}
	named, err := e.named(ctx, user)
	if err != nil {
		return err
	}
	counts := map[agentkeys.Epoch]uint32{}
	for _, epoch := range named {
		counts[epoch]++
	}
	now, ok, err := e.s.User(ctx, user)
	if err != nil || !ok || now != u || counts[u.Active.Epoch] != u.Active.LiveCount ||
		u.Draining.Epoch != 0 && counts[u.Draining.Epoch] != u.Draining.LiveCount {
		return err // it is changing, or the list is not whole: the next search will see
	}
	for _, key := range keys {
		n, err := blobstore.ParseKey(key)
		live := err == nil && (n.Epoch == u.Active.Epoch || n.Epoch == u.Draining.Epoch)
		if _, is := named[key]; live && !is {
			out[key] = user
		}
	}
	return nil
}

// named are the keys of the objects that a user's proven pointers name.
func (e *eraser) named(ctx context.Context, user agentkeys.Wallet) (map[string]agentkeys.Epoch, error) {
	rows, err := e.k.lister.Keys(ctx, rules.PointerPrefix(user))
	if err != nil {
		return nil, err
	}
	out := map[string]agentkeys.Epoch{}
	for _, key := range ownKeys(user, rows) {
		slot, is := rules.ParsePointerKey(key)
		p, ok, _, err := one(ctx, e.s.cfg.Chain, key, rules.ParsePointer)
		if err != nil {
			return nil, err
		}
		if is && ok {
			out[blobstore.Key(user, p.Epoch, slot.Service, p.Blob)] = p.Epoch
		}
	}
	return out, nil
}
