package envelope

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"example.org/agentkeys"
)

func TestSealOpenSizes(t *testing.T) {
	v := load(t)
	for _, n := range []int{1, 2, 251, 252, 253, 508, 509, 65536, MaxCredential} {
		sealed, err := Seal(v.vault(), v.dek(), v.place(), credentialOf(n))
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) > MaxEnvelope || cap(sealed) != len(sealed) {
			t.Errorf("%d: len %d cap %d", n, len(sealed), cap(sealed))
		}
		got, err := Open(v.vault(), v.dek(), v.id(), v.place(), sealed)
		if err != nil || !bytes.Equal(got, credentialOf(n)) {
			t.Errorf("%d: %v", n, err)
		}
	}
	if e, _ := Seal(v.vault(), v.dek(), v.place(), credentialOf(MaxCredential)); len(e) != MaxEnvelope {
		t.Errorf("the largest envelope has %d bytes, not %d", len(e), MaxEnvelope)
	}
	for _, n := range []int{0, MaxCredential + 1} {
		if _, err := Seal(v.vault(), v.dek(), v.place(), make([]byte, n)); err == nil {
			t.Errorf("sealed %d bytes", n)
		}
	}
}

func TestSealIsRandomized(t *testing.T) {
	v := load(t)
	a, _ := Seal(v.vault(), v.dek(), v.place(), []byte("x"))
	b, _ := Seal(v.vault(), v.dek(), v.place(), []byte("x"))
	if bytes.Equal(a[nonceAt:bodyAt], b[nonceAt:bodyAt]) {
		t.Error("a nonce came twice")
	}
}

// places changes one field of a place at a time.
func places(p Place) map[string]Place {
	m := map[string]Place{}
	change := func(name string, f func(*Place)) { q := p; f(&q); m[name] = q }
	change("user", func(q *Place) { q.User[19] ^= 1 })
	change("service", func(q *Place) { q.Service[31] ^= 1 })
	change("agent", func(q *Place) { q.Agent[0] ^= 1 })
	change("epoch", func(q *Place) { q.Epoch++ })
	change("blob", func(q *Place) { q.Blob[15] ^= 1 })
	change("version", func(q *Place) { q.Version++ })
	change("user and agent exchanged", func(q *Place) { q.User, q.Agent = q.Agent, q.User })
	return m
}

func TestOpenNegative(t *testing.T) {
	v := load(t)
	e := v.Envelopes[1].Envelope
	otherVault := v.vault()
	otherVault[0] ^= 1
	other := NewDEK()
	for name, p := range places(v.place()) {
		if _, err := Open(v.vault(), v.dek(), v.id(), p, e); err != ErrOpen {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	// The id is tied to the vault too, so the caller of another vault has another.
	if _, err := Open(otherVault, v.dek(), v.id(), v.place(), e); err != ErrDEKID {
		t.Errorf("other vault, same id: %v", err)
	}
	if _, err := Open(v.vault(), other, v.id(), v.place(), e); err != ErrDEKID {
		t.Errorf("foreign key: %v", err)
	}
	if _, err := Open(v.vault(), v.dek(), other.ID(v.vault()), v.place(), e); err != ErrDEKID {
		t.Errorf("foreign id from the row: %v", err)
	}
	if _, err := Open(v.vault(), other, other.ID(v.vault()), v.place(), e); err != ErrDEKID {
		t.Errorf("foreign key and id: %v", err)
	}
	for n := range e {
		if _, err := Open(v.vault(), v.dek(), v.id(), v.place(), e[:n]); err != agentkeys.ErrLayout {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	for _, tail := range []int{1, 16, 256} {
		if _, err := Open(v.vault(), v.dek(), v.id(), v.place(), append(bytes.Clone(e), make([]byte, tail)...)); err == nil {
			t.Errorf("%d trailing bytes", tail)
		}
	}
}

// The header names the key in clear; that it is authenticated shows only when the
// check before it is passed by a header with the same id.
func TestHeaderIsAuthenticated(t *testing.T) {
	v := load(t)
	h := v.place().aad(v.vault(), v.id())
	other := v.id()
	other[3] ^= 1
	if bytes.Equal(h, v.place().aad(v.vault(), other)) {
		t.Error("the AAD does not depend on the DEK id")
	}
}

func TestOpenBitFlips(t *testing.T) {
	v := load(t)
	e := v.Envelopes[1].Envelope
	for i := range e {
		for bit := range 8 {
			bad := bytes.Clone(e)
			bad[i] ^= 1 << bit
			if _, err := Open(v.vault(), v.dek(), v.id(), v.place(), bad); err == nil {
				t.Fatalf("byte %d bit %d", i, bit)
			}
		}
	}
}

func TestUnusableKeysAndPlaces(t *testing.T) {
	v := load(t)
	for name, dek := range map[string]DEK{
		"missing": {}, "zero": {agentkeys.NewSecret(make([]byte, 32))},
		"short": {agentkeys.NewSecret([]byte("short"))}, "long": {agentkeys.NewSecret(credentialOf(33))},
	} {
		if id := dek.ID(v.vault()); id != (agentkeys.DEKID{}) {
			t.Errorf("%s key has id %s", name, id)
		}
		if _, err := Seal(v.vault(), dek, v.place(), []byte("x")); err != ErrKey {
			t.Errorf("%s key seals: %v", name, err)
		}
		// A header with the zero id must not match a missing key.
		forged := append([]byte(magic), make([]byte, 32+nonceSize+blockSize+tagSize)...)
		if _, err := Open(v.vault(), dek, agentkeys.DEKID{}, v.place(), forged); err != ErrDEKID {
			t.Errorf("%s key opens: %v", name, err)
		}
	}
	for name, f := range map[string]func(*Place){
		"user": func(p *Place) { p.User = agentkeys.Wallet{} }, "agent": func(p *Place) { p.Agent = agentkeys.Wallet{} },
		"epoch": func(p *Place) { p.Epoch = 0 }, "blob": func(p *Place) { p.Blob = agentkeys.BlobID{} },
		"version": func(p *Place) { p.Version = 0 },
	} {
		p := v.place()
		f(&p)
		if _, err := Seal(v.vault(), v.dek(), p, []byte("x")); err != ErrPlace {
			t.Errorf("%s unset: %v", name, err)
		}
	}
}

func TestReseal(t *testing.T) {
	v := load(t)
	from, e := v.place(), v.Envelopes[2].Envelope
	next := NewDEK()
	nextID := next.ID(v.vault())
	blob := agentkeys.BlobID{9}
	got, err := Reseal(v.vault(), v.dek(), v.id(), next, nextID, from, from.Epoch+1, blob, e)
	if err != nil {
		t.Fatal(err)
	}
	to := from
	to.Epoch, to.Blob = from.Epoch+1, blob
	credential, err := Open(v.vault(), next, nextID, to, got)
	if err != nil || !bytes.Equal(credential, credentialOf(v.Envelopes[2].Length)) {
		t.Errorf("the re-sealed credential: %v", err)
	}
	if len(got) != len(e) {
		t.Errorf("re-sealing changed the size from %d to %d", len(e), len(got))
	}

	resealTo := func(id agentkeys.DEKID, epoch agentkeys.Epoch, blob agentkeys.BlobID) error {
		_, err := Reseal(v.vault(), v.dek(), v.id(), next, id, from, epoch, blob, e)
		return err
	}
	_, sameKey := Reseal(v.vault(), v.dek(), v.id(), v.dek(), v.id(), from, from.Epoch+1, blob, e)
	for name, err := range map[string]error{
		"same epoch":    resealTo(nextID, from.Epoch, blob),
		"earlier epoch": resealTo(nextID, from.Epoch-1, blob),
		"same blob id":  resealTo(nextID, from.Epoch+1, from.Blob),
		"same key":      sameKey,
		"wrong new id":  resealTo(agentkeys.DEKID{1}, from.Epoch+1, blob),
	} {
		if !errors.Is(err, errReseal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := bytes.Clone(e)
	bad[len(bad)-1] ^= 1
	if _, err := Reseal(v.vault(), v.dek(), v.id(), next, nextID, from, from.Epoch+1, blob, bad); err != ErrOpen {
		t.Errorf("altered envelope: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	v := load(f)
	f.Add([]byte(v.Envelopes[0].Envelope))
	f.Add([]byte(v.Refused[0].Envelope))
	f.Fuzz(func(t *testing.T, e []byte) {
		id, err := Parse(e)
		if err == nil && (len(e) > MaxEnvelope || !bytes.HasPrefix(e, appendHeader(nil, id))) {
			t.Fatal("Parse took what Seal cannot write")
		}
		got, err := Open(v.vault(), v.dek(), v.id(), v.place(), e)
		if err == nil && !bytes.Equal(e, v.Envelopes[0].Envelope) {
			t.Fatalf("forged: %x", got)
		}
	})
}

// The one plaintext that unpad takes is the one that Seal writes.
func FuzzUnpad(f *testing.F) {
	f.Add(make([]byte, 256), uint32(1))
	f.Add(make([]byte, 512), uint32(253))
	f.Add(make([]byte, 256), uint32(1<<31))
	f.Fuzz(func(t *testing.T, plain []byte, n uint32) {
		if len(plain) < blockSize || len(plain)%blockSize != 0 {
			return // Parse lets nothing else through
		}
		binary.BigEndian.PutUint32(plain, n)
		before := bytes.Clone(plain)
		got, err := unpad(plain)
		if err != nil {
			if !bytes.Equal(plain, make([]byte, len(plain))) {
				t.Fatal("a refused plaintext was not cleared")
			}
			return
		}
		again := make([]byte, padded(len(got)))
		binary.BigEndian.PutUint32(again, uint32(len(got)))
		copy(again[4:], got)
		if !bytes.Equal(again, before) {
			t.Fatal("two plaintexts for one credential")
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	v := load(b)
	credential := credentialOf(1024)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Seal(v.vault(), v.dek(), v.place(), credential); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	v := load(b)
	e, err := Seal(v.vault(), v.dek(), v.place(), credentialOf(1024))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(v.vault(), v.dek(), v.id(), v.place(), e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReseal(b *testing.B) {
	v := load(b)
	next := NewDEK()
	nextID := next.ID(v.vault())
	e, err := Seal(v.vault(), v.dek(), v.place(), credentialOf(1024))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Reseal(v.vault(), v.dek(), v.id(), next, nextID, v.place(), v.place().Epoch+1, agentkeys.BlobID{1}, e); err != nil {
			b.Fatal(err)
		}
	}
}
