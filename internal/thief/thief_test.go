package thief

import (
	"bytes"
	"context"
	"crypto/rand"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
)

// house is a vault small enough to see through: one user, one credential an epoch.
type house struct {
	t         *testing.T
	loot      Loot
	user      agentkeys.Wallet
	row       erasure.Row
	live      map[erasure.ShareID]bool
	mu        sync.Mutex // guards the objects
	ever      map[string][]byte
	tree      *erasure.Tree
	anchorDir string
}

// Put and the others are the object store; what was deleted stays in ever.
func (h *house) Put(_ context.Context, name string, b []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loot.Objects[name] = bytes.Clone(b)
	h.ever[name] = bytes.Clone(b)
	return nil
}

func (h *house) Get(ctx context.Context, name string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return memory(h.loot.Objects).Get(ctx, name)
}

func (h *house) List(ctx context.Context, prefix string) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return memory(h.loot.Objects).List(ctx, prefix)
}

func (h *house) Delete(_ context.Context, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.loot.Objects, name)
	return nil
}

// chain is the anchor's row.
type chain struct{ h *house }

func (c chain) Anchor(context.Context, erasure.AnchorID) (erasure.Row, error) { return c.h.row, nil }

func (c chain) CommitTree(_ context.Context, id erasure.AnchorID, term, previous uint64, index agentkeys.Hash) (erasure.Row, error) {
	c.h.row = erasure.Row{Generation: previous + 1, Term: term, IndexHash: index, Height: c.h.row.Height + 1}
	c.h.say(statement.CommitTree{Anchor: statement.AnchorID(id), Term: term, Previous: previous, IndexHash: index})
	return c.h.row, nil
}

func (c chain) Destroyed(_ context.Context, user agentkeys.Wallet, e agentkeys.Epoch) (bool, error) {
	return !c.h.live[erasure.ShareID{User: user, Epoch: e, WrapVersion: 1}], nil
}

func (h *house) say(b statement.Body) {
	h.loot.Statements = append(h.loot.Statements, statement.Signed{Body: b})
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, user: agentkeys.Wallet{7}, live: map[erasure.ShareID]bool{}, ever: map[string][]byte{}, anchorDir: filepath.Join(t.TempDir(), "anchor")}
	h.row = erasure.Row{Term: 1}
	h.loot = Loot{Vault: agentkeys.VaultID{1}, Objects: map[string][]byte{}, Seed: seed.New(), Anchors: map[erasure.AnchorID]string{{9}: h.anchorDir}}
	var err error
	h.tree, err = erasure.Open(t.Context(), erasure.Config{Vault: h.loot.Vault, ID: erasure.AnchorID{9}, Objects: h, Anchor: erasure.NewFileAnchor(h.anchorDir), Chain: chain{h},
		Version: 1, Shielding: h.loot.shielding, Live: func(_ context.Context, visit func(erasure.ShareID) error) error {
			for id := range h.live {
				if err := visit(id); err != nil {
					return err
				}
			}
			return nil
		}})
	if err == nil {
		err = h.tree.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// open makes an epoch with one credential in it.
func (h *house) open(e agentkeys.Epoch) {
	h.t.Helper()
	id := erasure.ShareID{User: h.user, Epoch: e, WrapVersion: 1}
	var share erasure.Share
	rand.Read(share[:])
	if _, err := h.tree.Put(h.t.Context(), id, share); err != nil {
		h.t.Fatal(err)
	}
	h.live[id] = true
	if err := h.tree.Commit(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	shielding, err := h.loot.Seed.ShieldingKey(h.loot.Vault, 1)
	if err != nil {
		h.t.Fatal(err)
	}
	wk, err := seed.DeriveWrappingKey(h.loot.Vault, shielding, agentkeys.NewSecret(bytes.Clone(share[:])), h.user, e, 1)
	if err != nil {
		h.t.Fatal(err)
	}
	dek := envelope.NewDEK()
	wrapped, err := wk.Wrap(h.loot.Vault, dek)
	if err != nil {
		h.t.Fatal(err)
	}
	h.say(statement.OpenEpoch{Receipt: receipt.Made{User: h.user, Epoch: e, DEKID: dek.ID(h.loot.Vault), Wrapped: wrapped}})
	h.store(dek, e)
}

// store seals one credential. Odd epochs get theirs by a write, even ones by a move.
func (h *house) store(dek envelope.DEK, e agentkeys.Epoch) {
	h.t.Helper()
	cred, err := credential.Credential{Secret: agentkeys.NewSecret([]byte("value")), Kind: credential.Other}.Append(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	at := envelope.Place{User: h.user, Agent: h.user, Service: agentkeys.ServiceID{3}, Epoch: e, Blob: agentkeys.BlobID{byte(e)}, Version: 5}
	sealed, err := envelope.Seal(h.loot.Vault, dek, at, cred)
	if err != nil {
		h.t.Fatal(err)
	}
	if e%2 == 1 {
		h.say(statement.RegisterBlob{User: h.user, Agent: h.user, Service: at.Service, Epoch: e, Blob: at.Blob, PreviousVersion: 4})
	} else {
		h.say(statement.RotateBlobs{Receipt: receipt.Rotated{User: h.user, From: e - 1, To: e,
			Rows: []receipt.Row{{Agent: h.user, Service: at.Service, Version: 5, NewBlob: at.Blob}}}})
	}
	name := h.user.String() + "/" + e.String() + "/" + at.Service.String() + "/" + at.Blob.String() + ".enc"
	if err := h.Put(h.t.Context(), name, sealed); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) destroy(e agentkeys.Epoch) {
	h.t.Helper()
	id := erasure.ShareID{User: h.user, Epoch: e, WrapVersion: 1}
	delete(h.live, id)
	h.tree.Erase(id)
	if err := h.tree.Commit(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// steal opens what can be opened with everything that ever was, and an anchor.
func (h *house) steal(anchor string) map[agentkeys.Epoch]Count {
	h.t.Helper()
	l := h.loot
	l.Objects, l.Anchors = h.ever, map[erasure.AnchorID]string{{9}: anchor}
	got, err := l.Open(h.t.Context(), h.user)
	if err != nil {
		h.t.Fatal(err)
	}
	return got
}

func copyTo(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	files, err := filepath.Glob(filepath.Join(from, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(f)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func TestThiefOpensWhatIsLive(t *testing.T) {
	h := newHouse(t)
	h.open(1)
	early := copyTo(t, h.anchorDir)
	h.open(2)
	both := copyTo(t, h.anchorDir)
	h.destroy(1)
	h.open(3)
	h.destroy(2)
	for name, c := range map[string]struct {
		anchor string
		want   map[agentkeys.Epoch]Count
	}{
		"today": {h.anchorDir, map[agentkeys.Epoch]Count{1: {1, 0}, 2: {1, 0}, 3: {1, 1}}},
		// The next share came in under the same root: it opens until that root is left.
		"an anchor copied with epoch 1": {early, map[agentkeys.Epoch]Count{1: {1, 1}, 2: {1, 1}, 3: {1, 0}}},
		"an anchor copied with both":    {both, map[agentkeys.Epoch]Count{1: {1, 1}, 2: {1, 1}, 3: {1, 0}}},
	} {
		if got := h.steal(c.anchor); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	other, err := h.loot.Open(t.Context(), agentkeys.Wallet{8})
	if err != nil || len(other) != 0 {
		t.Errorf("of another user: %v %v", other, err)
	}
}

// A thief who cannot open anything at all shows nothing, and says so.
func TestThiefWithoutATree(t *testing.T) {
	h := newHouse(t)
	h.open(1)
	for name, change := range map[string]func(*Loot){
		"another seed":   func(l *Loot) { l.Seed = seed.New() },
		"no anchor":      func(l *Loot) { l.Anchors = map[erasure.AnchorID]string{{9}: filepath.Join(t.TempDir(), "none")} },
		"another anchor": func(l *Loot) { l.Anchors = map[erasure.AnchorID]string{{1}: h.anchorDir} },
		"no statements":  func(l *Loot) { l.Statements = nil },
		"no objects":     func(l *Loot) { l.Objects = nil },
	} {
		l := h.loot
		l.Objects = h.ever
		change(&l)
		if got, err := l.Open(t.Context(), h.user); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestThiefLeavesTheAnchor(t *testing.T) {
	h := newHouse(t)
	h.open(1)
	before := copyTo(t, h.anchorDir)
	h.steal(h.anchorDir)
	for _, dir := range []string{before, h.anchorDir} {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			a, err1 := os.ReadFile(f)
			b, err2 := os.ReadFile(filepath.Join(before, filepath.Base(f)))
			if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Errorf("%s has changed: %v %v", filepath.Base(f), err1, err2)
			}
		}
	}
}

func TestPlaceNeedsAStatement(t *testing.T) {
	h := newHouse(t)
	h.open(1)
	for name := range h.ever {
		if !strings.HasSuffix(name, ".enc") {
			continue
		}
		if _, ok := h.loot.place(h.user, name); !ok {
			t.Errorf("%s has no place", name)
		}
		for _, bad := range []string{strings.Replace(name, ".enc", "00.enc", 1), strings.Replace(name, "/01000", "/02000", 1), name + "/x", "x" + name, "", "a/b/c/d.enc"} {
			if at, ok := h.loot.place(h.user, bad); ok {
				t.Errorf("%q has the place %+v", bad, at)
			}
		}
	}
}

func TestRecorderKeepsWhatIsDeleted(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := NewRecorder(dir)
	put("u/1/a.enc", "one")
	put(".sgwtmp/half", "torn")
	put("u/1/empty", "")
	r.Copy()
	if err := os.Remove(filepath.Join(dir, "u/1/a.enc")); err != nil {
		t.Fatal(err)
	}
	put("u/2/b.enc", "two")
	r.Copy()
	got := r.Objects()
	if len(got) != 2 || string(got["u/1/a.enc"]) != "one" || string(got["u/2/b.enc"]) != "two" {
		t.Errorf("%q", got)
	}
	NewRecorder(filepath.Join(dir, "none")).Copy()
}

func TestReadSeed(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadSeed(dir); err == nil {
		t.Error("a seed without a file")
	}
	path := filepath.Join(dir, "seed.dev")
	for text, ok := range map[string]bool{"note\n" + strings.Repeat("ab", 32) + "\n": true, "note\n": false, "": false, strings.Repeat("ab", 31): false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := ReadSeed(dir)
		if (err == nil) != ok || ok && !bytes.Equal(s.Reveal(), bytes.Repeat([]byte{0xab}, 32)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
