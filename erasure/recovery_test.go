package erasure

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"example.org/agentkeys"
)

// cut leaves a commit whose statement is still on its way: shares 1 and 2 in
// shards, 1 being erased, root 3 staged.
func cut(t *testing.T) *bench {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1), shareID(2, 1))
	b.commit(tree)
	b.erase(tree, shareID(1, 1))
	b.w.late = true
	if err := tree.Commit(t.Context()); err == nil {
		t.Fatal("a timed-out commit succeeded")
	}
	b.w.late = false
	return b
}

func TestResumedCommitForgetsWhatItErased(t *testing.T) {
	b := cut(t)
	tree := b.open()
	if _, err := tree.Put(t.Context(), shareID(1, 1), randomShare()); !errors.Is(err, ErrErasing) {
		t.Errorf("put of a share that the staged tree leaves out: %v, want ErrErasing", err)
	}
	b.commit(tree)
	if _, ok := tree.Get(shareID(1, 1)); ok {
		t.Error("share is still in memory")
	}
	b.checkGone("resumed")
}

// Records under the staged root may have been withheld too: Erased is not true
// before that root has gone as well.
func TestErasedAfterResumeWaitsForAnotherCommit(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(2, 1))
	b.w.late = true
	_ = tree.Commit(t.Context())
	id := shareID(1, 1)
	b.mustPut(tree, id) // under both roots
	b.w.late = false
	b.w.withhold = part("/record/")
	blind := b.open()
	delete(b.live, id)
	b.erased[id] = b.want[id]
	delete(b.want, id)
	b.live = map[ShareID]bool{}
	b.commit(blind) // finishes the staged commit only
	if blind.Erased(id.User, id.Epoch) {
		t.Error("Erased is true while the staged root opens a record")
	}
	if loot := b.thief().steal(slices.Clone(b.anchor.roots)); !loot[b.erased[id]] {
		t.Error("control: the thief should still have the share here")
	}
	b.erase(blind, id)
	b.commit(blind)
	if !blind.Erased(id.User, id.Epoch) {
		t.Error("Erased stays false")
	}
	b.want = map[ShareID]Share{}
	b.checkGone("withheld under the staged root")
}

func TestPutThatFailsDuringACommitStaysInDoubt(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(2, 1))
	id, share := shareID(1, 1), randomShare()
	done := false
	tree.cfg.Step = func(step string) {
		if step == "commit: stage root" && !done {
			done = true
			b.w.restart(3, true) // the record under the next root lands, the answer is lost
			if _, err := tree.Put(t.Context(), id, share); !errors.Is(err, errCrashed) {
				t.Errorf("Put: %v", err)
			}
			b.w.restart(0, false)
		}
	}
	b.commit(tree)
	if tree.Erased(id.User, id.Epoch) {
		t.Error("Erased is true while the new root opens the record")
	}
	b.erased[id] = share
	tree.Erase(id)
	b.commit(tree)
	if !tree.Erased(id.User, id.Epoch) {
		t.Error("Erased stays false")
	}
	b.checkGone("put in doubt")
}

// A live share is found missing only after the restart: neither a staged nor a
// landed commit may then destroy the old root, which may still open it.
func TestRestartWithAMissingLiveShareDestroysNothing(t *testing.T) {
	for _, landed := range []bool{false, true} {
		b := cut(t)
		if landed {
			b.w.inFlight()
		}
		b.live[shareID(9, 1)] = true
		tree := b.open()
		before := b.w.row
		if err := tree.Commit(t.Context()); !errors.Is(err, ErrMissing) {
			t.Errorf("landed %v: Commit: %v, want ErrMissing", landed, err)
		}
		if len(b.anchor.roots) != 2 || b.w.row != before {
			t.Errorf("landed %v: %d roots, want both; row changed %v", landed, len(b.anchor.roots), b.w.row != before)
		}
	}
}

func TestOldRootLivesUntilTheNextTreeIsSafe(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(b *bench, tree *Tree)
		staged int // roots in the anchor afterwards
	}{
		{"index does not read back", func(b *bench, tree *Tree) {
			b.w.withhold = func(name string) bool { return strings.Contains(name, "/index/") && !strings.Contains(name, "0001/") }
		}, 1},
		{"shard does not read back", func(b *bench, tree *Tree) { b.w.withhold = part("/shard/") }, 1},
		{"root does not read back", func(b *bench, tree *Tree) { tree.cfg.Anchor = forgetfulAnchor{b.anchor} }, 1},
		{"chain shows another tree", func(b *bench, tree *Tree) { tree.cfg.Chain = otherChain{fakeChain{b.w}} }, 2},
	} {
		b := newBench(t)
		tree := b.start()
		b.mustPut(tree, shareID(1, 1))
		old, row := b.anchor.roots[0], b.w.row
		c.spoil(b, tree)
		if err := tree.Commit(t.Context()); err == nil {
			t.Errorf("%s: Commit succeeded", c.name)
		}
		if !slices.Contains(b.anchor.roots, old) || len(b.anchor.roots) != c.staged {
			t.Errorf("%s: old root held %v, %d roots", c.name, slices.Contains(b.anchor.roots, old), len(b.anchor.roots))
		}
		if b.w.row != row {
			t.Errorf("%s: committed on the chain", c.name)
		}
	}
}

// forgetfulAnchor says that it staged a root and does not.
type forgetfulAnchor struct{ *fakeAnchor }

func (forgetfulAnchor) Stage(context.Context, Root) error { return nil }

// otherChain answers a commit with a row that names another index.
type otherChain struct{ fakeChain }

func (c otherChain) CommitTree(ctx context.Context, id AnchorID, term, previous uint64, index agentkeys.Hash) (Row, error) {
	return Row{Generation: previous + 1, Term: term, Height: 1 << 40, IndexHash: [32]byte{7}}, nil
}
