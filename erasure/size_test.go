package erasure

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"example.org/agentkeys"
)

// manyID spreads users over all shards.
func manyID(n int) ShareID {
	id := ShareID{Epoch: 1, WrapVersion: 1}
	id.User[0] = 1
	binary.BigEndian.PutUint64(id.User[12:], uint64(n)*0x9e3779b97f4a7c15)
	return id
}

func TestAMillionSharesFitIn250MB(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	shares := new(memory)
	for n := range 1_000_000 {
		shares.put(manyID(n), Share{0: byte(n), 31: 1})
	}
	used := heap() - before
	t.Logf("%d MB", used>>20)
	if used > 250<<20 {
		t.Errorf("%d MB, want at most 250", used>>20)
	}
	for n := range 1_000_000 {
		if got, ok := shares.get(manyID(n)); !ok || got != (Share{0: byte(n), 31: 1}) {
			t.Fatalf("share %d: wrong or gone", n)
		}
	}
}

func TestMemoryReusesZeroedPlaces(t *testing.T) {
	var m memory
	for round := range 50 {
		for n := range 100 {
			m.put(shareID(4, agentkeys.Epoch(n+1)), Share{byte(round), 1})
		}
		for n := range 100 {
			m.remove(shareID(4, agentkeys.Epoch(n+1)))
		}
	}
	chunks := m.shards[0].chunks
	if len(chunks) != 2 {
		t.Errorf("%d chunks for 100 shares at a time, want 2", len(chunks))
	}
	for _, c := range chunks {
		if *c != ([chunkSize]Share{}) {
			t.Error("a removed share is still there")
		}
	}
}

// large is a tree with n shares in shards.
func large(b *testing.B, n int) (*bench, *Tree) {
	x := newBench(b)
	tree := x.start()
	for i := range n {
		tree.shares.put(manyID(i), Share{0: byte(i), 31: 1})
		tree.now.dirty[manyID(i).shard()] = true
	}
	x.commit(tree)
	return x, tree
}

func BenchmarkPut(b *testing.B) {
	_, tree := large(b, 0)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		if _, err := tree.Put(context.Background(), manyID(n), Share{1}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCommit1000Erasures(b *testing.B) {
	for _, size := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("of %d", size), func(b *testing.B) {
			x, tree := large(b, size)
			for b.Loop() {
				b.StopTimer()
				ids := make([]ShareID, 1000)
				for i := range ids {
					ids[i] = manyID(i)
					tree.shares.put(ids[i], Share{1})
				}
				clear(x.w.ever)
				tree.Erase(ids...)
				b.StartTimer()
				x.commit(tree)
			}
		})
	}
}

func BenchmarkOpen100000(b *testing.B) {
	x, _ := large(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		x.open()
	}
}
