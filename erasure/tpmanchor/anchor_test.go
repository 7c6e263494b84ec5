package tpmanchor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-tpm/tpm2"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/anchortest"
	"example.org/agentkeys/erasure/anchortest/emulator"
)

func harness(t *testing.T) (anchortest.Harness, *bus, Config) {
	b := busTo(t, emulator.StartTPM(t))
	cfg := Config{TPM: b, Auth: NewAuth(), Interval: time.Nanosecond}
	open := func() (erasure.Anchor, error) { return New(cfg) }
	a, err := open()
	if err != nil {
		t.Fatal(err)
	}
	return anchortest.Harness{
		Anchor: a, Reopen: open, Attack: b.attack(cfg.Auth, nil), Cut: b.cut,
		Wire: func() []byte { return b.recorded },
	}, b, cfg
}

func TestContract(t *testing.T) {
	anchortest.Run(t, func(t *testing.T) anchortest.Harness { h, _, _ := harness(t); return h })
}

func stage(t *testing.T, a erasure.Anchor, root erasure.Root) {
	t.Helper()
	if err := a.Stage(t.Context(), root); err != nil {
		t.Fatal(err)
	}
}

func wantRoots(t *testing.T, a erasure.Anchor, want ...erasure.Root) {
	t.Helper()
	got, err := a.Roots(t.Context())
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d roots, %v, want %d", len(got), err, len(want))
	}
	for _, root := range want {
		if !slices.Contains(got, root) {
			t.Errorf("a root is missing")
		}
	}
}

// The bus shows neither auth value nor owner auth, and every session that hides
// something is salted: without a salt its key would follow from the auth value alone.
func TestBus(t *testing.T) {
	b := busTo(t, emulator.StartTPM(t))
	owner := []byte("a password of the owner")
	if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: tpm2.TPMRHOwner, NewAuth: tpm2.TPM2BAuth{Buffer: owner}}).Execute(b.tpm); err != nil {
		t.Fatal(err)
	}
	auth := NewAuth()
	a, err := New(Config{TPM: b, Auth: auth, Owner: owner, Interval: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	first, second := erasure.Root{0: 7, 31: 9}, erasure.Root{0: 8, 31: 9}
	stage(t, a, first)
	stage(t, a, second)
	wantRoots(t, a, first, second)
	if err := a.Destroy(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{"auth": auth, "owner auth": owner, "first root": first[:], "second root": second[:]} {
		if bytes.Contains(b.recorded, secret) {
			t.Errorf("the bus shows the %s", name)
		}
	}
	salted := 0
	for _, c := range b.commands {
		if tpm2.TPMCC(binary.BigEndian.Uint32(c[6:])) != tpm2.TPMCCStartAuthSession {
			continue
		}
		hasKey := tpm2.TPMHandle(binary.BigEndian.Uint32(c[10:])) != tpm2.TPMRHNull
		if bytes.Contains(c, []byte{0, byte(tpm2.TPMAlgAES), 0, 128}) && !hasKey {
			t.Error("a session that encrypts has no salt")
		}
		if hasKey {
			salted++
		}
	}
	if salted < 7 { // 2 defined, 2 written, 2 or more read, 1 undefined
		t.Errorf("%d salted sessions", salted)
	}
	if _, err := New(Config{TPM: b, Auth: auth, Owner: []byte("another")}); err == nil {
		t.Error("another owner auth is taken")
	}
}

// What the recorder would see without encryption: it does see.
func TestRecorderSeesAPlainSession(t *testing.T) {
	h, b, cfg := harness(t)
	root := erasure.Root{1, 2, 3}
	stage(t, h.Anchor, root)
	a := h.Anchor.(*Anchor)
	_, name, err := a.look(0)
	if err != nil || bytes.Contains(b.recorded, root[:]) {
		t.Fatalf("look: %v, or the root was seen", err)
	}
	_, err = tpm2.NVRead{
		AuthHandle: tpm2.AuthHandle{Handle: a.handle(0), Name: name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(cfg.Auth))},
		NVIndex:    tpm2.NamedHandle{Handle: a.handle(0), Name: name}, Size: uint16(slotSize),
	}.Execute(b)
	if err != nil || !bytes.Contains(b.recorded, root[:]) {
		t.Errorf("read in a plain session: %v, or the root was not seen", err)
	}
}

func TestIntervalAgainstWear(t *testing.T) {
	_, b, cfg := harness(t)
	cfg.Interval = 0
	open := func() *Anchor {
		a, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	stage(t, a, erasure.Root{1})
	for _, a := range []*Anchor{a, open()} { // a restart does not forget
		before := len(b.commands)
		err := a.Stage(t.Context(), erasure.Root{2})
		var soon erasure.TooSoon
		if !errors.As(err, &soon) || soon.Wait <= 14*time.Minute || soon.Wait > DefaultInterval || !strings.Contains(err.Error(), "wait") {
			t.Fatalf("Stage: %v", err)
		}
		for _, c := range b.commands[before:] {
			switch tpm2.TPMCC(binary.BigEndian.Uint32(c[6:])) {
			case tpm2.TPMCCNVDefineSpace, tpm2.TPMCCNVWrite, tpm2.TPMCCNVUndefineSpace:
				t.Error("a refused root wears the TPM")
			}
		}
	}
	stage(t, a, erasure.Root{1}) // a repeat is no write
	wantRoots(t, a, erasure.Root{1})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		h := slots{{written: true, staged: now.Add(-10 * time.Minute)}, {written: true, staged: now.Add(-4 * time.Minute)}}
		for name, c := range map[string]struct {
			after, want time.Duration
		}{"newest counts": {0, 11 * time.Minute}, "nearly": {11*time.Minute - 1, 1}, "over": {11 * time.Minute, 0}, "clock was ahead": {-time.Hour, 0}} {
			if got := h.wait(now.Add(c.after), 15*time.Minute); got != c.want {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	})
}

func TestRefused(t *testing.T) {
	_, b, good := harness(t)
	name, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Config){
		"auth ends in zero":   func(c *Config) { c.Auth = append(slices.Clone(c.Auth[:31]), 0) },
		"auth with a zero":    func(c *Config) { c.Auth = append([]byte{0}, c.Auth[1:]...) },
		"owner auth":          func(c *Config) { c.Owner = []byte{1, 0, 1} },
		"no auth":             func(c *Config) { c.Auth = nil },
		"long auth":           func(c *Config) { c.Auth = bytes.Repeat([]byte{1}, 33) },
		"index":               func(c *Config) { c.Index = 0x81000000 },
		"last index":          func(c *Config) { c.Index = 0x01ffffff },
		"negative interval":   func(c *Config) { c.Interval = -1 },
		"another storage key": func(c *Config) { c.StorageKey = append(slices.Clone(name.StorageKey()), 1) },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.HasPrefix(err.Error(), "tpm anchor: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	good.StorageKey = name.StorageKey()
	if _, err := New(good); err != nil {
		t.Errorf("the pinned storage key: %v", err)
	}
	stage(t, name, erasure.Root{1})
	good.Auth = NewAuth()
	other, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if roots, err := other.Roots(t.Context()); err == nil || len(roots) != 0 {
		t.Error("another auth value reads the root")
	}
	// An index that others can read must not get a root.
	weak := name.public(1)
	weak.Attributes.OwnerRead = true
	if _, err := (tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, Auth: tpm2.TPM2BAuth{Buffer: good.Auth}, PublicInfo: tpm2.New2B(weak)}).Execute(b); err != nil {
		t.Fatal(err)
	}
	if err := name.Stage(t.Context(), erasure.Root{2}); err == nil || !strings.Contains(err.Error(), "somebody else's") {
		t.Errorf("an index that the owner reads: %v", err)
	}
}

func TestNewAuthHasNoZero(t *testing.T) {
	for range 2000 {
		if auth := NewAuth(); checkAuth(auth, nil) != nil {
			t.Fatalf("%x", auth)
		}
	}
}

func TestPowerLoss(t *testing.T) {
	s := emulator.StartTPM(t)
	auth := NewAuth()
	open := func() *Anchor {
		a, err := New(Config{TPM: busTo(t, s), Auth: auth, Interval: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	stage(t, a, erasure.Root{1})
	stage(t, a, erasure.Root{2})
	s.Stop()
	s.Start()
	wantRoots(t, open(), erasure.Root{1}, erasure.Root{2})
	a = open()
	if err := a.Destroy(t.Context(), erasure.Root{1}); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Start()
	wantRoots(t, open(), erasure.Root{2})
}

// What Limit admits is true: whoever has a copy of a virtual TPM's state has the root.
func TestLimitCopiedStateOfAVirtualTPM(t *testing.T) {
	s := emulator.StartTPM(t)
	auth := NewAuth()
	open := func() *Anchor {
		a, err := New(Config{TPM: busTo(t, s), Auth: auth, Interval: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	stage(t, a, erasure.Root{1})
	stage(t, a, erasure.Root{2})
	s.Stop()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(s.State)); err != nil {
		t.Fatal(err)
	}
	s.Start()
	if err := open().Destroy(t.Context(), erasure.Root{1}); err != nil {
		t.Fatal(err)
	}
	wantRoots(t, open(), erasure.Root{2})
	s.Stop()
	if err := errors.Join(os.RemoveAll(s.State), os.CopyFS(s.State, os.DirFS(copied))); err != nil {
		t.Fatal(err)
	}
	s.Start()
	wantRoots(t, open(), erasure.Root{1}, erasure.Root{2})
	if limit := a.Limit(); a.Kind() != "tpm" || !strings.Contains(limit, "virtual TPM") || !strings.Contains(limit, "backup") {
		t.Errorf("kind %q, limit %q", a.Kind(), limit)
	}
}

// An index that was left by another anchor is told as that, and is not touched.
func TestIndexOfAnotherAnchor(t *testing.T) {
	b := busTo(t, emulator.StartTPM(t))
	open := func(auth []byte) *Anchor {
		a, err := New(Config{TPM: b, Auth: auth, Interval: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first, second := open(NewAuth()), open(NewAuth())
	stage(t, first, erasure.Root{1})
	_, err := second.Roots(t.Context())
	for name, err := range map[string]error{"roots": err, "stage": second.Stage(t.Context(), erasure.Root{2}), "destroy": second.Destroy(t.Context(), erasure.Root{1})} {
		if err == nil || !strings.Contains(err.Error(), "an index of its own") {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantRoots(t, first, erasure.Root{1})
}
