// Package thief is the adversary who kept everything: every block, every object
// version ever, and who then gets today's master seed and the anchor. It opens what
// can be opened with that, by the vault's own code. A vault keeps its promise when
// exactly the live epochs open; a test of it can fail, because the same thief with
// an anchor copied before the erasure opens more.
package thief

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
)

// Recorder copies every object that ever appears under a directory of the
// development store. Objects are never rewritten, so one copy of each name is all
// there ever was.
type Recorder struct {
	dir string

	mu      sync.Mutex
	objects map[string][]byte
}

// NewRecorder watches the bucket's directory.
func NewRecorder(dir string) *Recorder { return &Recorder{dir: dir, objects: map[string][]byte{}} }

// Run copies until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		r.Copy()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(15 * time.Millisecond):
		}
	}
}

// Copy takes what is there now. A file that vanishes meanwhile was seen before or
// never acknowledged.
func (r *Recorder) Copy() {
	_ = filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.IsDir() && strings.HasPrefix(d.Name(), ".sgwtmp") {
				return filepath.SkipDir
			}
			return nil
		}
		name, err := filepath.Rel(r.dir, path)
		if err != nil {
			return nil
		}
		r.mu.Lock()
		_, have := r.objects[name]
		r.mu.Unlock()
		if have {
			return nil
		}
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
			r.mu.Lock()
			r.objects[name] = b
			r.mu.Unlock()
		}
		return nil
	})
}

// Objects gives a copy of everything recorded.
func (r *Recorder) Objects() map[string][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string][]byte, len(r.objects))
	for k, v := range r.objects {
		out[k] = v
	}
	return out
}

// Statements reads every statement of every block: the chain forgets nothing.
func Statements(ctx context.Context, rpc string) (out []statement.Signed, err error) {
	n, err := ledger.NewNode(rpc)
	if err != nil {
		return nil, err
	}
	st, err := n.Status(ctx)
	if err != nil {
		return nil, err
	}
	for h := uint64(1); h <= st.Height; h++ {
		b, err := n.Block(ctx, h)
		if err != nil {
			return nil, err
		}
		for _, tx := range b.Txs {
			wires, err := ledger.Statements(tx)
			if err != nil {
				continue // a transaction of the authority
			}
			for _, w := range wires {
				if s, err := statement.Parse(w); err == nil {
					out = append(out, s)
				}
			}
		}
	}
	return out, nil
}

// Loot is what the thief has.
type Loot struct {
	Vault      agentkeys.VaultID
	Statements []statement.Signed
	Objects    map[string][]byte
	Seed       seed.Seed
	Anchors    map[erasure.AnchorID]string // directories of file anchors, or copies of them
}

// Count is how many envelopes of an epoch there ever were, and how many open.
type Count struct{ Ever, Open int }

// Open tries every key it can derive against every envelope of a user.
func (l Loot) Open(ctx context.Context, user agentkeys.Wallet) (map[agentkeys.Epoch]Count, error) {
	shares, err := l.shares(ctx)
	if err != nil {
		return nil, err
	}
	out := map[agentkeys.Epoch]Count{}
	for name, b := range l.Objects {
		at, ok := l.place(user, name)
		if !ok {
			continue
		}
		c := out[at.Epoch]
		c.Ever++
		if l.opens(at, b, shares) {
			c.Open++
		}
		out[at.Epoch] = c
	}
	return out, nil
}

// made is every data key of a user's epoch as the chain ever had it, wrapped.
func (l Loot) made(user agentkeys.Wallet, epoch agentkeys.Epoch) (all []receipt.Made) {
	for _, s := range l.Statements {
		switch b := s.Body.(type) {
		case statement.OpenEpoch:
			all = append(all, b.Receipt)
		case statement.RewrapDEK:
			all = append(all, receipt.Made{User: b.Receipt.User, Epoch: b.Receipt.Epoch, DEKID: b.Receipt.DEKID, Wrapped: b.Receipt.Wrapped})
		}
	}
	return slices.DeleteFunc(all, func(m receipt.Made) bool { return m.User != user || m.Epoch != epoch })
}

// opens tries every wrapped data key of the epoch with every share of it.
func (l Loot) opens(at envelope.Place, b []byte, shares map[erasure.ShareID]erasure.Share) bool {
	for _, m := range l.made(at.User, at.Epoch) {
		version := agentkeys.NewReader(m.Wrapped[:4]).U32()
		share, ok := shares[erasure.ShareID{User: at.User, Epoch: at.Epoch, WrapVersion: version}]
		if !ok {
			continue
		}
		shielding, err := l.Seed.ShieldingKey(l.Vault, version)
		if err != nil {
			continue
		}
		wk, err := seed.DeriveWrappingKey(l.Vault, shielding, agentkeys.NewSecret(share[:]), at.User, at.Epoch, version)
		if err != nil {
			continue
		}
		dek, err := wk.Unwrap(l.Vault, m.DEKID, m.Wrapped)
		if err != nil {
			continue
		}
		if _, err := envelope.Open(l.Vault, dek, m.DEKID, at, b); err == nil {
			return true
		}
	}
	return false
}

// place finds where an envelope belonged: its blob id is in the statement that
// registered or moved it.
func (l Loot) place(user agentkeys.Wallet, name string) (p envelope.Place, ok bool) {
	parts := strings.Split(strings.TrimSuffix(name, ".enc"), "/")
	if len(parts) != 4 || parts[0] != user.String() {
		return p, false
	}
	blob, err := agentkeys.ParseBlobID(parts[3])
	if err != nil {
		return p, false
	}
	for _, s := range l.Statements {
		switch b := s.Body.(type) {
		case statement.RegisterBlob:
			if b.Blob == blob {
				return envelope.Place{User: user, Service: b.Service, Agent: b.Agent, Epoch: b.Epoch, Blob: blob, Version: b.PreviousVersion + 1}, true
			}
		case statement.RotateBlobs:
			for _, r := range b.Receipt.Rows {
				if r.NewBlob == blob {
					return envelope.Place{User: user, Service: r.Service, Agent: r.Agent, Epoch: b.Receipt.To, Blob: blob, Version: r.Version}, true
				}
			}
		}
	}
	return p, false
}

// shares opens every generation of the trees that the chain ever named with the
// roots that the anchors hold.
func (l Loot) shares(ctx context.Context) (map[erasure.ShareID]erasure.Share, error) {
	anchors := map[erasure.AnchorID]*erasure.FileAnchor{}
	for id, dir := range l.Anchors {
		anchors[id] = erasure.NewFileAnchor(dir)
	}
	out := map[erasure.ShareID]erasure.Share{}
	opened := 0
	var last error
	for _, s := range l.Statements {
		c, ok := s.Body.(statement.CommitTree)
		id := erasure.AnchorID(c.Anchor)
		anchor := anchors[id]
		if !ok || anchor == nil {
			continue
		}
		row := erasure.Row{Generation: c.Previous + 1, Term: c.Term, IndexHash: c.IndexHash, Height: 1 << 60}
		tree, err := erasure.Open(ctx, erasure.Config{Vault: l.Vault, ID: id, Objects: memory(l.Objects), Anchor: readOnly{anchor},
			Chain: kept{row}, Version: 1, Shielding: l.shielding, Live: func(context.Context, func(erasure.ShareID) error) error { return nil }})
		if err != nil {
			last = err
			continue // its root is gone
		}
		opened++
		for id := range tree.IDs() {
			if share, ok := tree.Get(id); ok {
				out[id] = share
			}
		}
	}
	if opened == 0 {
		return nil, fmt.Errorf("thief: not even one tree opens, so this shows nothing: %w", last)
	}
	return out, nil
}

func (l Loot) shielding(version uint32) ([32]byte, error) {
	k, err := l.Seed.ShieldingKey(l.Vault, version)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(k.Reveal()), nil
}

// memory is the recorded objects as a store that takes nothing new.
type memory map[string][]byte

func (m memory) Put(context.Context, string, []byte) error { return nil }

func (m memory) Get(_ context.Context, name string) ([]byte, error) {
	if b, ok := m[name]; ok {
		return append([]byte(nil), b...), nil
	}
	return nil, erasure.ErrNotFound
}

func (m memory) List(_ context.Context, prefix string) (names []string, err error) {
	for n := range m {
		if strings.HasPrefix(n, prefix) {
			names = append(names, n)
		}
	}
	return names, nil
}

func (m memory) Delete(context.Context, string) error { return nil }

// readOnly keeps the thief from harming the anchor.
type readOnly struct{ a *erasure.FileAnchor }

func (r readOnly) Roots(ctx context.Context) ([]erasure.Root, error) { return r.a.Roots(ctx) }
func (r readOnly) Stage(context.Context, erasure.Root) error         { return nil }
func (r readOnly) Destroy(context.Context, erasure.Root) error       { return nil }

// kept says that no epoch was destroyed, so that the tree hides nothing.
type kept struct{ row erasure.Row }

func (k kept) Anchor(context.Context, erasure.AnchorID) (erasure.Row, error) { return k.row, nil }

func (k kept) CommitTree(context.Context, erasure.AnchorID, uint64, uint64, agentkeys.Hash) (erasure.Row, error) {
	return k.row, nil
}

func (k kept) Destroyed(context.Context, agentkeys.Wallet, agentkeys.Epoch) (bool, error) {
	return false, nil
}

// ReadSeed reads the custodian's software-sealed seed, as root can.
func ReadSeed(home string) (seed.Seed, error) {
	b, err := os.ReadFile(filepath.Join(home, "seed.dev"))
	if err != nil {
		return seed.Seed{}, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	h, err := agentkeys.ParseHash(lines[len(lines)-1])
	return seed.Seed{Secret: agentkeys.NewSecret(h[:])}, err
}
