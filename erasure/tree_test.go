package erasure

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.org/agentkeys"
)

func TestPutCommitEraseReopen(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	var ids []ShareID
	for user := range byte(20) {
		ids = append(ids, shareID(user, 1))
	}
	b.mustPut(tree, ids...)
	b.checkKept(b.open(), "from records")
	b.commit(tree)
	b.checkKept(b.open(), "from shards")

	b.erase(tree, ids[3], ids[7])
	if tree.Erased(ids[3].User, 1) {
		t.Error("Erased before Commit")
	}
	b.commit(tree)
	for _, id := range []ShareID{ids[3], ids[7]} {
		if _, ok := tree.Get(id); ok || !tree.Erased(id.User, 1) {
			t.Errorf("%s: held after erasing", id)
		}
	}
	if tree.Erased(ids[0].User, 1) {
		t.Error("Erased says true of a live share")
	}
	b.checkKept(tree, "after erasing")
	b.checkKept(b.open(), "after erasing, reopened")
	b.checkGone("after erasing")
	if len(b.anchor.roots) != 1 {
		t.Errorf("anchor holds %d roots, want 1", len(b.anchor.roots))
	}
	if got, want := len(b.w.objects), 1+4; got != want {
		t.Errorf("store holds %d objects, want an index and 4 shards", got)
	}
}

func TestRepeatPutReturnsTheFirstShare(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	id := shareID(1, 1)
	first, err := tree.Put(t.Context(), id, randomShare())
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range []*Tree{tree, b.open()} {
		if got, err := again.Put(t.Context(), id, randomShare()); err != nil || got != first {
			t.Errorf("repeat: %v, same share %v", err, got == first)
		}
	}
	// The store hid the record from this one; create-only still decides.
	b.w.withhold = func(name string) bool { return strings.Contains(name, "/record/") }
	blind := b.open()
	b.w.withhold = nil
	if got, err := blind.Put(t.Context(), id, randomShare()); err != nil || got != first {
		t.Errorf("blind repeat: %v, same share %v", err, got == first)
	}
}

func TestConcurrentPutsOfOneIDAgree(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	var mu sync.Mutex
	got := map[Share]bool{}
	var putters sync.WaitGroup
	for range 16 {
		putters.Go(func() {
			share, err := tree.Put(t.Context(), shareID(1, 1), randomShare())
			mu.Lock()
			defer mu.Unlock()
			got[share] = true
			if err != nil {
				t.Error(err)
			}
		})
	}
	putters.Wait()
	if len(got) != 1 {
		t.Errorf("%d different shares for one id", len(got))
	}
}

func TestOpenTellsProgress(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	for user := range byte(50) {
		b.mustPut(tree, shareID(user+1, 1))
	}
	b.commit(tree)
	var mu sync.Mutex
	most, of := uint64(0), uint64(0)
	b.cfg.Progress = func(loaded, total uint64) {
		mu.Lock()
		defer mu.Unlock()
		most, of = max(most, loaded), total
	}
	b.open()
	if most != 50 || of != 50 {
		t.Errorf("told %d of %d, want all 50", most, of)
	}
}

func TestPutRefuses(t *testing.T) {
	b := newBench(t)
	fresh := b.open()
	if _, err := fresh.Put(t.Context(), shareID(1, 1), randomShare()); err == nil {
		t.Error("put before the first commit")
	}
	tree := b.start()
	newer := shareID(1, 1)
	newer.WrapVersion = 2
	for name, c := range map[string]struct {
		id    ShareID
		share Share
	}{
		"zero share":          {shareID(1, 1), Share{}},
		"epoch 0":             {shareID(1, 0), randomShare()},
		"zero user":           {ShareID{Epoch: 1, WrapVersion: 1}, randomShare()},
		"unknown wrap number": {newer, randomShare()},
	} {
		if _, err := tree.Put(t.Context(), c.id, c.share); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b.mustPut(tree, shareID(2, 1))
	b.erase(tree, shareID(2, 1))
	if _, err := tree.Put(t.Context(), shareID(2, 1), randomShare()); !errors.Is(err, ErrErasing) {
		t.Errorf("put of a marked share: %v, want ErrErasing", err)
	}
}

func TestCommitStopsWhenALiveShareIsMissing(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1), shareID(2, 1))
	b.commit(tree)
	before := b.w.row
	b.live[shareID(9, 1)] = true
	b.erase(tree, shareID(1, 1))
	if err := tree.Commit(t.Context()); !errors.Is(err, ErrMissing) {
		t.Fatalf("Commit: %v, want ErrMissing", err)
	}
	if b.w.row != before || len(b.anchor.roots) != 1 {
		t.Error("something was committed or staged")
	}
	delete(b.live, shareID(9, 1))
	b.commit(tree)
	if !tree.Erased(shareID(1, 1).User, 1) {
		t.Error("the mark was lost")
	}
	b.checkGone("after the alarm")
}

func TestCommitRefusesToEraseALiveShare(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1))
	tree.Erase(shareID(1, 1))
	if err := tree.Commit(t.Context()); !errors.Is(err, ErrLive) {
		t.Fatalf("Commit: %v, want ErrLive", err)
	}
	b.commit(tree)
	b.checkKept(tree, "after refusing")
}

// The store hides the record of a share that is to be erased. Erased must not
// say true while the anchor's root still opens that record.
func TestErasedWaitsForACommitOfThisProcess(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	id := shareID(1, 1)
	b.mustPut(tree, id)
	b.w.withhold = func(name string) bool { return strings.Contains(name, "/record/") }
	blind := b.open()
	b.erase(blind, id)
	if blind.Erased(id.User, id.Epoch) {
		t.Error("Erased is true while the record opens")
	}
	b.commit(blind)
	if !blind.Erased(id.User, id.Epoch) {
		t.Error("Erased stays false after a commit")
	}
	b.checkGone("record withheld")
}

func TestFailedPutIsNotErasedUntilItsRootIsGone(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(2, 1))
	b.commit(tree) // this process made the current root
	id := shareID(1, 1)
	b.w.restart(1, true) // the record lands, the answer is lost
	share := randomShare()
	if _, err := tree.Put(t.Context(), id, share); !errors.Is(err, errCrashed) {
		t.Fatalf("Put: %v", err)
	}
	b.w.restart(0, false)
	b.erased[id] = share
	if tree.Erased(id.User, id.Epoch) {
		t.Error("Erased is true while the record opens")
	}
	b.erase(tree, id)
	b.commit(tree)
	if !tree.Erased(id.User, id.Epoch) {
		t.Error("Erased stays false")
	}
	b.checkGone("unknown put")
}

func TestCommitThatLandsAfterARestart(t *testing.T) {
	for _, landsBefore := range []bool{true, false} {
		b := newBench(t)
		tree := b.start()
		b.mustPut(tree, shareID(1, 1), shareID(2, 1), shareID(5, 1))
		b.commit(tree)
		b.mustPut(tree, shareID(6, 1))
		b.erase(tree, shareID(1, 1))
		b.w.late = true
		if err := tree.Commit(t.Context()); err == nil {
			t.Fatal("a timed-out commit succeeded")
		}
		b.w.late = false
		b.mustPut(tree, shareID(7, 1)) // under both roots
		if landsBefore {
			b.w.inFlight()
		}
		again := b.open()
		b.checkKept(again, "reopened")
		b.mustPut(again, shareID(8, 1))
		if !landsBefore {
			b.w.inFlight()
		}
		third := b.open()
		b.checkKept(third, "reopened twice")
		b.erase(third, shareID(1, 1))
		b.commit(third)
		b.checkKept(third, "finished")
		b.checkKept(b.open(), "finished, reopened")
		if !third.Erased(shareID(1, 1).User, 1) {
			t.Error("not erased in the end")
		}
		b.checkGone(fmt.Sprint("lands before ", landsBefore))
	}
}

func TestRecordOfADestroyedEpochIsNotSalvaged(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	dead, kept := shareID(1, 1), shareID(2, 1)
	b.mustPut(tree, dead, kept)
	b.erase(tree, dead, kept)
	b.w.late = true
	_ = tree.Commit(t.Context())
	b.w.late = false
	b.w.inFlight()
	b.w.dead[dead.User.String()+dead.Epoch.String()] = true
	again := b.open()
	if _, ok := again.Get(dead); ok {
		t.Error("record of a destroyed epoch came back")
	}
	if _, ok := again.Get(kept); !ok {
		t.Error("record of an epoch not proven destroyed was dropped")
	}
}

func TestOpenFailsClosed(t *testing.T) {
	start := func() *bench {
		b := newBench(t)
		tree := b.start()
		b.mustPut(tree, shareID(1, 1), shareID(2, 1))
		b.commit(tree)
		return b
	}
	first := func(b *bench, part string) string {
		for _, name := range slices.Sorted(maps.Keys(b.w.objects)) {
			if strings.Contains(name, part) {
				return name
			}
		}
		t.Fatalf("no object %s", part)
		return ""
	}
	for _, c := range []struct {
		name  string
		spoil func(b *bench)
		want  error
	}{
		{"store down", func(b *bench) { b.w.down = true }, errUnavailable},
		{"index lost", func(b *bench) { delete(b.w.objects, first(b, "/index/")) }, ErrNoRoot},
		{"index altered", func(b *bench) { b.w.objects[first(b, "/index/")][30] ^= 1 }, ErrTampered},
		{"index header", func(b *bench) { b.w.objects[first(b, "/index/")][0] ^= 1 }, ErrTampered},
		{"shard lost", func(b *bench) { delete(b.w.objects, first(b, "/shard/")) }, ErrNotFound},
		{"shard altered", func(b *bench) { b.w.objects[first(b, "/shard/")][30] ^= 1 }, ErrTampered},
		{"root lost", func(b *bench) { b.anchor.roots = nil }, ErrNoRoot},
		{"other root", func(b *bench) { b.anchor.roots = []Root{{9}} }, ErrNoRoot},
		{"other index on the chain", func(b *bench) { b.w.row.IndexHash[0] ^= 1 }, ErrDiverged},
		{"older row", func(b *bench) { b.w.row.Generation-- }, ErrNoRoot},
		{"row below the floor", func(b *bench) { b.w.height = 1 }, ErrDiverged},
		{"older term", func(b *bench) { b.w.row.Term = 0 }, ErrDiverged},
	} {
		b := start()
		c.spoil(b)
		if _, err := Open(t.Context(), b.cfg); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestStagedRootWithoutItsIndexIsKept(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1))
	b.w.late = true
	_ = tree.Commit(t.Context())
	b.w.late = false
	b.w.withhold = func(name string) bool { return strings.Contains(name, "/index/00000000000000000002/") }
	blind := b.open()
	b.checkKept(blind, "staged index withheld")
	if err := blind.Commit(t.Context()); !errors.Is(err, ErrNoRoot) {
		t.Errorf("Commit: %v, want ErrNoRoot", err)
	}
	b.mustPut(blind, shareID(2, 1))
	b.w.withhold = nil
	b.w.inFlight()
	again := b.open()
	b.checkKept(again, "index back")
	b.commit(again)
	b.checkKept(again, "committed")
}

func TestNewShieldingKeyTakesEffectWithACommit(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1), shareID(2, 1))
	b.commit(tree)
	b.cfg.Version = 2
	tree = b.open()
	second := shareID(1, 1)
	second.WrapVersion = 2
	b.mustPut(tree, second)
	b.commit(tree)
	b.cfg.Shielding = func(version uint32) ([32]byte, error) {
		if version == 1 {
			return [32]byte{}, errors.New("gone")
		}
		return shieldingKey(version)
	}
	b.checkKept(b.open(), "without the old shielding key")
	b.erase(tree, shareID(1, 1))
	b.commit(tree)
	if tree.Erased(second.User, 1) {
		t.Error("Erased although wrap version 2 is held")
	}
	b.checkKept(tree, "after erasing wrap version 1")
	b.checkGone("wrap version 1")
}

func TestLostShardObjectIsWrittenAnew(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	b.mustPut(tree, shareID(1, 1), shareID(2, 1))
	b.commit(tree)
	for name := range maps.Clone(b.w.objects) {
		if strings.Contains(name, "/shard/01/") {
			delete(b.w.objects, name)
		}
	}
	b.mustPut(tree, shareID(6, 1)) // touches shard 2 only
	b.commit(tree)
	b.checkKept(b.open(), "healed")
}

func TestNoObjectIsRewritten(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	for user := range byte(8) {
		b.mustPut(tree, shareID(user, 1))
		if user > 2 {
			b.erase(tree, shareID(user-2, 1))
		}
		b.commit(tree)
		tree = b.open()
	}
	for name, versions := range b.w.ever {
		if len(versions) != 1 {
			t.Errorf("%s has %d versions", name, len(versions))
		}
	}
	if len(b.w.ever) < 20 {
		t.Errorf("only %d objects: the test proves nothing", len(b.w.ever))
	}
}

func TestReadersDuringCommits(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	for user := range byte(40) {
		b.mustPut(tree, shareID(user, 1))
	}
	b.commit(tree)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for user := range byte(40) {
					if got, ok := tree.Get(shareID(user, 1)); !ok || got != b.want[shareID(user, 1)] {
						t.Errorf("user %d: not readable during a commit", user)
						return
					}
				}
			}
		})
	}
	var wanted sync.WaitGroup
	wanted.Go(func() {
		for epoch := range agentkeys.Epoch(30) {
			if _, err := tree.Put(t.Context(), shareID(200, epoch+1), randomShare()); err != nil {
				t.Error(err)
			}
		}
	})
	for epoch := range agentkeys.Epoch(10) {
		tree.Erase(shareID(100, epoch+1))
		b.commit(tree)
	}
	wanted.Wait()
	close(stop)
	readers.Wait()
	again := b.open()
	for epoch := range agentkeys.Epoch(30) {
		if _, ok := again.Get(shareID(200, epoch+1)); !ok {
			t.Errorf("share put during a commit is gone: epoch %d", epoch+1)
		}
	}
}

func TestErasedSharesAndKeysAreZeroedInMemory(t *testing.T) {
	b := newBench(t)
	tree := b.start()
	id := shareID(1, 1)
	b.mustPut(tree, id, shareID(2, 1))
	b.commit(tree)
	shard := &tree.shares.shards[id.shard()]
	slot := &shard.chunks[0][shard.at[id]]
	if *slot != b.want[id] {
		t.Fatal("looking at the wrong place")
	}
	old := tree.now
	b.erase(tree, id)
	b.commit(tree)
	if *slot != (Share{}) {
		t.Error("share is still in memory")
	}
	if *old != (generation{}) {
		t.Error("old root and keys are still in memory")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	share, root := Share{0xab, 0xcd}, Root{0xab, 0xcd}
	for _, verb := range []string{"%v", "%x", "%d", "%s", "%#v", "%q", "%+v"} {
		for _, got := range []string{fmt.Sprintf(verb, share), fmt.Sprintf(verb, root), fmt.Sprintf(verb, []Share{share})} {
			if strings.Contains(strings.ToLower(got), "abcd") || strings.Contains(got, "171") || !strings.Contains(got, redacted) {
				t.Errorf("%s prints %q", verb, got)
			}
		}
	}
}
