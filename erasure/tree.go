package erasure

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"example.org/agentkeys"
)

// Config says what one tree works on. All fields but Step are required.
type Config struct {
	Vault   agentkeys.VaultID
	ID      AnchorID
	Objects Objects
	Anchor  Anchor
	Chain   Chain
	// Version is the wrap version of the next commit: the number of the shielding
	// key in use, at least what the tree has; see [Tree.SetVersion]. Shielding gives
	// the key of a version, older ones included until a commit has left them behind.
	Version   uint32
	Shielding func(version uint32) ([32]byte, error)
	// Live visits the share id of every active epoch and of every draining epoch
	// with credentials left, from complete verified rows.
	Live func(ctx context.Context, visit func(ShareID) error) error
	// Progress, if set, is told while Open loads shards: how many shares of how many. It
	// may be called concurrently.
	Progress func(loaded, total uint64)
	// Step, if set, is called before every step with its name; tests stop there.
	Step func(name string)
}

// Tree is the share tree of one anchor. Its methods may be called concurrently.
type Tree struct {
	cfg    Config
	place  place
	shares memory

	commit chan struct{} // has one place: one Commit at a time; guards old, lost, swept
	old    *generation
	lost   bool
	swept  bool

	// phase is held for reading while a Put writes, so that a commit begins and
	// ends between puts, never inside one.
	phase   sync.RWMutex
	now     *generation
	next    *generation
	erasing map[ShareID]struct{} // what next leaves out
	adding  map[byte][]entry     // by shard, what next has and memory has not yet
	opened  uint64               // newest generation an earlier process may have written

	mu     sync.Mutex // guards dirty of every generation, marked, wanted and doubt
	marked map[ShareID]struct{}
	wanted []entry            // for the next commit to add
	doubt  map[ShareID]uint64 // failed puts: the newest generation they may be in

	unreadable atomic.Int64
}

// Get gives a share from memory; it never waits for the store or a commit. The
// caller clears its copy.
func (t *Tree) Get(id ShareID) (Share, bool) { return t.shares.get(id) }

// IDs visits every share held, so that the custodian can find those that no row
// needs, for example of a re-wrap that a crash cut short.
func (t *Tree) IDs() iter.Seq[ShareID] { return t.shares.ids() }

// Unreadable counts records that the store listed at Open but did not give or
// gave with wrong bytes. Above 0 is worth an alarm; a live one stops Commit.
func (t *Tree) Unreadable() int { return int(t.unreadable.Load()) }

// Generation is the number of the tree that the chain names; 0 before the first
// Commit.
func (t *Tree) Generation() uint64 {
	t.phase.RLock()
	defer t.phase.RUnlock()
	return t.now.number
}

// Floor is the verified height at the last commit: verified state below it is a
// rollback.
func (t *Tree) Floor() uint64 {
	t.phase.RLock()
	defer t.phase.RUnlock()
	return t.now.index.height
}

// Put stores a share and returns once the object is durable and read back. If
// there is one for this id already, that one is returned and counts: a repeat
// after an error or a crash is safe, with the same or with fresh bytes.
func (t *Tree) Put(ctx context.Context, id ShareID, share Share) (Share, error) {
	t.phase.RLock()
	defer t.phase.RUnlock()
	if share == (Share{}) || !id.valid() || id.WrapVersion > t.cfg.Version {
		return Share{}, fmt.Errorf("share %s: zero share or id out of range", id)
	}
	if t.now.number == 0 {
		return Share{}, errors.New("anchor: no tree yet: commit once before the first put")
	}
	if t.leaving(id) {
		return Share{}, fmt.Errorf("%w: %s", ErrErasing, id)
	}
	if have, ok := t.shares.get(id); ok {
		return have, nil
	}
	if t.beingAdded(id) {
		return Share{}, fmt.Errorf("%w: %s", ErrAdding, id)
	}
	stored, err := t.putRecords(ctx, id, share)
	if err != nil {
		t.doubtful(id)
		return Share{}, err
	}
	t.step("put: remember")
	return stored, remember(&t.shares, &entry{id, stored})
}

// fill takes a share over from another tree. Before the first commit it is in
// memory alone, and that commit writes it.
func (t *Tree) fill(ctx context.Context, id ShareID, share Share) (err error) {
	if t.Generation() != 0 {
		stored, err := t.Put(ctx, id, share)
		if err == nil && stored != share {
			err = fmt.Errorf("%w for %s", ErrTwoShares, id)
		}
		return err
	}
	t.phase.RLock()
	defer t.phase.RUnlock()
	if t.now.number != 0 {
		return errors.New("anchor: committed meanwhile: fill again")
	}
	if t.next != nil {
		share, err = t.putRecord(ctx, t.next, id, share)
	}
	if err != nil {
		t.doubtful(id)
		return err
	}
	t.touch(t.now, id)
	return remember(&t.shares, &entry{id, share})
}

// Unfinished says that an error or a crash cut a commit short and none is under way: the
// next one finishes it.
func (t *Tree) Unfinished() bool {
	select {
	case t.commit <- struct{}{}:
	default:
		return false
	}
	defer func() { <-t.commit }()
	return t.old != nil || t.next != nil
}

// SetVersion makes later commits use another shielding key. Versions only rise.
func (t *Tree) SetVersion(version uint32) {
	t.phase.Lock()
	defer t.phase.Unlock()
	t.cfg.Version = max(t.cfg.Version, version)
}

// Version is the wrap version of the next commit.
func (t *Tree) Version() uint32 {
	t.phase.RLock()
	defer t.phase.RUnlock()
	return t.cfg.Version
}

// Add has the next Commit write a share into its shard, without a record of its own.
// [Tree.Get] gives it once that commit has passed; before, a crash or an error drops
// it, and it may be added again with fresh bytes. One that is there stays.
func (t *Tree) Add(id ShareID, share Share) error {
	t.phase.RLock()
	defer t.phase.RUnlock()
	if share == (Share{}) || !id.valid() || id.WrapVersion > t.cfg.Version {
		return fmt.Errorf("share %s: zero share or id out of range", id)
	}
	if t.leaving(id) {
		return fmt.Errorf("%w: %s", ErrErasing, id)
	}
	if t.shares.has(id) || t.beingAdded(id) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted = append(t.wanted, entry{id, share})
	return nil
}

// beingAdded is called with phase held.
func (t *Tree) beingAdded(id ShareID) bool {
	return slices.ContainsFunc(t.adding[id.shard()], func(e entry) bool { return e.id == id })
}

// known is a share that is there, or that a commit under way adds: for one id no other
// may be made.
func (t *Tree) known(id ShareID) (Share, bool) {
	t.phase.RLock()
	defer t.phase.RUnlock()
	for _, e := range t.adding[id.shard()] {
		if e.id == id {
			return e.share, true
		}
	}
	return t.shares.get(id)
}

// touch is called with phase held: id has a record in g, to be folded into a shard.
func (t *Tree) touch(g *generation, id ShareID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g.dirty[id.shard()] = true
}

// putRecords lets the current generation decide between two shares for one id and
// writes the winner beneath the next root, if there is one.
func (t *Tree) putRecords(ctx context.Context, id ShareID, share Share) (stored Share, err error) {
	agentkeys.Scrubbed(func() {
		stored, err = t.putRecord(ctx, t.now, id, share)
		if err != nil || t.next == nil {
			return
		}
		t.step("put: second root")
		var again Share
		again, err = t.putRecord(ctx, t.next, id, stored)
		if err == nil && again != stored {
			err = fmt.Errorf("%w for %s", ErrTwoShares, id)
		}
	})
	return stored, err
}

func (t *Tree) putRecord(ctx context.Context, g *generation, id ShareID, share Share) (Share, error) {
	t.step("put: write record")
	t.touch(g, id)
	rid := g.recordID(id)
	e := entry{id, share}
	object := g.recordFrame(rid).seal(g.recordKey, e.append(make([]byte, 0, entrySize)))
	err := t.cfg.Objects.Put(ctx, g.recordName(rid), object)
	if err != nil && !errors.Is(err, ErrExists) {
		return Share{}, fmt.Errorf("share record: put: %w", err)
	}
	t.step("put: read record back")
	stored, err := t.getRecord(ctx, g, rid)
	if err == nil && stored.id != id {
		err = fmt.Errorf("%w: record of another share", ErrTampered)
	}
	return stored.share, err
}

func (t *Tree) getRecord(ctx context.Context, g *generation, rid [16]byte) (entry, error) {
	object, err := t.cfg.Objects.Get(ctx, g.recordName(rid))
	if err != nil {
		return entry{}, fmt.Errorf("share record: get: %w", err)
	}
	plain, err := g.recordFrame(rid).open(g.recordKey, object)
	if err != nil {
		return entry{}, fmt.Errorf("share record: %w", err)
	}
	defer clear(plain)
	return parseRecord(plain)
}

// Erase marks shares; the next Commit leaves them out. Unknown ids count too: the
// store may have withheld their records. Marks are not kept over a restart, the
// caller derives them from rows again.
func (t *Tree) Erase(ids ...ShareID) {
	t.phase.RLock()
	defer t.phase.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		t.marked[id] = struct{}{}
	}
}

// Erased reports whether nothing that this anchor still opens holds a share of
// the epoch. It is false until a commit of this process has passed, because the
// store may have withheld a record from Open; then Erase the share and Commit.
func (t *Tree) Erased(user agentkeys.Wallet, epoch agentkeys.Epoch) bool {
	t.phase.RLock()
	defer t.phase.RUnlock()
	if t.now.number <= t.opened {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.doubt {
		if id.User == user && id.Epoch == epoch {
			return false
		}
	}
	for version := uint32(1); version <= t.cfg.Version; version++ {
		if t.shares.has(ShareID{user, epoch, version}) {
			return false
		}
	}
	return true
}

// leaving is called with phase held.
func (t *Tree) leaving(id ShareID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, marked := t.marked[id]
	_, erasing := t.erasing[id]
	return marked || erasing
}

// doubtful is called with phase held.
func (t *Tree) doubtful(id ShareID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubt[id] = t.now.number
	if t.next != nil {
		t.doubt[id] = t.next.number
	}
}

func (t *Tree) step(name string) {
	if t.cfg.Step != nil {
		t.cfg.Step(name)
	}
}
