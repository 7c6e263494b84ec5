package erasure

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"example.org/agentkeys"
)

// Open loads every live share into memory. The chain's generation picks the root.
// It destroys nothing and commits nothing: a commit that was cut short is finished
// by the next Commit, which the caller should not put off, because until then the
// old root still opens what was to be erased. A new anchor (generation 0) has an
// empty tree that takes puts after its first Commit.
func Open(ctx context.Context, cfg Config) (*Tree, error) {
	t := &Tree{
		cfg:    cfg,
		place:  place{cfg.Vault, cfg.ID},
		commit: make(chan struct{}, 1),
		marked: make(map[ShareID]struct{}),
		doubt:  make(map[ShareID]uint64),
	}
	row, err := cfg.Chain.Anchor(ctx, cfg.ID)
	if err != nil {
		return nil, fmt.Errorf("anchor row: %w", err)
	}
	agentkeys.Scrubbed(func() { err = t.open(ctx, row) })
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tree) open(ctx context.Context, row Row) error {
	if m, ok := t.cfg.Anchor.(Maker); ok && row.Generation == 0 {
		if err := m.Make(ctx); err != nil {
			return err
		}
	}
	if err := t.sortRoots(ctx, row); err != nil {
		return err
	}
	if row.Height < t.now.index.height || row.Term < t.now.index.term {
		return fmt.Errorf("%w: height %d is below the floor", ErrDiverged, row.Height)
	}
	t.cfg.Version = max(t.cfg.Version, t.now.version)
	t.opened = t.now.number
	if err := t.load(ctx, t.now, &t.shares); err != nil {
		return err
	}
	if t.old != nil {
		if err := t.salvage(ctx, t.old, t.now, &t.shares); err != nil {
			return err
		}
	}
	if t.next != nil {
		t.cfg.Version = max(t.cfg.Version, t.next.version)
		t.opened = t.next.number
		return t.lookAhead(ctx)
	}
	return nil
}

// sortRoots finds for each root in the anchor the generation it opens: the one
// that the chain names, the one staged after it, or the one to be destroyed.
func (t *Tree) sortRoots(ctx context.Context, row Row) error {
	roots, err := t.cfg.Anchor.Roots(ctx)
	defer clear(roots)
	if err != nil {
		return fmt.Errorf("anchor: roots: %w", err)
	}
	for i := range roots {
		g, err := t.find(ctx, &roots[i], row.Generation)
		switch {
		case err != nil:
			return err
		case g == nil:
			t.lost = true
		case g.number < row.Generation:
			t.old = g
		case g.number > row.Generation:
			t.next = g
		case g.hash != row.IndexHash:
			return fmt.Errorf("%w: index hash of generation %d", ErrDiverged, g.number)
		default:
			t.now = g
		}
	}
	if row.Generation == 0 {
		t.now = &generation{place: t.place}
	}
	if t.now == nil {
		return fmt.Errorf("%w: generation %d: restore the index object or evict anchor %s", ErrNoRoot, row.Generation, t.cfg.ID)
	}
	return nil
}

// find looks for the index of a root at, after and before a generation; nil means
// that the store has none. An unavailable store is an error: no guess.
func (t *Tree) find(ctx context.Context, root *Root, at uint64) (*generation, error) {
	tag := t.place.rootTag(root)
	numbers := []uint64{at, at + 1}
	if at > 0 {
		numbers = append(numbers, at-1)
	}
	for _, number := range numbers {
		object, err := t.cfg.Objects.Get(ctx, t.place.indexName(number, tag))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("share index: get: %w", err)
		}
		version, err := indexVersion(object)
		if err != nil {
			return nil, fmt.Errorf("share index: %w", err)
		}
		shielding, err := t.cfg.Shielding(version)
		if err != nil {
			return nil, fmt.Errorf("shielding key %d: %w", version, err)
		}
		g := newGeneration(t.place, number, version, *root, shielding)
		clear(shielding[:])
		return g, g.openIndex(object)
	}
	return nil, nil
}

// load reads the shards and records of a generation.
func (t *Tree) load(ctx context.Context, g *generation, into *memory) error {
	if g.number == 0 {
		return nil
	}
	var total uint64
	for n := range g.index.shards {
		total += uint64(g.index.shards[n].shares)
	}
	var loaded atomic.Uint64
	err := each(ctx, shardCount, func(ctx context.Context, n int) error {
		err := t.loadShard(ctx, g, byte(n), into)
		if now := loaded.Add(uint64(g.index.shards[n].shares)); err == nil && t.cfg.Progress != nil {
			t.cfg.Progress(now, total)
		}
		return err
	})
	if err != nil {
		return err
	}
	return t.eachRecord(ctx, g, func(_ context.Context, e entry) error {
		return remember(into, &e)
	})
}

func (t *Tree) loadShard(ctx context.Context, g *generation, n byte, into *memory) error {
	ref := &g.index.shards[n]
	if ref.shares == 0 {
		return nil
	}
	object, err := t.cfg.Objects.Get(ctx, t.place.shardName(n, ref.hash))
	if err != nil {
		return fmt.Errorf("share shard %02x: get: %w", n, err)
	}
	if sha256.Sum256(object) != ref.hash {
		return fmt.Errorf("share shard %02x: %w", n, ErrTampered)
	}
	plain, err := shardFrame(t.place, n).open(ref.key, object)
	if err != nil {
		return fmt.Errorf("share shard %02x: %w", n, err)
	}
	defer clear(plain)
	entries, err := parseShard(n, plain)
	defer clear(entries)
	if err == nil && len(entries) != int(ref.shares) {
		err = fmt.Errorf("share shard %02x: %w", n, ErrTampered)
	}
	for i := range entries {
		if err == nil {
			err = remember(into, &entries[i])
		}
	}
	return err
}

func remember(into *memory, e *entry) error {
	if !into.put(e.id, e.share) {
		return fmt.Errorf("%w: two shares for %s", ErrTampered, e.id)
	}
	return nil
}

// eachRecord visits the records of a generation that open. One that is withheld
// or broken is counted and passed over: if a live epoch needs it, Commit stops.
func (t *Tree) eachRecord(ctx context.Context, g *generation, visit func(context.Context, entry) error) error {
	prefix := t.place.recordPrefix(g.number, g.tag)
	names, err := t.cfg.Objects.List(ctx, prefix)
	if err != nil {
		return fmt.Errorf("share records: list: %w", err)
	}
	return each(ctx, len(names), func(ctx context.Context, i int) error {
		var rid [16]byte
		digits := strings.TrimPrefix(names[i], prefix)
		if len(digits) != 2*len(rid) {
			t.unreadable.Add(1)
			return nil
		}
		_, err := hex.Decode(rid[:], []byte(digits))
		var e entry
		if err == nil {
			e, err = t.getRecord(ctx, g, rid)
		}
		if err == nil && g.recordID(e.id) == rid {
			t.touch(g, e.id)
			defer clear(e.share[:])
			return visit(ctx, e)
		}
		var bad hex.InvalidByteError
		if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrTampered) || errors.As(err, &bad) {
			t.unreadable.Add(1)
			return nil
		}
		return err
	})
}

// salvage keeps a record that the newer generation lacks, unless its epoch is
// proven destroyed. It may bring back a share whose erasure was cut short; the
// rows then still ask for it to be erased.
func (t *Tree) salvage(ctx context.Context, from, to *generation, have *memory) error {
	var mu sync.Mutex
	var lacking []entry
	defer func() { clear(lacking) }()
	err := t.eachRecord(ctx, from, func(ctx context.Context, e entry) error {
		if have.has(e.id) {
			return nil
		}
		destroyed, err := t.cfg.Chain.Destroyed(ctx, e.id.User, e.id.Epoch)
		if err != nil {
			return fmt.Errorf("user row: %w", err)
		}
		if !destroyed {
			mu.Lock()
			defer mu.Unlock()
			lacking = append(lacking, e)
		}
		return nil
	})
	for i := range lacking {
		if err == nil {
			lacking[i].share, err = t.putRecord(ctx, to, lacking[i].id, lacking[i].share)
		}
		if err == nil {
			err = remember(have, &lacking[i])
		}
	}
	return err
}

// lookAhead compares with the staged generation, whose commit may be on its way
// to the chain: what it leaves out is being erased, the rest is kept under both.
func (t *Tree) lookAhead(ctx context.Context) error {
	var ahead memory
	defer ahead.wipe()
	if err := t.load(ctx, t.next, &ahead); err != nil {
		return err
	}
	if t.now.number != 0 {
		if err := t.salvage(ctx, t.now, t.next, &ahead); err != nil {
			return err
		}
	}
	t.erasing = make(map[ShareID]struct{})
	for id := range t.shares.ids() {
		if !ahead.has(id) {
			t.erasing[id] = struct{}{}
		}
	}
	for id := range ahead.ids() {
		share, _ := ahead.get(id)
		if err := remember(&t.shares, &entry{id, share}); err != nil {
			return err
		}
	}
	return nil
}
