package seed

import (
	"bytes"
	"strings"
	"testing"

	"example.org/agentkeys"
)

func TestVectorNames(t *testing.T) {
	v := load(t)
	for _, n := range v.Names {
		name := agentkeys.Service(n.Name)
		if label, err := v.tagKey().Label(name); err != nil || label != n.Label {
			t.Errorf("label %s %v", label, err)
		}
		sealed, err := v.tagKey().sealName(v.user(), v.service(), name, [nonceSize]byte(n.Nonce))
		if err != nil || !bytes.Equal(sealed[:], n.Sealed) {
			t.Errorf("%s: sealed %x %v", n.Name, sealed, err)
		}
		got, err := v.tagKey().OpenName(v.user(), v.service(), agentkeys.SealedName(n.Sealed))
		if err != nil || got != name {
			t.Errorf("opened %q %v", got, err)
		}
	}
}

func TestNameRoundTrip(t *testing.T) {
	v := load(t)
	for _, name := range []agentkeys.Service{"a", "github", agentkeys.Service(strings.Repeat("x", agentkeys.MaxService))} {
		a, err := v.tagKey().SealName(v.user(), v.service(), name)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := v.tagKey().SealName(v.user(), v.service(), name); a == b {
			t.Error("a nonce came twice")
		}
		if got, err := v.tagKey().OpenName(v.user(), v.service(), a); err != nil || got != name {
			t.Errorf("%q: %q %v", name, got, err)
		}
	}
	for _, name := range []agentkeys.Service{"", "Github", "a..b", "a\x00b", agentkeys.Service(strings.Repeat("x", 64))} {
		if _, err := v.tagKey().SealName(v.user(), v.service(), name); err == nil {
			t.Errorf("sealed %q", name)
		}
	}
}

func TestOpenNameNegative(t *testing.T) {
	v := load(t)
	good := agentkeys.SealedName(v.Names[1].Sealed)
	user, id := v.user(), v.service()
	user[19] ^= 1
	id[31] ^= 1
	for name, f := range map[string]func() (agentkeys.Service, error){
		"user":       func() (agentkeys.Service, error) { return v.tagKey().OpenName(user, v.service(), good) },
		"service id": func() (agentkeys.Service, error) { return v.tagKey().OpenName(v.user(), id, good) },
		"tag key":    func() (agentkeys.Service, error) { return TagKey(New()).OpenName(v.user(), v.service(), good) },
	} {
		if got, err := f(); err != ErrName || got != "" {
			t.Errorf("other %s: %q %v", name, got, err)
		}
	}
	for i := range good {
		bad := good
		bad[i] ^= 1
		if _, err := v.tagKey().OpenName(v.user(), v.service(), bad); err != ErrName {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}

// sealRaw seals any 64 bytes, as a holder of the tag key could.
func sealRaw(t *testing.T, v vectors, plain [paddedName]byte) (sealed agentkeys.SealedName) {
	t.Helper()
	aead, err := v.tagKey().nameCipher()
	if err != nil {
		t.Fatal(err)
	}
	aead.Seal(sealed[:nonceSize], sealed[:nonceSize], plain[:], nameAAD(v.user(), v.service()))
	return sealed
}

// Exactly the names of the vocabulary come out, each from one plaintext.
func FuzzOpenName(f *testing.F) {
	f.Add([]byte("github"))
	f.Add([]byte("git\x00hub"))
	f.Add([]byte("\x00github"))
	f.Add(bytes.Repeat([]byte("x"), 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := load(t)
		var plain [paddedName]byte
		copy(plain[:], b)
		name, err := v.tagKey().OpenName(v.user(), v.service(), sealRaw(t, v, plain))
		if err != nil {
			return
		}
		var again [paddedName]byte
		copy(again[:], name)
		if _, err := agentkeys.ParseService(string(name)); err != nil || again != plain {
			t.Fatalf("%q from %q", name, plain)
		}
	})
}
