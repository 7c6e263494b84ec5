package erasure

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.org/agentkeys"
)

// Commit erases what was marked and folds records into shards, in one generation
// however many they are: docs/spec/erasure.md, "Commit". It finishes a commit
// that an error or a crash cut short first. Nil means that the old root is gone
// from the anchor and old objects are deleted; with nothing to do it does nothing.
// After an error nothing is lost and a repeat is safe.
func (t *Tree) Commit(ctx context.Context) error {
	select {
	case t.commit <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.commit }()
	if t.lost {
		return fmt.Errorf("%w: a staged root has lost its index: restore the object or evict anchor %s", ErrNoRoot, t.cfg.ID)
	}
	if err := t.retireOld(ctx); err != nil {
		return err
	}
	if t.next != nil {
		if err := t.checkLive(ctx); err != nil {
			return err
		}
		if err := t.finish(ctx); err != nil {
			return err
		}
	}
	var touched [shardCount]bool
	var err error
	agentkeys.Scrubbed(func() { touched, err = t.begin() })
	if err != nil {
		return err
	}
	if t.next == nil {
		return t.sweep(ctx)
	}
	if err := t.prepare(ctx, touched); err != nil {
		t.abandon(!errors.Is(err, ErrLive))
		return err
	}
	return t.finish(ctx)
}

// retireOld destroys the root that a crash left behind the committed one.
func (t *Tree) retireOld(ctx context.Context) error {
	if t.old == nil {
		return nil
	}
	if err := t.checkLive(ctx); err != nil {
		return err
	}
	if err := t.destroy(ctx, t.old, t.now); err != nil {
		return err
	}
	t.old.wipe()
	t.old = nil
	return nil
}

// begin makes the next root, in memory only, and from here on puts go under both.
// It returns the shards to write anew; next stays nil when there is nothing to do.
func (t *Tree) begin() (touched [shardCount]bool, err error) {
	t.phase.Lock()
	defer t.phase.Unlock()
	touched = t.now.dirty
	if len(t.marked) == 0 && len(t.wanted) == 0 && !slices.Contains(touched[:], true) && t.now.version == t.cfg.Version {
		return touched, nil
	}
	shielding, err := t.cfg.Shielding(t.cfg.Version)
	if err != nil {
		return touched, fmt.Errorf("shielding key %d: %w", t.cfg.Version, err)
	}
	defer clear(shielding[:])
	var root Root
	rand.Read(root[:])
	t.next = newGeneration(t.place, t.now.number+1, t.cfg.Version, root, shielding)
	clear(root[:])
	t.erasing, t.marked = t.marked, make(map[ShareID]struct{})
	for id := range t.erasing {
		if t.shares.has(id) {
			touched[id.shard()] = true
		}
	}
	t.adding = make(map[byte][]entry)
	for _, e := range t.wanted {
		if !t.shares.has(e.id) && !t.beingAdded(e.id) {
			t.adding[e.id.shard()] = append(t.adding[e.id.shard()], e)
			touched[e.id.shard()] = true
		}
	}
	clear(t.wanted)
	t.wanted = nil
	return touched, nil
}

// forgetAdding is called with phase held.
func (t *Tree) forgetAdding() {
	for _, entries := range t.adding {
		clear(entries)
	}
	t.adding = nil
}

// abandon forgets a next root that never left memory.
func (t *Tree) abandon(keepMarks bool) {
	t.phase.Lock()
	defer t.phase.Unlock()
	if keepMarks {
		for id := range t.erasing {
			t.marked[id] = struct{}{}
		}
	}
	t.next.wipe()
	t.forgetAdding()
	t.next, t.erasing, t.swept = nil, nil, false
}

// checkLive stops everything when a live epoch would be left without its share. It
// holds for the first commit too, because that makes a joining anchor live.
func (t *Tree) checkLive(ctx context.Context) error {
	t.step("commit: check live shares")
	return t.cfg.Live(ctx, func(id ShareID) error {
		if _, ok := t.erasing[id]; ok {
			return fmt.Errorf("%w: %s: nothing was erased: check what was marked", ErrLive, id)
		}
		if !t.shares.has(id) {
			return fmt.Errorf("%w: %s: nothing was erased: restore its object or fill this tree from another anchor", ErrMissing, id)
		}
		return nil
	})
}

// prepare makes the next tree durable and reads all of it back.
func (t *Tree) prepare(ctx context.Context, touched [shardCount]bool) error {
	if err := t.checkLive(ctx); err != nil {
		return err
	}
	row, err := t.row(ctx)
	if err != nil {
		return err
	}
	if !t.now.is(row) {
		return fmt.Errorf("%w: generation %d", ErrDiverged, row.Generation)
	}
	x := &t.next.index
	x.generation, x.term, x.height, x.version = t.next.number, row.Term, row.Height, t.next.version
	t.step("commit: write shards")
	err = each(ctx, shardCount, func(ctx context.Context, n int) (err error) {
		x.shards[n], err = t.writeShard(ctx, byte(n), touched[n])
		return err
	})
	if err != nil {
		return err
	}
	t.step("commit: write index")
	var object []byte
	agentkeys.Scrubbed(func() { object = t.next.indexFrame().seal(t.next.indexKey, x.append()) })
	t.next.hash = sha256.Sum256(object)
	name := t.place.indexName(t.next.number, t.next.tag)
	if err := t.cfg.Objects.Put(ctx, name, object); err != nil {
		return fmt.Errorf("tree object: put: %w", err)
	}
	t.step("commit: read index back")
	return t.readBack(ctx, name, t.next.hash)
}

// writeShard seals a touched shard under a new key. One that is not touched stays
// if the store still gives it, else it is written anew from memory.
func (t *Tree) writeShard(ctx context.Context, n byte, touched bool) (shardRef, error) {
	if ref := t.now.index.shards[n]; !touched {
		intact, err := t.intact(ctx, n, ref)
		if err != nil || intact {
			return ref, err
		}
	}
	entries := t.shares.entries(n)
	defer clear(entries)
	kept := slices.DeleteFunc(entries, func(e entry) bool {
		_, ok := t.erasing[e.id]
		return ok
	})
	if added := t.adding[n]; len(added) > 0 {
		kept = append(slices.Clone(kept), added...)
		defer clear(kept)
		slices.SortFunc(kept, func(a, b entry) int { return a.id.compare(b.id) })
	}
	if len(kept) == 0 {
		return shardRef{}, nil
	}
	ref := shardRef{shares: uint32(len(kept))}
	rand.Read(ref.key[:])
	object := shardFrame(t.place, n).seal(ref.key, appendShard(kept))
	ref.hash = sha256.Sum256(object)
	name := t.place.shardName(n, ref.hash)
	if err := t.cfg.Objects.Put(ctx, name, object); err != nil {
		return ref, fmt.Errorf("tree object: put: %w", err)
	}
	return ref, t.readBack(ctx, name, ref.hash)
}

func (t *Tree) intact(ctx context.Context, n byte, ref shardRef) (bool, error) {
	if ref.shares == 0 {
		return true, nil
	}
	err := t.readBack(ctx, t.place.shardName(n, ref.hash), ref.hash)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrTampered) {
		return false, nil
	}
	return err == nil, err
}

func (t *Tree) readBack(ctx context.Context, name string, want agentkeys.Hash) error {
	stored, err := t.cfg.Objects.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("tree object: read back: %w", err)
	}
	if sha256.Sum256(stored) != want {
		return fmt.Errorf("%w: read back", ErrTampered)
	}
	return nil
}

// finish takes a durable next tree to the anchor and the chain, then destroys the
// old root. Every part of it can be repeated.
func (t *Tree) finish(ctx context.Context) error {
	t.step("commit: stage root")
	if err := t.stage(ctx); err != nil {
		return err
	}
	t.step("commit: commit on the chain")
	if err := t.commitRow(ctx); err != nil {
		return err
	}
	if err := t.destroy(ctx, t.now, t.next); err != nil {
		return err
	}
	t.step("commit: forget keys")
	agentkeys.Scrubbed(t.takeOver)
	return t.sweep(ctx)
}

func (t *Tree) stage(ctx context.Context) (err error) {
	agentkeys.Scrubbed(func() { err = t.stageRoot(ctx) })
	return err
}

func (t *Tree) stageRoot(ctx context.Context) error {
	if err := t.cfg.Anchor.Stage(ctx, t.next.root); err != nil {
		return fmt.Errorf("anchor: stage: %w", err)
	}
	roots, err := t.cfg.Anchor.Roots(ctx)
	defer clear(roots)
	if err != nil {
		return fmt.Errorf("anchor: read back: %w", err)
	}
	if !slices.Contains(roots, t.next.root) {
		return errors.New("anchor: staged root does not read back: evict the anchor")
	}
	return nil
}

func (t *Tree) commitRow(ctx context.Context) error {
	row, err := t.row(ctx)
	if err != nil || t.next.is(row) {
		return err
	}
	if t.now.is(row) {
		row, err = t.cfg.Chain.CommitTree(ctx, t.cfg.ID, row.Term, t.now.number, t.next.hash)
		if err != nil {
			return fmt.Errorf("commit tree: %w", err)
		}
	}
	// Only the proven row that names the next tree allows destroying this one.
	if !t.next.is(row) {
		return fmt.Errorf("%w: generation %d", ErrDiverged, row.Generation)
	}
	return nil
}

// row refuses verified state from before the tree that is open.
func (t *Tree) row(ctx context.Context) (Row, error) {
	row, err := t.cfg.Chain.Anchor(ctx, t.cfg.ID)
	if err != nil {
		return Row{}, fmt.Errorf("anchor row: %w", err)
	}
	if row.Height < t.now.index.height || row.Term < t.now.index.term {
		return Row{}, fmt.Errorf("%w: height %d is below the floor", ErrDiverged, row.Height)
	}
	return row, nil
}

func (g *generation) is(row Row) bool {
	return g.number == row.Generation && g.hash == row.IndexHash
}

// destroy erases root only while keep is held too, and looks whether it is gone.
func (t *Tree) destroy(ctx context.Context, gone, kept *generation) (err error) {
	agentkeys.Scrubbed(func() { err = t.destroyRoot(ctx, gone.root, kept.root) })
	return err
}

func (t *Tree) destroyRoot(ctx context.Context, root, keep Root) error {
	defer clear(root[:])
	defer clear(keep[:])
	t.step("commit: destroy old root")
	if root != (Root{}) {
		if err := t.cfg.Anchor.Destroy(ctx, root); err != nil {
			return fmt.Errorf("anchor: destroy: %w", err)
		}
	}
	t.step("commit: look whether it is gone")
	roots, err := t.cfg.Anchor.Roots(ctx)
	defer clear(roots)
	if err != nil {
		return fmt.Errorf("anchor: look: %w", err)
	}
	if len(roots) != 1 || roots[0] != keep {
		return errors.New("anchor: holds other roots than the committed one: evict the anchor")
	}
	return nil
}

// takeOver makes next the current generation and zeroes what it left behind.
func (t *Tree) takeOver() {
	t.phase.Lock()
	defer t.phase.Unlock()
	for id := range t.erasing {
		t.shares.remove(id)
	}
	for _, entries := range t.adding {
		for _, e := range entries {
			t.shares.put(e.id, e.share)
		}
	}
	t.forgetAdding()
	for id, newest := range t.doubt {
		if newest < t.next.number {
			delete(t.doubt, id)
		}
	}
	t.now.wipe()
	t.now, t.next, t.erasing, t.swept = t.next, nil, nil, false
}

// sweep deletes every object of the tree that the current index does not name.
// They are closed for good already; deleting keeps the store small.
func (t *Tree) sweep(ctx context.Context) error {
	if t.swept {
		return nil
	}
	t.step("commit: delete old objects")
	names, err := t.cfg.Objects.List(ctx, t.place.prefix())
	if err != nil {
		return fmt.Errorf("tree objects: list: %w", err)
	}
	keep := map[string]bool{t.place.indexName(t.now.number, t.now.tag): true}
	for n := range t.now.index.shards {
		// Not by value: a copy of the keys would stay on the stack.
		if ref := &t.now.index.shards[n]; ref.shares != 0 {
			keep[t.place.shardName(byte(n), ref.hash)] = true
		}
	}
	records := t.place.recordPrefix(t.now.number, t.now.tag)
	names = slices.DeleteFunc(names, func(name string) bool {
		return keep[name] || strings.HasPrefix(name, records)
	})
	err = each(ctx, len(names), func(ctx context.Context, i int) error {
		return t.cfg.Objects.Delete(ctx, names[i])
	})
	if err != nil {
		return fmt.Errorf("tree objects: delete: %w", err)
	}
	t.swept = true
	return nil
}
