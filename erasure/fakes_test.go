package erasure

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.org/agentkeys"
)

var (
	errCrashed     = errors.New("process: crashed")
	errUnavailable = errors.New("store: unavailable")
)

// power counts every call that leaves the process. At the call numbered dieAt the
// process dies: before the call takes effect, or after it but before the answer.
type power struct {
	mu    sync.Mutex
	calls int
	dieAt int // 0 = never
	after bool
}

// use runs effect unless the process is dead.
func (p *power) use(effect func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.dieAt != 0 && (p.calls > p.dieAt || p.calls == p.dieAt && !p.after) {
		return errCrashed
	}
	err := effect()
	if p.dieAt != 0 && p.calls == p.dieAt {
		return errCrashed
	}
	return err
}

func (p *power) restart(dieAt int, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.dieAt, p.after = 0, dieAt, after
}

// world is everything outside the process. ever keeps each version of each object
// that was written, deleted or not: what a thief may have.
type world struct {
	power
	objects map[string][]byte
	ever    map[string][][]byte
	row     Row
	height  uint64
	dead    map[string]bool // epochs proven destroyed

	withhold func(name string) bool // lie: not there
	replay   bool                   // lie: deleted objects are back
	down     bool                   // unavailable
	inFlight func()                 // if set, CommitTree times out and leaves its effect here
	late     bool
}

func newWorld() *world {
	return &world{objects: map[string][]byte{}, ever: map[string][][]byte{}, dead: map[string]bool{}, height: 10}
}

type fakeObjects struct{ w *world }

func (o fakeObjects) Put(_ context.Context, name string, object []byte) error {
	return o.w.use(func() error {
		if o.w.down {
			return errUnavailable
		}
		if _, ok := o.w.objects[name]; ok {
			return fmt.Errorf("put: %w", ErrExists)
		}
		o.w.objects[name] = bytes.Clone(object)
		o.w.ever[name] = append(o.w.ever[name], bytes.Clone(object))
		return nil
	})
}

func (o fakeObjects) Get(_ context.Context, name string) (out []byte, err error) {
	err = o.w.use(func() error {
		if o.w.down {
			return errUnavailable
		}
		object, ok := o.w.objects[name]
		if o.w.replay && !ok && len(o.w.ever[name]) > 0 {
			object, ok = o.w.ever[name][0], true
		}
		if !ok || o.w.withhold != nil && o.w.withhold(name) {
			return fmt.Errorf("get: %w", ErrNotFound)
		}
		out = bytes.Clone(object)
		return nil
	})
	return out, err
}

func (o fakeObjects) List(_ context.Context, prefix string) (names []string, err error) {
	err = o.w.use(func() error {
		if o.w.down {
			return errUnavailable
		}
		all := slices.Collect(maps.Keys(o.w.objects))
		if o.w.replay {
			all = slices.Collect(maps.Keys(o.w.ever))
		}
		for _, name := range all {
			if strings.HasPrefix(name, prefix) && (o.w.withhold == nil || !o.w.withhold(name)) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

func (o fakeObjects) Delete(_ context.Context, name string) error {
	return o.w.use(func() error {
		delete(o.w.objects, name)
		return nil
	})
}

// fakeAnchor is an erasable place in memory.
type fakeAnchor struct {
	w     *world
	roots []Root
}

func (a *fakeAnchor) Roots(context.Context) (out []Root, err error) {
	err = a.w.use(func() error { out = slices.Clone(a.roots); return nil })
	return out, err
}

func (a *fakeAnchor) Stage(_ context.Context, root Root) error {
	return a.w.use(func() error {
		if slices.Contains(a.roots, root) {
			return nil
		}
		if len(a.roots) == 2 {
			return errors.New("anchor: full")
		}
		a.roots = append(a.roots, root)
		return nil
	})
}

func (a *fakeAnchor) Destroy(_ context.Context, root Root) error {
	return a.w.use(func() error {
		at := slices.Index(a.roots, root)
		if at < 0 {
			return nil
		}
		if len(a.roots) == 1 {
			return errors.New("anchor: only root")
		}
		a.roots = slices.Delete(a.roots, at, at+1)
		return nil
	})
}

// keeperAnchor breaks its promise: a destroyed root stays in kept.
type keeperAnchor struct {
	*fakeAnchor
	kept []Root
}

func (a *keeperAnchor) Destroy(ctx context.Context, root Root) error {
	a.kept = append(a.kept, root)
	return a.fakeAnchor.Destroy(ctx, root)
}

// lazyAnchor says that it destroyed a root and does not.
type lazyAnchor struct{ *fakeAnchor }

func (lazyAnchor) Destroy(context.Context, Root) error { return nil }

type fakeChain struct{ w *world }

func (c fakeChain) Anchor(context.Context, AnchorID) (row Row, err error) {
	err = c.w.use(func() error {
		c.w.height++
		row = c.w.row
		row.Height = c.w.height
		return nil
	})
	return row, err
}

func (c fakeChain) CommitTree(_ context.Context, _ AnchorID, term, previous uint64, index agentkeys.Hash) (row Row, err error) {
	err = c.w.use(func() error {
		apply := func() error {
			if c.w.row.Generation == previous+1 && c.w.row.IndexHash == index {
				return nil
			}
			if c.w.row.Generation != previous || c.w.row.Term != term {
				return errors.New("chain: generation or term does not match")
			}
			c.w.height++
			c.w.row = Row{Generation: previous + 1, Term: term, Height: c.w.height, IndexHash: index}
			return nil
		}
		if c.w.late {
			c.w.inFlight = func() { _ = apply() }
			return errors.New("chain: timeout, outcome unknown")
		}
		if err := apply(); err != nil {
			return err
		}
		row = c.w.row
		return nil
	})
	return row, err
}

func (c fakeChain) Destroyed(_ context.Context, user agentkeys.Wallet, epoch agentkeys.Epoch) (dead bool, err error) {
	err = c.w.use(func() error { dead = c.w.dead[user.String()+epoch.String()]; return nil })
	return dead, err
}

// bench is one anchor with its world and what the rows say is live.
type bench struct {
	t      testing.TB
	w      *world
	cfg    Config
	anchor *fakeAnchor
	live   map[ShareID]bool
	want   map[ShareID]Share // acknowledged puts, not asked to be erased
	erased map[ShareID]Share // asked to be erased

	reported map[ShareID]bool // of those, what Erased called erased
}

func shieldingKey(version uint32) ([32]byte, error) {
	return [32]byte{31: byte(version), 0: 0x5e}, nil
}

func newBench(t testing.TB) *bench {
	b := &bench{t: t, w: newWorld(), live: map[ShareID]bool{}, want: map[ShareID]Share{}, erased: map[ShareID]Share{}, reported: map[ShareID]bool{}}
	b.anchor = &fakeAnchor{w: b.w}
	b.w.row.Term = 1
	b.cfg = Config{
		Vault: agentkeys.VaultID{1}, ID: AnchorID{2}, Objects: fakeObjects{b.w}, Anchor: b.anchor,
		Chain: fakeChain{b.w}, Version: 1, Shielding: shieldingKey,
		Live: func(_ context.Context, visit func(ShareID) error) error {
			for id := range b.live {
				if err := visit(id); err != nil {
					return err
				}
			}
			return nil
		},
	}
	return b
}

// start opens a tree with its first generation committed.
func (b *bench) start() *Tree {
	b.t.Helper()
	tree := b.open()
	b.commit(tree)
	return tree
}

func (b *bench) open() *Tree {
	b.t.Helper()
	tree, err := Open(b.t.Context(), b.cfg)
	if err != nil {
		b.t.Fatalf("Open: %v", err)
	}
	return tree
}

func (b *bench) commit(tree *Tree) {
	b.t.Helper()
	if err := tree.Commit(b.t.Context()); err != nil {
		b.t.Fatalf("Commit: %v", err)
	}
}

// put stores a share that the rows call live.
func (b *bench) put(tree *Tree, id ShareID) error {
	stored, err := tree.Put(b.t.Context(), id, randomShare())
	if err == nil {
		b.want[id] = stored
		b.live[id] = true
	}
	return err
}

func (b *bench) mustPut(tree *Tree, ids ...ShareID) {
	b.t.Helper()
	for _, id := range ids {
		if err := b.put(tree, id); err != nil {
			b.t.Fatalf("Put: %v", err)
		}
	}
}

// add has shares written by one commit, which is when the rows may name them.
func (b *bench) add(tree *Tree, ids ...ShareID) error {
	for _, id := range ids {
		if err := tree.Add(id, randomShare()); err != nil {
			return err
		}
	}
	if err := tree.Commit(b.t.Context()); err != nil {
		return err
	}
	for _, id := range ids {
		share, ok := tree.Get(id)
		if !ok {
			b.t.Errorf("share %s is not there after the commit that adds it", id)
		}
		b.want[id], b.live[id] = share, true
	}
	return nil
}

// wrapped is a share beneath another shielding key.
func wrapped(user byte, version uint32) ShareID {
	id := shareID(user, 1)
	id.WrapVersion = version
	return id
}

func (b *bench) erase(tree *Tree, ids ...ShareID) {
	for _, id := range ids {
		if share, ok := b.want[id]; ok {
			b.erased[id] = share
		}
		delete(b.want, id)
		delete(b.live, id)
	}
	tree.Erase(ids...)
}

// checkKept fails if an acknowledged share is gone or changed.
func (b *bench) checkKept(tree *Tree, when string) {
	b.t.Helper()
	for id, want := range b.want {
		if got, ok := tree.Get(id); !ok || got != want {
			b.t.Errorf("%s: live share %s lost (found %v)", when, id, ok)
		}
	}
}

func (b *bench) thief() thief {
	return thief{b.w.ever, place{b.cfg.Vault, b.cfg.ID}, b.w.row.Generation + 2, b.cfg.Version + 1}
}

// checkGone fails if a share that was asked to be erased can still be had by
// whoever holds the anchor, the shielding keys and all objects ever written.
func (b *bench) checkGone(when string, more ...Root) {
	b.t.Helper()
	loot := b.thief().steal(append(slices.Clone(b.anchor.roots), more...))
	for id, share := range b.erased {
		if loot[share] {
			b.t.Errorf("%s: thief has the erased share %s", when, id)
		}
	}
	for id, share := range b.want {
		if !loot[share] {
			b.t.Errorf("%s: thief without the live share %s: the thief is too weak to prove anything", when, id)
		}
	}
}

func randomShare() (s Share) {
	rand.Read(s[:])
	return s
}

func shareID(user byte, epoch agentkeys.Epoch) ShareID {
	return ShareID{User: agentkeys.Wallet{0: 1, 18: user, 19: user & 3}, Epoch: epoch, WrapVersion: 1}
}

// thief knows the format, every object ever and every shielding key. It needs no
// chain: any index that opens gives shard keys, any shard key is tried on any
// shard object.
type thief struct {
	ever     map[string][][]byte
	p        place
	newest   uint64 // generation
	versions uint32
}

func (x thief) steal(roots []Root) map[Share]bool {
	loot := map[Share]bool{}
	keys := map[[32]byte]bool{}
	for _, root := range roots {
		for number := uint64(0); number <= x.newest; number++ {
			for version := uint32(1); version <= x.versions; version++ {
				shielding, _ := shieldingKey(version)
				x.tryGeneration(newGeneration(x.p, number, version, root, shielding), keys, loot)
			}
		}
	}
	for _, object := range x.all("/shard/") {
		for n := range 4 { // the shards that shareID uses
			for key := range keys {
				if plain, err := shardFrame(x.p, byte(n)).open(key, object); err == nil {
					entries, err := parseShard(byte(n), plain)
					if err != nil {
						panic(err)
					}
					for _, e := range entries {
						loot[e.share] = true
					}
				}
			}
		}
	}
	return loot
}

func (x thief) tryGeneration(g *generation, keys map[[32]byte]bool, loot map[Share]bool) {
	for _, object := range x.all("/index/") {
		if g.openIndex(object) == nil {
			for _, ref := range g.index.shards {
				if ref.shares != 0 {
					keys[ref.key] = true
				}
			}
		}
	}
	for name, versions := range x.ever {
		if !strings.Contains(name, "/record/") {
			continue
		}
		var rid [16]byte
		_, _ = hex.Decode(rid[:], []byte(name[len(name)-32:]))
		for _, object := range versions {
			if plain, err := g.recordFrame(rid).open(g.recordKey, object); err == nil {
				e, err := parseRecord(plain)
				if err != nil {
					panic(err)
				}
				loot[e.share] = true
			}
		}
	}
}

func (x thief) all(part string) (objects [][]byte) {
	for name, versions := range x.ever {
		if strings.Contains(name, part) {
			objects = append(objects, versions...)
		}
	}
	return objects
}
