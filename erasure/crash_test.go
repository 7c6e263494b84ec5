package erasure

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stop is what a step hook panics with: the process ends there.
type stop struct{ step string }

// life is what a custodian does with a tree: puts, commits, erasures, and puts in
// the middle of each step of a commit. It ends at the first error.
func (b *bench) life(dieAtStep int) (steps []string, err error) {
	var tree *Tree
	var user byte = 100
	inside := false
	b.cfg.Step = func(name string) {
		steps = append(steps, name)
		if len(steps) == dieAtStep {
			panic(stop{name})
		}
		if strings.HasPrefix(name, "commit:") && tree != nil && tree.Generation() > 0 && !inside {
			inside = true
			defer func() { inside = false }()
			user++
			if e := b.put(tree, shareID(user, 1)); e != nil && err == nil {
				err = e
			}
		}
	}
	defer func() {
		b.cfg.Step = nil
		if p := recover(); p != nil {
			s, ok := p.(stop)
			if !ok {
				panic(p)
			}
			err = fmt.Errorf("%w at step %q", errCrashed, s.step)
		}
	}()
	ctx := b.t.Context()
	if tree, err = Open(ctx, b.cfg); err != nil {
		return steps, err
	}
	acts := []func() error{
		func() error { return tree.Commit(ctx) },
		func() error { return b.put(tree, shareID(1, 1)) },
		func() error { return b.put(tree, shareID(2, 1)) },
		func() error { return b.put(tree, shareID(5, 1)) },
		func() error { return tree.Commit(ctx) },
		func() error { return b.put(tree, shareID(9, 1)) },
		func() error {
			b.erase(tree, shareID(1, 1), shareID(9, 1))
			return b.add(tree, shareID(7, 1), shareID(10, 1))
		},
		func() error { b.report(tree); return nil },
		func() error { return b.put(tree, shareID(6, 2)) },
		func() error {
			tree.SetVersion(2)
			b.erase(tree, shareID(2, 1), shareID(5, 1), shareID(10, 1))
			return b.add(tree, wrapped(12, 2))
		},
		func() error { b.report(tree); return nil },
	}
	for _, act := range acts {
		if e := act(); e != nil || err != nil {
			return steps, errors.Join(e, err)
		}
	}
	return steps, nil
}

// report notes what Erased says and holds it against the thief at once.
func (b *bench) report(tree *Tree) {
	b.t.Helper()
	for id := range b.erased {
		if tree.Erased(id.User, id.Epoch) {
			b.reported[id] = true
		}
	}
	b.checkReported("at the time of the report")
}

// checkReported fails if the thief has a share that Erased once called erased.
func (b *bench) checkReported(when string) {
	b.t.Helper()
	if len(b.reported) == 0 {
		return
	}
	loot := b.thief().steal(slices.Clone(b.anchor.roots))
	for id := range b.reported {
		if loot[b.erased[id]] {
			b.t.Errorf("%s: thief has share %s, which was reported erased", when, id)
		}
	}
}

// lie opens the tree with a lying store and goes on as the custodian would; it may
// fail, but must not lose or bring back anything.
func (b *bench) lie() {
	b.t.Helper()
	tree, err := Open(b.t.Context(), b.cfg)
	if err == nil {
		tree.Erase(slices.Collect(maps.Keys(b.erased))...)
		_ = tree.Commit(b.t.Context())
		b.report(tree)
	}
	b.w.withhold, b.w.replay, b.w.down = nil, false, false
	b.checkReported("after a lying store")
}

// recover reopens with an honest store, looks that nothing is lost, erases again
// what the rows ask for and looks that it is gone.
func (b *bench) recover(when string) {
	b.t.Helper()
	b.w.restart(0, false)
	b.checkReported(when)
	tree := b.open()
	b.checkKept(tree, when)
	b.erase(tree, slices.Collect(maps.Keys(b.erased))...)
	b.commit(tree)
	for id := range b.erased {
		if !tree.Erased(id.User, id.Epoch) {
			b.commit(tree)
			b.t.Errorf("%s: %s not erased after a commit", when, id)
		}
	}
	b.checkKept(tree, when+", committed")
	b.checkKept(b.open(), when+", committed and reopened")
	b.checkGone(when)
	if len(b.anchor.roots) != 1 {
		b.t.Errorf("%s: anchor holds %d roots", when, len(b.anchor.roots))
	}
}

func TestLifeWithoutCrash(t *testing.T) {
	b := newBench(t)
	steps, err := b.life(0)
	if err != nil {
		t.Fatal(err)
	}
	b.recover("no crash")
	if len(b.reported) != 5 {
		t.Errorf("%d erasures reported, want 5", len(b.reported))
	}
	for _, want := range []string{
		"put: write record", "put: read record back", "put: second root", "put: remember",
		"commit: check live shares", "commit: write shards", "commit: write index", "commit: read index back",
		"commit: stage root", "commit: commit on the chain", "commit: destroy old root",
		"commit: look whether it is gone", "commit: forget keys", "commit: delete old objects",
	} {
		if !slices.Contains(steps, want) {
			t.Errorf("no step %q", want)
		}
	}
}

// The process stops before every step of every put and commit.
func TestCrashAtEveryStep(t *testing.T) {
	for n := 1; ; n++ {
		b := newBench(t)
		_, err := b.life(n)
		if err == nil {
			break
		}
		b.recover(err.Error())
		if t.Failed() {
			return
		}
	}
}

// The process dies at every single call to store, anchor and chain, before or
// after the call took effect; then again, at some call of the recovery.
func TestCrashAtEveryCall(t *testing.T) {
	crashes := 0
	for n := 1; ; n++ {
		for _, after := range []bool{false, true} {
			b := newBench(t)
			b.w.restart(n, after)
			_, err := b.life(0)
			if err == nil {
				t.Logf("%d crashes", crashes)
				return
			}
			crashes++
			when := fmt.Sprintf("call %d, after %v", n, after)
			b.w.restart(1+n*7%29, !after)
			if tree, err := Open(t.Context(), b.cfg); err == nil {
				tree.Erase(slices.Collect(maps.Keys(b.erased))...)
				_ = tree.Commit(t.Context())
				b.report(tree)
			}
			b.recover(when)
			if t.Failed() {
				return
			}
		}
	}
}

// After a crash the store withholds or replays objects, then is honest again.
func TestCrashThenLyingStore(t *testing.T) {
	lies := map[string]func(w *world){
		"records withheld":       func(w *world) { w.withhold = part("/record/") },
		"shards withheld":        func(w *world) { w.withhold = part("/shard/") },
		"indexes withheld":       func(w *world) { w.withhold = part("/index/") },
		"staged index withheld":  func(w *world) { w.withhold = part(fmt.Sprintf("/index/%020d", w.row.Generation+1)) },
		"old index withheld":     func(w *world) { w.withhold = part(fmt.Sprintf("/index/%020d", w.row.Generation-1)) },
		"newer records withheld": func(w *world) { w.withhold = part(fmt.Sprintf("/record/%020d", w.row.Generation+1)) },
		"every third withheld":   func(w *world) { w.withhold = func(name string) bool { return name[len(name)-1]%3 == 0 } },
		"deleted replayed":       func(w *world) { w.replay = true },
		"unavailable":            func(w *world) { w.down = true },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			// Each lie meets every fifth step, beginning at another one.
			for n := 1 + len(name)%5; ; n += 5 {
				b := newBench(t)
				_, err := b.life(n)
				if err == nil {
					return
				}
				lie(b.w)
				b.lie()
				b.recover(fmt.Sprintf("%v, then %s", err, name))
				if t.Failed() {
					return
				}
			}
		})
	}
}

func part(s string) func(string) bool {
	return func(name string) bool { return strings.Contains(name, s) }
}

// The thief must succeed when the anchor breaks its promise, or the tests above
// prove nothing.
func TestThiefSucceedsWhenTheOldRootIsKept(t *testing.T) {
	b := newBench(t)
	keeper := &keeperAnchor{fakeAnchor: b.anchor}
	b.cfg.Anchor = keeper
	if _, err := b.life(0); err != nil {
		t.Fatal(err)
	}
	b.checkGone("kept roots unknown to the thief")
	loot := b.thief().steal(append(slices.Clone(b.anchor.roots), keeper.kept...))
	for id, share := range b.erased {
		if !loot[share] {
			t.Errorf("thief with the old roots lacks %s", id)
		}
	}
}

// Deleting objects is not what erases: with the root kept, objects that were
// deleted from the store still open; with the root gone, objects that were kept do
// not.
func TestErasureDoesNotDependOnDeletion(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1), shareID(2, 1))
	b.commit(tree)
	old := slices.Clone(b.anchor.roots)
	b.erase(tree, shareID(1, 1))
	b.commit(tree)
	maps.Copy(b.w.objects, firstVersions(b.w.ever))
	b.checkGone("nothing was deleted")
	if loot := b.thief().steal(old); !loot[b.erased[shareID(1, 1)]] {
		t.Error("control: the old root does not open the erased share")
	}
}

func firstVersions(ever map[string][][]byte) map[string][]byte {
	out := map[string][]byte{}
	for name, versions := range ever {
		out[name] = versions[0]
	}
	return out
}

// An anchor that destroys nothing but says so must not let Erased say true.
func TestAnchorThatDoesNotDestroyIsNoticed(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1))
	tree.cfg.Anchor = lazyAnchor{b.anchor}
	b.erase(tree, shareID(1, 1))
	if err := tree.Commit(t.Context()); err == nil || tree.Erased(shareID(1, 1).User, 1) {
		t.Errorf("Commit: %v, Erased %v", err, tree.Erased(shareID(1, 1).User, 1))
	}
	tree.cfg.Anchor = b.anchor
	b.commit(tree)
	if !tree.Erased(shareID(1, 1).User, 1) {
		t.Error("not erased after the anchor did")
	}
	b.checkGone("second try")
}

// The same life on files: the thief gets what the directory holds in the end.
func TestLifeOnFileAnchor(t *testing.T) {
	b := newBench(t)
	files := NewFileAnchor(t.TempDir())
	b.cfg.Anchor = files
	if _, err := b.life(0); err != nil {
		t.Fatal(err)
	}
	b.checkKept(b.open(), "reopened")
	roots, err := files.Roots(t.Context())
	if err != nil || len(roots) != 1 {
		t.Fatalf("%d roots, %v", len(roots), err)
	}
	b.checkGone("file anchor", roots...)
}

// The place of an anchor is made before its first root, and never again: an empty one in
// its stead would be in the way of the real one.
func TestPlaceIsMadeOnce(t *testing.T) {
	b := newBench(t)
	dir := filepath.Join(t.TempDir(), "anchor")
	b.cfg.Anchor = NewFileAnchor(dir)
	if _, err := b.life(0); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), b.cfg); err == nil || !strings.Contains(err.Error(), dir+" is not there") {
		t.Errorf("opened without its place: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the place was made again: %v", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	b.checkKept(b.open(), "brought back")
}
