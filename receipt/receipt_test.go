package receipt_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/receipt"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

var (
	vault = agentkeys.VaultID(bytes.Repeat([]byte{0x5a}, 32))
	key   = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
)

// fill counts bytes up through every field.
func fill(v reflect.Value, next *byte) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), next)
		}
	case reflect.Array, reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), next)
		}
	default:
		n := uint64(0)
		for range v.Type().Size() {
			*next++
			n = n<<8 | uint64(*next)
		}
		v.SetUint(n)
	}
}

// layout is one kind of receipt with its size and what reads it.
type layout struct {
	name string
	kind uint8
	size int
	body []byte
	read func(*agentkeys.Reader) interface{ Append([]byte) []byte }
}

func layouts() []layout {
	var next byte
	var m receipt.Made
	var w receipt.Rewrapped
	c := receipt.Rotated{Rows: make([]receipt.Row, 2)}
	for _, v := range []any{&m, &c, &w} {
		fill(reflect.ValueOf(v).Elem(), &next)
	}
	return []layout{
		{"made", receipt.KindMade, 136, m.Append(nil), func(r *agentkeys.Reader) interface{ Append([]byte) []byte } { return receipt.ReadMade(r) }},
		{"rotated", receipt.KindRotated, 114 + 2*140, c.Append(nil), func(r *agentkeys.Reader) interface{ Append([]byte) []byte } { return receipt.ReadRotated(r) }},
		{"rewrapped", receipt.KindRewrapped, 140, w.Append(nil), func(r *agentkeys.Reader) interface{ Append([]byte) []byte } { return receipt.ReadRewrapped(r) }},
	}
}

func TestReceiptsRoundTripAndRefuseOtherLengths(t *testing.T) {
	for _, l := range layouts() {
		if len(l.body) != l.size {
			t.Errorf("%s: %d bytes, the page says %d", l.name, len(l.body), l.size)
		}
		for n := range len(l.body) + 2 {
			b := append(bytes.Clone(l.body), 0)[:n]
			r := agentkeys.NewReader(b)
			v := l.read(r)
			if err := r.Close(); (err == nil) != (n == l.size) {
				t.Errorf("%s: %d bytes: %v", l.name, n, err)
			} else if err == nil && !bytes.Equal(v.Append(nil), l.body) {
				t.Errorf("%s: %x became %x", l.name, l.body, v.Append(nil))
			}
		}
	}
}

func TestChunkSizes(t *testing.T) {
	for n, ok := range map[int]bool{0: false, 1: true, receipt.MaxRows: true, receipt.MaxRows + 1: false} {
		r := agentkeys.NewReader(receipt.Rotated{Rows: make([]receipt.Row, n)}.Append(nil))
		if got := receipt.ReadRotated(r); (r.Close() == nil) != ok || ok && len(got.Rows) != n {
			t.Errorf("%d rows", n)
		}
	}
	// A count without the rows must not make the reader allocate for them.
	head := receipt.Rotated{Rows: make([]receipt.Row, receipt.MaxRows)}.Append(nil)[:114]
	r := agentkeys.NewReader(head)
	if got := receipt.ReadRotated(r); r.Close() == nil || got.Rows != nil {
		t.Error("a count without rows passes")
	}
}

func TestSignatureIsForOneKindVaultAndBody(t *testing.T) {
	for _, l := range layouts() {
		s := receipt.Sign(key, vault, l.kind, l.body)
		if !s.Verify(vault, l.kind, l.body) {
			t.Fatalf("%s: does not verify", l.name)
		}
		for i := range l.body {
			l.body[i] ^= 1
			if s.Verify(vault, l.kind, l.body) {
				t.Errorf("%s: byte %d is not signed", l.name, i)
			}
			l.body[i] ^= 1
		}
		other := s
		other.Key[0] ^= 1
		if s.Verify(agentkeys.VaultID{}, l.kind, l.body) || s.Verify(vault, l.kind%3+1, l.body) || other.Verify(vault, l.kind, l.body) {
			t.Errorf("%s: verifies for another vault, kind or key", l.name)
		}
	}
}

// Zeros are a point of order 4 and a valid signature of every fourth message.
func TestZeroKeySignsNothing(t *testing.T) {
	for i := range 64 {
		if (receipt.Signature{}).Verify(vault, receipt.KindMade, []byte{byte(i)}) {
			t.Fatal("zeros are a signature")
		}
	}
}

func TestVectors(t *testing.T) {
	type vector struct {
		Name      string `json:"name"`
		Kind      uint8  `json:"kind"`
		Vault     string `json:"vault"`
		Seed      string `json:"private_key"`
		Body      string `json:"body"`
		Signature string `json:"signature"` // key 32, Ed25519 64
	}
	var made []vector
	for _, l := range layouts() {
		made = append(made, vector{l.name, l.kind, vault.String(), hex.EncodeToString(key.Seed()), hex.EncodeToString(l.body),
			hex.EncodeToString(receipt.Sign(key, vault, l.kind, l.body).Append(nil))})
	}
	const path = "testdata/vectors.json"
	if *update {
		b, err := json.MarshalIndent(made, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var golden []vector
	if err := json.Unmarshal(b, &golden); err != nil || !reflect.DeepEqual(golden, made) {
		t.Fatalf("%v: made\n%+v, the file has\n%+v", err, made, golden)
	}
}

func FuzzReceipt(f *testing.F) {
	all := layouts()
	for i, l := range all {
		f.Add(uint8(i), l.body)
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		l := all[int(which)%len(all)]
		r := agentkeys.NewReader(b)
		v := l.read(r)
		if r.Close() == nil && !bytes.Equal(v.Append(nil), b) {
			t.Fatalf("%s: %x has two spellings", l.name, b)
		}
	})
}
