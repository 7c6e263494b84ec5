package agentkeys_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"example.org/agentkeys"
)

func TestReader(t *testing.T) {
	b := []byte{1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 'x', 'y', 'z', 'a', 'b'}
	r := agentkeys.NewReader(b)
	if r.U8() != 1 || r.U16() != 2 || r.U32() != 3 || r.U64() != 4 || !r.Bool() || r.Bool() || string(r.Take(3)) != "xyz" {
		t.Error("wrong values")
	}
	if r.Len() != 2 || r.Close() == nil {
		t.Error("trailing bytes are not an error")
	}
	var two [2]byte
	r.Copy(two[:])
	if two != [2]byte{'a', 'b'} || r.Len() != 0 || r.Close() != nil {
		t.Errorf("%q %d %v", two, r.Len(), r.Close())
	}
}

func TestReaderFailsForGood(t *testing.T) {
	for name, f := range map[string]func(r *agentkeys.Reader){
		"past the end":    func(r *agentkeys.Reader) { r.Take(4) },
		"negative":        func(r *agentkeys.Reader) { r.Take(-1) },
		"u32 of 3":        func(r *agentkeys.Reader) { r.U32() },
		"u64 of 3":        func(r *agentkeys.Reader) { r.U64() },
		"u16 after a u16": func(r *agentkeys.Reader) { r.U16(); r.U16() },
		"copy of 4":       func(r *agentkeys.Reader) { r.Copy(make([]byte, 4)) },
		"bool of 2":       func(r *agentkeys.Reader) { r.Bool() },
		"said so":         func(r *agentkeys.Reader) { r.Fail() },
	} {
		r := agentkeys.NewReader([]byte{2, 1, 1})
		f(r)
		if r.Take(1) != nil || r.U8() != 0 || r.U16() != 0 || r.U32() != 0 || r.U64() != 0 || r.Bool() {
			t.Errorf("%s: reads on", name)
		}
		if r.Take(r.Len()); r.Close() != agentkeys.ErrLayout {
			t.Errorf("%s: %v", name, r.Close())
		}
	}
}

// What Take returns cannot be grown into the rest of the input.
func TestTakeIsCapped(t *testing.T) {
	b := []byte("abcd")
	_ = append(agentkeys.NewReader(b).Take(2), 'X')
	if string(b) != "abcd" {
		t.Errorf("%q", b)
	}
}

// Each byte of script is a read; the results must be those of plain slicing.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5}, []byte("some input of some length"))
	f.Fuzz(func(t *testing.T, script, in []byte) {
		r, rest, failed := agentkeys.NewReader(in), in, false
		take := func(n int) []byte {
			if failed || n > len(rest) {
				failed = true
				return make([]byte, 8)
			}
			out := append(make([]byte, 8-n, 8), rest[:n]...)
			rest = rest[n:]
			return out
		}
		for _, op := range script {
			var got, want uint64
			switch op % 5 {
			case 0:
				got, want = uint64(r.U8()), binary.BigEndian.Uint64(take(1))
			case 1:
				got, want = uint64(r.U16()), binary.BigEndian.Uint64(take(2))
			case 2:
				got, want = uint64(r.U32()), binary.BigEndian.Uint64(take(4))
			case 3:
				got, want = r.U64(), binary.BigEndian.Uint64(take(8))
			case 4:
				var b [3]byte
				r.Copy(b[:])
				if !bytes.Equal(b[:], take(3)[5:]) {
					t.Fatal("copy")
				}
			}
			if got != want {
				t.Fatalf("op %d: %d, want %d", op%5, got, want)
			}
		}
		if err := r.Close(); (err == nil) != (!failed && len(rest) == 0) {
			t.Fatalf("close: %v, failed %v, %d left", err, failed, len(rest))
		}
	})
}
