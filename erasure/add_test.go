package erasure

import (
	"errors"
	"testing"
)

func TestAdd(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1))
	held, _ := tree.Get(shareID(1, 1))
	puts := len(b.w.ever)
	for user := range byte(200) {
		if err := tree.Add(shareID(user+1, 1), randomShare()); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.w.ever) != puts {
		t.Errorf("adding wrote %d objects before the commit", len(b.w.ever)-puts)
	}
	if _, ok := tree.Get(shareID(2, 1)); ok {
		t.Error("a share that is added is there before the commit")
	}
	generation := tree.Generation()
	b.commit(tree)
	if tree.Generation() != generation+1 {
		t.Errorf("adding took %d generations", tree.Generation()-generation)
	}
	if n := len(b.w.ever) - puts; n > shardCount+1 {
		t.Errorf("adding 200 shares wrote %d objects", n)
	}
	again := b.open()
	for user := range byte(200) {
		id := shareID(user+1, 1)
		share, ok := tree.Get(id)
		if stored, there := again.Get(id); !ok || !there || stored != share {
			t.Errorf("%s: there %t, after opening again %t", id, ok, there)
		}
	}
	if share, _ := tree.Get(shareID(1, 1)); share != held {
		t.Error("adding replaced a share that was there")
	}
}

func TestAddRefuses(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1))
	tree.Erase(shareID(1, 1))
	for name, c := range map[string]struct {
		id    ShareID
		share Share
	}{
		"zero share":    {shareID(2, 1), Share{}},
		"zero epoch":    {shareID(2, 0), randomShare()},
		"later version": {wrapped(2, 2), randomShare()},
		"being erased":  {shareID(1, 1), randomShare()},
	} {
		if err := tree.Add(c.id, c.share); err == nil {
			t.Errorf("%s: added", name)
		}
	}
}

// While a commit that adds a share is under way, a put of the same id may not make
// another one; what a failed commit drops can be added anew.
func TestPutBesideAdd(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	id := shareID(3, 1)
	tree.cfg.Step = func(name string) {
		if name == "commit: stage root" {
			if _, err := tree.Put(t.Context(), id, randomShare()); !errors.Is(err, ErrAdding) {
				t.Errorf("put beside the commit: %v", err)
			}
		}
	}
	if err := tree.Add(id, randomShare()); err != nil {
		t.Fatal(err)
	}
	b.commit(tree)
	tree.cfg.Step = nil

	other := shareID(4, 1)
	if err := tree.Add(other, randomShare()); err != nil {
		t.Fatal(err)
	}
	b.w.down = true
	if tree.Commit(t.Context()) == nil {
		t.Error("a commit passed without a store")
	}
	b.w.down = false
	if _, ok := tree.Get(other); ok {
		t.Error("a failed commit left the share there")
	}
	if err := b.add(tree, other); err != nil {
		t.Error(err)
	}
}

// Every tree of a set gets the same share, also where one of them has dropped it.
func TestAddShares(t *testing.T) {
	a, b, s := pair(t)
	ids := []ShareID{shareID(1, 1), shareID(2, 1), shareID(3, 1)}
	add := func() error {
		if err := s.AddShares(ids, randomShare); err != nil {
			return err
		}
		return s.Commit(t.Context())
	}
	b.w.down = true
	if add() == nil {
		t.Error("a commit passed without the second store")
	}
	b.w.down = false
	if err := add(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		first, ok := s.Tree(a.cfg.ID).Get(id)
		second, also := s.Tree(b.cfg.ID).Get(id)
		if !ok || !also || first != second {
			t.Errorf("%s: %t, %t, the same %t", id, ok, also, first == second)
		}
	}
	s.SetVersion(3)
	if s.Version() != 3 || s.Tree(b.cfg.ID).Version() != 3 {
		t.Errorf("version %d", s.Version())
	}
}
