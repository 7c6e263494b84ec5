//go:build cgo

package pkcs11anchor

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/anchortest"
	"example.org/agentkeys/erasure/anchortest/emulator"
	"example.org/agentkeys/erasure/wrapanchor"
)

var errDied = errors.New("process: died")

type stage struct {
	t      *testing.T
	cfg    Config
	tokens string
	open   *Anchor // the library can be loaded once: close before the next
	keys   *token
	blobs  [][]byte
	n      int
	after  bool
	dead   bool
}

func newStage(t *testing.T) *stage {
	t.Helper()
	soft := emulator.NewToken(t)
	s := &stage{t: t, tokens: soft.Tokens, cfg: Config{Library: soft.Library, Token: soft.Label, PIN: func() (string, error) { return soft.PIN, nil },
		Dir: filepath.Join(t.TempDir(), "anchor"), ID: erasure.AnchorID{1}}}
	if _, err := s.reopen(); err != nil {
		t.Fatal(err)
	}
	if err := s.open.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

func (s *stage) close() {
	if s.open == nil {
		return
	}
	if err := s.open.Close(); err != nil {
		s.t.Errorf("close: %v", err)
	}
	s.open = nil
}

func (s *stage) reopen() (erasure.Anchor, error) {
	s.close()
	keys, closeToken, err := openToken(s.cfg)
	if err != nil {
		return nil, err
	}
	s.keys = keys.(*token)
	s.keys.around = s.call
	s.open = &Anchor{wrapanchor.New("pkcs11 anchor", s.cfg.Dir, s.keys), closeToken}
	return s.open, nil
}

func (s *stage) call(effect func() error) error {
	last := s.n == 1
	if s.n > 0 {
		s.n--
	}
	if s.dead || last && !s.after {
		s.dead = true
		return errDied
	}
	err := effect()
	if last && err == nil {
		s.dead = true
		return errDied
	}
	return err
}

func (s *stage) cut(n int, after bool) { s.n, s.after, s.dead = n, after, false }

func (s *stage) save() (func() error, error) {
	copied := s.t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(s.cfg.Dir)); err != nil {
		return nil, err
	}
	for _, file := range []string{"slot-a", "slot-b"} {
		if b, err := os.ReadFile(filepath.Join(copied, file)); err == nil {
			s.blobs = append(s.blobs, b)
		}
	}
	return func() error { return errors.Join(os.RemoveAll(s.cfg.Dir), os.CopyFS(s.cfg.Dir, os.DirFS(copied))) }, nil
}

// sealed gives name and ciphertext of a slot file.
func sealed(b []byte) (name string, blob []byte) {
	n := int(b[5])<<8 | int(b[6])
	return string(b[7 : 7+n]), b[9+n:]
}

// attack logs in, asks every key in the token for its value and lets each decrypt
// every ciphertext that ever was.
func (s *stage) attack(context.Context) (answers [][]byte) {
	err := s.keys.session(func(h pkcs11.SessionHandle) error {
		if err := s.keys.lib.FindObjectsInit(h, nil); err != nil {
			return err
		}
		all, _, err := s.keys.lib.FindObjects(h, 1000)
		if err := errors.Join(err, s.keys.lib.FindObjectsFinal(h)); err != nil {
			return err
		}
		for _, object := range all {
			if value, err := s.keys.lib.GetAttributeValue(h, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}); err == nil {
				s.t.Errorf("the token gives out a key of %d bytes", len(value[0].Value))
			}
			for _, b := range s.blobs {
				name, blob := sealed(b)
				if len(blob) < ivSize {
					continue
				}
				params, mechanism := s.keys.gcm(blob[:ivSize], name)
				if err := s.keys.lib.DecryptInit(h, mechanism, object); err == nil {
					if plain, err := s.keys.lib.Decrypt(h, blob[ivSize:]); err == nil {
						answers = append(answers, plain)
					}
				}
				params.Free()
			}
		}
		return nil
	})
	if err != nil {
		s.t.Errorf("attack: %v", err)
	}
	return answers
}

func (s *stage) stage(roots ...erasure.Root) {
	s.t.Helper()
	for _, root := range roots {
		if err := s.open.Stage(s.t.Context(), root); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *stage) wantRoots(want ...erasure.Root) {
	s.t.Helper()
	if got, err := s.open.Roots(s.t.Context()); err != nil || !slices.Equal(got, want) {
		s.t.Errorf("%d roots, %v, want %d", len(got), err, len(want))
	}
}

func (s *stage) keysInToken() (n int) {
	err := s.keys.session(func(h pkcs11.SessionHandle) error {
		if err := s.keys.lib.FindObjectsInit(h, nil); err != nil {
			return err
		}
		all, _, err := s.keys.lib.FindObjects(h, 1000)
		n = len(all)
		return errors.Join(err, s.keys.lib.FindObjectsFinal(h))
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func harness(t *testing.T) (*stage, anchortest.Harness) {
	s := newStage(t)
	return s, anchortest.Harness{Anchor: s.open, Reopen: s.reopen, Save: s.save, Attack: s.attack, Cut: s.cut,
		Wire: func() []byte { return bytes.Join(s.blobs, nil) }}
}

func TestContract(t *testing.T) {
	// One after the other: a process loads the library once.
	t.Run("attack", func(t *testing.T) {
		_, h := harness(t)
		if err := anchortest.Check(t.Context(), h); err != nil {
			t.Error(err)
		}
	})
	t.Run("crash", func(t *testing.T) {
		s, h := harness(t)
		if err := anchortest.CheckCrashes(t.Context(), h); err != nil {
			t.Error(err)
		}
		if n := s.keysInToken(); n != 1 {
			t.Errorf("%d keys in the token for one root", n)
		}
	})
}

// An attack that opens nothing proves nothing: this one opens the root held.
func TestAttackOpensThePresentRoot(t *testing.T) {
	s := newStage(t)
	root := erasure.Root{1, 2, 3}
	s.stage(root)
	if _, err := s.save(); err != nil {
		t.Fatal(err)
	}
	if got := s.attack(t.Context()); len(got) != 1 || !bytes.Equal(got[0], root[:]) {
		t.Errorf("%d answers", len(got))
	}
}

// A key that the token would give out must not wrap a root.
func TestExtractableKeyIsRefused(t *testing.T) {
	s := newStage(t)
	err := s.keys.session(func(h pkcs11.SessionHandle) error {
		key, err := s.keys.lib.GenerateKey(h, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)})
		if err != nil {
			return err
		}
		return s.keys.checkKey(h, key)
	})
	if err == nil || !strings.Contains(err.Error(), "use another token") {
		t.Errorf("an extractable key: %v", err)
	}
}

func TestTwoKeysOfOneName(t *testing.T) {
	s := newStage(t)
	s.stage(erasure.Root{1})
	b, err := os.ReadFile(filepath.Join(s.cfg.Dir, "slot-a"))
	if err != nil {
		t.Fatal(err)
	}
	name, blob := sealed(b)
	if err := s.keys.session(func(h pkcs11.SessionHandle) error { _, err := s.keys.make(h, name); return err }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open.Roots(t.Context()); err == nil || !strings.Contains(err.Error(), "2 keys") {
		t.Errorf("Roots: %v", err)
	}
	if err := s.keys.Destroy(t.Context(), name, blob); err != nil || s.keysInToken() != 0 {
		t.Errorf("Destroy: %v, %d keys are left", err, s.keysInToken())
	}
	if _, err := hex.DecodeString(name); err != nil || len(name) != 32 {
		t.Errorf("name %q", name)
	}
}

func TestOpenRefuses(t *testing.T) {
	s := newStage(t)
	s.close()
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"library": {func(c *Config) { c.Library = filepath.Join(t.TempDir(), "none.so") }, "cannot be loaded"},
		"token":   {func(c *Config) { c.Token = "another" }, "0 tokens"},
		"pin":     {func(c *Config) { c.PIN = func() (string, error) { return "1111", nil } }, "login"},
		"no pin":  {func(c *Config) { c.PIN = func() (string, error) { return "", errors.New("locked away") } }, "locked away"},
	} {
		cfg := s.cfg
		c.change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	a, err := New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := a.Stage(t.Context(), erasure.Root{1}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Stage after Close: %v", err)
	}
}

// What Limit admits is true: a copied token directory brings a destroyed key back.
func TestLimitCopiedTokenDirectory(t *testing.T) {
	s := newStage(t)
	old := erasure.Root{1, 2, 3}
	s.stage(old, erasure.Root{2})
	files, err := s.save()
	if err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(s.tokens)); err != nil {
		t.Fatal(err)
	}
	if err := s.open.Destroy(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	s.wantRoots(erasure.Root{2})
	s.close()
	if err := errors.Join(files(), os.RemoveAll(s.tokens), os.CopyFS(s.tokens, os.DirFS(copied))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.reopen(); err != nil {
		t.Fatal(err)
	}
	s.wantRoots(old, erasure.Root{2})
}
