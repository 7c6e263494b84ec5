package erasure

import (
	"context"
	"errors"
	"testing"
)

var errTooSoon = errors.New("anchor: wait before the next commit")

// slowAnchor takes no new root while closed, the way of a TPM that saves its memory.
type slowAnchor struct {
	*fakeAnchor
	closed bool
}

func (a *slowAnchor) Stage(ctx context.Context, root Root) error {
	if a.closed {
		return errTooSoon
	}
	return a.fakeAnchor.Stage(ctx, root)
}

// A commit that its anchor puts off stays open: nothing is lost, nothing is called
// erased, puts go on, repeats write no object, and a restart changes nothing.
func TestAnchorThatPutsACommitOff(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b := newBench(t)
		slow := &slowAnchor{fakeAnchor: b.anchor}
		b.cfg.Anchor = slow
		tree := b.start()
		b.mustPut(tree, shareID(1, 1), shareID(2, 1), shareID(3, 1))
		b.commit(tree)
		slow.closed = true
		b.erase(tree, shareID(1, 1))
		objects := 0
		for n := range 5 {
			if err := tree.Commit(t.Context()); !errors.Is(err, errTooSoon) {
				t.Fatalf("Commit: %v", err)
			}
			if n == 0 {
				objects = len(b.w.objects)
			}
		}
		if got := len(b.w.objects); got != objects {
			t.Errorf("repeats made %d objects", got-objects)
		}
		b.mustPut(tree, shareID(4, 1))
		b.erase(tree, shareID(2, 1))
		if tree.Erased(shareID(1, 1).User, 1) || len(b.anchor.roots) != 1 {
			t.Errorf("called erased, or %d roots, before the anchor took the root", len(b.anchor.roots))
		}
		if restart {
			tree = b.open()
			tree.Erase(shareID(1, 1), shareID(2, 1)) // the rows still ask for it
		}
		slow.closed = false
		b.commit(tree)
		b.commit(tree)
		for _, id := range []ShareID{shareID(1, 1), shareID(2, 1)} {
			if !tree.Erased(id.User, 1) {
				t.Errorf("restart %v: %s is not erased", restart, id)
			}
		}
		b.checkKept(tree, "after waiting")
		b.checkKept(b.open(), "after waiting, reopened")
		b.checkGone("after waiting")
	}
}
