package wrapanchor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/anchortest"
)

var errDied = errors.New("process: died")

// token is a device in memory.
type token struct {
	keys     map[string]erasure.Root // key by name; a blob is root xor key
	blobs    [][]byte                // every blob that ever left
	cut      int
	after    bool
	dead     bool
	pretends bool // says it destroyed a key and keeps it
}

func newToken() *token { return &token{keys: map[string]erasure.Root{}} }

func (k *token) call(effect func()) error {
	last := k.cut == 1
	if k.cut > 0 {
		k.cut--
	}
	if k.dead || last && !k.after {
		k.dead = true
		return errDied
	}
	effect()
	if k.dead = last; last {
		return errDied
	}
	return nil
}

func (k *token) Name(context.Context) (name string, err error) {
	err = k.call(func() { name = rand.Text() })
	return name, err
}

func (k *token) Seal(_ context.Context, name string, root erasure.Root) (blob []byte, err error) {
	if err := k.call(func() {
		var key erasure.Root
		rand.Read(key[:])
		k.keys[name] = key
	}); err != nil {
		return nil, err
	}
	err = k.call(func() {
		sealed := xor(root, k.keys[name])
		blob = sealed[:]
		k.blobs = append(k.blobs, bytes.Clone(blob))
	})
	return blob, err
}

func (k *token) Open(_ context.Context, name string, blob []byte) (root erasure.Root, err error) {
	key, ok := k.keys[name]
	if !ok {
		return root, ErrGone
	}
	err = k.call(func() { root = xor(erasure.Root(blob), key) })
	return root, err
}

func (k *token) Destroy(_ context.Context, name string, _ []byte) error {
	return k.call(func() {
		if !k.pretends {
			delete(k.keys, name)
		}
	})
}

func xor(a, b erasure.Root) (out erasure.Root) {
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

// attack tries every key there is on every blob there ever was.
func (k *token) attack(context.Context) (answers [][]byte) {
	for _, key := range k.keys {
		for _, blob := range k.blobs {
			root := xor(erasure.Root(blob), key)
			answers = append(answers, root[:])
		}
	}
	return answers
}

func harness(t *testing.T, k *token) (anchortest.Harness, string) {
	dir := filepath.Join(t.TempDir(), "anchor")
	open := func() (erasure.Anchor, error) { return New("token", dir, k), nil }
	a := New("token", dir, k)
	if err := a.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	return anchortest.Harness{
		Anchor: a, Reopen: open, Attack: k.attack,
		Wire: func() []byte { return slices.Concat(k.blobs...) },
		Save: func() (func() error, error) { return saveDir(t, dir), nil },
		Cut:  func(n int, after bool) { k.cut, k.after, k.dead = n, after, false },
	}, dir
}

func saveDir(t *testing.T, dir string) (restore func() error) {
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return func() error {
		errs := []error{os.RemoveAll(dir), os.Mkdir(dir, 0o700)}
		for name, b := range files {
			errs = append(errs, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
		return errors.Join(errs...)
	}
}

func TestContract(t *testing.T) {
	anchortest.Run(t, func(t *testing.T) anchortest.Harness { h, _ := harness(t, newToken()); return h })
}

func TestNoKeyIsLeftByCrashes(t *testing.T) {
	k := newToken()
	h, _ := harness(t, k)
	if err := anchortest.CheckCrashes(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if len(k.keys) != 1 {
		t.Errorf("%d keys in the device for one root", len(k.keys))
	}
}

func TestDestroyLooksWhetherTheKeyIsGone(t *testing.T) {
	k := newToken()
	h, _ := harness(t, k)
	for _, root := range []erasure.Root{{1}, {2}} {
		if err := h.Anchor.Stage(t.Context(), root); err != nil {
			t.Fatal(err)
		}
	}
	k.pretends = true
	err := h.Anchor.Destroy(t.Context(), erasure.Root{1})
	if err == nil || !strings.Contains(err.Error(), "evict") {
		t.Fatalf("Destroy: %v", err)
	}
	if roots, err := h.Anchor.Roots(t.Context()); err != nil || len(roots) != 2 {
		t.Errorf("a root that still opens is not shown: %d, %v", len(roots), err)
	}
	k.pretends = false
	if roots, err := h.Anchor.Roots(t.Context()); err != nil || !slices.Equal(roots, []erasure.Root{{2}}) {
		t.Errorf("what was cut short is not finished: %d roots, %v", len(roots), err)
	}
}

// With another device attached nothing may be written over the wrapped roots.
func TestWrongDevice(t *testing.T) {
	k := newToken()
	h, dir := harness(t, k)
	if err := h.Anchor.Stage(t.Context(), erasure.Root{1}); err != nil {
		t.Fatal(err)
	}
	other := New("token", dir, newToken())
	before := maps.Clone(k.keys)
	for name, act := range map[string]func() error{
		"roots":   func() error { _, err := other.Roots(t.Context()); return err },
		"stage":   func() error { return other.Stage(t.Context(), erasure.Root{2}) },
		"destroy": func() error { return other.Destroy(t.Context(), erasure.Root{1}) },
	} {
		if err := act(); err == nil || !strings.Contains(err.Error(), "wrong device") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if roots, err := h.Anchor.Roots(t.Context()); err != nil || !slices.Equal(roots, []erasure.Root{{1}}) || !maps.Equal(before, k.keys) {
		t.Errorf("the right device afterwards: %d roots, %v", len(roots), err)
	}
}

func TestDamagedFiles(t *testing.T) {
	h, dir := harness(t, newToken())
	if err := h.Anchor.Stage(t.Context(), erasure.Root{1}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "slot-a")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, good[:len(good)-1], append(bytes.Clone(good), 0), make([]byte, 10000)} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Anchor.Roots(t.Context()); !errors.Is(err, errDamaged) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func FuzzSlot(f *testing.F) {
	f.Add((&slot{state: holding, name: "key", blob: []byte("blob")}).append())
	f.Add((&slot{state: making, name: "key"}).append())
	f.Fuzz(func(t *testing.T, b []byte) {
		var s slot
		if s.parse(b) == nil && !bytes.Equal(s.append(), b) {
			t.Errorf("%x is not what it was parsed from", b)
		}
	})
}

// A directory that is away is away: nobody makes an empty one in its stead.
func TestPlaceThatIsAway(t *testing.T) {
	h, dir := harness(t, newToken())
	if err := h.Anchor.Stage(t.Context(), erasure.Root{1}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Anchor.Roots(t.Context()); err == nil || !strings.Contains(err.Error(), "bring it back") {
		t.Errorf("roots of a place that is away: %v", err)
	}
	if err := h.Anchor.Stage(t.Context(), erasure.Root{2}); err == nil {
		t.Error("staged into a place that is away")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if roots, err := h.Anchor.Roots(t.Context()); err != nil || !slices.Equal(roots, []erasure.Root{{1}}) {
		t.Errorf("brought back: %d roots, %v", len(roots), err)
	}
}
