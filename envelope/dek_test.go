package envelope

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"example.org/agentkeys"
)

func TestWrapNegative(t *testing.T) {
	v := load(t)
	good := agentkeys.WrappedDEK(v.Wrap.Wrapped)
	unwrap := func(f func(k *WrappingKey)) error {
		k := v.wrappingKey()
		f(&k)
		_, err := k.Unwrap(v.vault(), v.id(), good)
		return err
	}
	for name, test := range map[string]struct {
		err, want error
	}{
		"user":         {unwrap(func(k *WrappingKey) { k.User[0] ^= 1 }), ErrOpen},
		"epoch":        {unwrap(func(k *WrappingKey) { k.Epoch++ }), ErrOpen},
		"wrap version": {unwrap(func(k *WrappingKey) { k.Version++ }), ErrOpen},
		"key":          {unwrap(func(k *WrappingKey) { k.Reveal()[31] ^= 1 }), ErrOpen},
		"no user":      {unwrap(func(k *WrappingKey) { k.User = agentkeys.Wallet{} }), ErrPlace},
		"no epoch":     {unwrap(func(k *WrappingKey) { k.Epoch = 0 }), ErrPlace},
		"no version":   {unwrap(func(k *WrappingKey) { k.Version = 0 }), ErrPlace},
		"no key":       {unwrap(func(k *WrappingKey) { k.Secret = agentkeys.Secret{} }), ErrKey},
		"zero key":     {unwrap(func(k *WrappingKey) { k.Wipe() }), ErrKey},
	} {
		if test.err != test.want {
			t.Errorf("%s: %v", name, test.err)
		}
	}
	id := v.id()
	id[0] ^= 1
	if _, err := v.wrappingKey().Unwrap(v.vault(), id, good); err != ErrOpen {
		t.Errorf("other dek id: %v", err)
	}
	for i := range good {
		bad := good
		bad[i] ^= 1
		if _, err := v.wrappingKey().Unwrap(v.vault(), v.id(), bad); err != ErrOpen {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := v.wrappingKey().Wrap(v.vault(), DEK{}); err != ErrKey {
		t.Errorf("wrapped a missing key: %v", err)
	}
}

// A wrapping key's holder can wrap any key under any id; the id must still fit.
func TestUnwrapChecksTheID(t *testing.T) {
	v := load(t)
	k, lie := v.wrappingKey(), v.id()
	aead, err := k.cipher()
	if err != nil {
		t.Fatal(err)
	}
	w := agentkeys.WrappedDEK{3: byte(k.Version)}
	aead.Seal(w[:16], w[4:16], NewDEK().Reveal(), append(k.Info(v.vault()), lie[:]...))
	if _, err := k.Unwrap(v.vault(), lie, w); err != ErrOpen {
		t.Errorf("another key under this id: %v", err)
	}
}

func TestWrapRoundTrip(t *testing.T) {
	v := load(t)
	dek := NewDEK()
	a, err := v.wrappingKey().Wrap(v.vault(), dek)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := v.wrappingKey().Wrap(v.vault(), dek)
	if a == b {
		t.Error("a nonce came twice")
	}
	got, err := v.wrappingKey().Unwrap(v.vault(), dek.ID(v.vault()), a)
	if err != nil || !bytes.Equal(got.Reveal(), dek.Reveal()) {
		t.Errorf("unwrap: %v", err)
	}
}

func FuzzUnwrap(f *testing.F) {
	v := load(f)
	f.Add([]byte(v.Wrap.Wrapped))
	f.Fuzz(func(t *testing.T, b []byte) {
		var w agentkeys.WrappedDEK
		copy(w[:], b)
		if _, err := v.wrappingKey().Unwrap(v.vault(), v.id(), w); err == nil && !bytes.Equal(w[:], v.Wrap.Wrapped) {
			t.Fatal("forged")
		}
	})
}

func TestKeysDoNotPrint(t *testing.T) {
	dek := DEK{agentkeys.NewSecret(bytes.Repeat([]byte("K"), 32))}
	wk := WrappingKey{Secret: agentkeys.NewSecret(bytes.Repeat([]byte("K"), 32)), Epoch: 1}
	for _, value := range []any{dek, &dek, wk, &wk, struct{ D DEK }{dek}, struct{ d WrappingKey }{wk}} {
		j, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out := fmt.Sprintf("%v %+v %#v %s %q %x %X %d %s", value, value, value, value, value, value, value, value, j)
		for _, leak := range []string{"KK", "4b4b", "4B4B", "75 75", "0x4b, 0x4b", "S0tL"} {
			if strings.Contains(out, leak) {
				t.Errorf("%T prints %q", value, leak)
			}
		}
	}
	dek.Wipe()
	if !bytes.Equal(dek.Reveal(), make([]byte, 32)) {
		t.Error("Wipe leaves bytes")
	}
}
