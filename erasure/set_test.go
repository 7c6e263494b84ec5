package erasure

import (
	"errors"
	"maps"
	"slices"
	"testing"
)

// pair is two anchors over the same rows.
func pair(t *testing.T) (a, b *bench, set *Set) {
	a, b = newBench(t), newBench(t)
	b.cfg.ID = AnchorID{3}
	b.live = a.live
	b.cfg.Live = a.cfg.Live
	set = NewSet(a.cfg, b.cfg)
	if err := errors.Join(set.Open(t.Context()), set.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	return a, b, set
}

func TestSetStoresInEveryTree(t *testing.T) {
	a, b, set := pair(t)
	id := shareID(1, 1)
	share, err := set.Put(t.Context(), id, randomShare())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*bench{a, b} {
		if got, ok := x.open().Get(id); !ok || got != share {
			t.Errorf("anchor %s: share not stored", x.cfg.ID)
		}
	}
	if again, err := set.Put(t.Context(), id, randomShare()); err != nil || again != share {
		t.Errorf("repeat: %v, same share %v", err, again == share)
	}
}

// The second store fails after the first has taken the share; the repeat brings
// other bytes, and the first one's count.
func TestSetRepeatAfterHalfAPut(t *testing.T) {
	a, b, set := pair(t)
	id := shareID(1, 1)
	b.w.down = true
	if _, err := set.Put(t.Context(), id, randomShare()); err == nil {
		t.Fatal("stored with one store down")
	}
	b.w.down = false
	share, err := set.Put(t.Context(), id, randomShare())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*bench{a, b} {
		if got, ok := x.open().Get(id); !ok || got != share {
			t.Errorf("anchor %s: another share or none", x.cfg.ID)
		}
	}
}

func TestSetWithADeadAnchor(t *testing.T) {
	a, b, set := pair(t)
	id, other := shareID(1, 1), shareID(2, 1)
	share, err := set.Put(t.Context(), id, randomShare())
	if err != nil {
		t.Fatal(err)
	}
	a.live[id] = true
	b.w.down = true
	set = NewSet(b.cfg, a.cfg)
	if err := set.Open(t.Context()); !errors.Is(err, errUnavailable) {
		t.Errorf("Open: %v, want the dead anchor's error", err)
	}
	if got, ok := set.Get(id); !ok || got != share {
		t.Error("not readable although one anchor is")
	}
	if _, err := set.Put(t.Context(), other, randomShare()); err == nil {
		t.Error("a put counts although an anchor is dead")
	}
	delete(a.live, id)
	set.Erase(id)
	if err := set.Commit(t.Context()); err == nil {
		t.Error("Commit does not report the dead anchor")
	}
	if got, want := set.Erased(id.User, id.Epoch), (map[AnchorID]bool{a.cfg.ID: true, b.cfg.ID: false}); !maps.Equal(got, want) {
		t.Errorf("Erased %v, want %v", got, want)
	}
	b.w.down = false
	if err := set.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	set.Erase(id)
	if err := set.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := set.Erased(id.User, id.Epoch); !got[a.cfg.ID] || !got[b.cfg.ID] {
		t.Errorf("Erased %v after the anchor came back", got)
	}
}

// The first commit of a joining anchor makes it live: it must hold every live
// share by then, through crashes too.
func TestJoiningAnchorHoldsEveryLiveShareAtItsFirstCommit(t *testing.T) {
	for _, crash := range []bool{false, true} {
		a, b := newBench(t), newBench(t)
		b.cfg.ID, b.cfg.Live = AnchorID{3}, a.cfg.Live
		tree := a.start()
		a.mustPut(tree, shareID(1, 1), shareID(2, 1), shareID(3, 1))
		a.commit(tree)
		set := NewSet(a.cfg)
		set.Add(b.cfg)
		if err := set.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := set.Commit(t.Context()); !errors.Is(err, ErrMissing) || b.w.row.Generation != 0 {
			t.Fatalf("empty tree made live: %v", err)
		}
		if err := set.Fill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if crash {
			b.w.late = true
			if err := set.Commit(t.Context()); err == nil {
				t.Fatal("a timed-out commit succeeded")
			}
			b.w.late = false
			set = NewSet(a.cfg, b.cfg)
			if err := set.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			// One more became live; the staged tree does not have it.
			a.mustPut(set.Tree(a.cfg.ID), shareID(4, 1))
			if err := set.Commit(t.Context()); !errors.Is(err, ErrMissing) {
				t.Fatalf("Commit: %v, want ErrMissing", err)
			}
			if err := set.Fill(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.want = a.want
		b.checkKept(b.open(), "joined")
		if err := set.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.checkKept(b.open(), "joined, committed again")
	}
}

func TestSetFillHealsAndEvicts(t *testing.T) {
	a, b, set := pair(t)
	id := shareID(1, 1)
	share, err := set.Tree(a.cfg.ID).Put(t.Context(), id, randomShare())
	if err != nil {
		t.Fatal(err)
	}
	a.live[id] = true
	if err := set.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, ok := b.open().Get(id); !ok || got != share {
		t.Error("not copied")
	}
	a.live[shareID(9, 1)] = true
	if err := set.Fill(t.Context()); !errors.Is(err, ErrMissing) {
		t.Errorf("Fill: %v, want ErrMissing", err)
	}
	set.Evict(a.cfg.ID)
	if set.Tree(a.cfg.ID) != nil || !slices.Contains(slices.Collect(set.Tree(b.cfg.ID).IDs()), id) {
		t.Error("wrong anchor evicted")
	}
}

// The first store took the share and the answer was lost; the repeat brings other
// bytes, and every tree must get the first ones.
func TestSetRepeatAfterALostAnswer(t *testing.T) {
	a, b, set := pair(t)
	id := shareID(1, 1)
	first := randomShare()
	a.w.restart(1, true)
	if _, err := set.Put(t.Context(), id, first); !errors.Is(err, errCrashed) {
		t.Fatalf("Put: %v", err)
	}
	a.w.restart(0, false)
	if got, err := set.Put(t.Context(), id, randomShare()); err != nil || got != first {
		t.Fatalf("repeat: %v, same share %v", err, got == first)
	}
	for _, x := range []*bench{a, b} {
		if got, ok := x.open().Get(id); !ok || got != first {
			t.Errorf("anchor %s: another share or none", x.cfg.ID)
		}
	}
}

// A dead anchor beside one that is only joining: there is nothing to read from.
func TestJoiningAnchorIsNotReadable(t *testing.T) {
	a, b := newBench(t), newBench(t)
	b.cfg.ID = AnchorID{3}
	a.w.row.Generation, a.w.down = 1, true
	set := NewSet(a.cfg, b.cfg)
	if set.Open(t.Context()) == nil || set.Readable() {
		t.Error("readable without a tree that holds anything")
	}
	if err := set.Tree(b.cfg.ID).Commit(t.Context()); err != nil || !set.Readable() {
		t.Errorf("after its first commit: %v", err)
	}
}
