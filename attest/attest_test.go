package attest

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

func TestVerify(t *testing.T) {
	m, keys := Measurement{1}, KeysHash([]byte("a key"))
	good := Software(m, keys).Append(nil)
	if len(good) != Size {
		t.Fatalf("%d bytes", len(good))
	}
	if err := Verify(good, statement.PlatformSoftware, m, keys); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		evidence []byte
		platform uint8
		allowed  Measurement
		keys     agentkeys.Hash
		want     error
	}{
		{"another measurement", good, statement.PlatformSoftware, Measurement{2}, keys, ErrEvidence},
		{"other keys", good, statement.PlatformSoftware, m, KeysHash([]byte("b key")), ErrEvidence},
		{"a platform without verifier", good, statement.PlatformNitro, m, keys, ErrPlatform},
		{"evidence of another platform", Evidence{statement.PlatformSNP, m, keys}.Append(nil), statement.PlatformSoftware, m, keys, ErrEvidence},
		{"trailing bytes", append(bytes.Clone(good), 0), statement.PlatformSoftware, m, keys, agentkeys.ErrLayout},
		{"short", good[:Size-1], statement.PlatformSoftware, m, keys, agentkeys.ErrLayout},
		{"another magic", append([]byte("AKe2"), good[4:]...), statement.PlatformSoftware, m, keys, agentkeys.ErrLayout},
		{"empty", nil, statement.PlatformSoftware, m, keys, agentkeys.ErrLayout},
	} {
		if err := Verify(tt.evidence, tt.platform, tt.allowed, tt.keys); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if Limit(statement.PlatformSoftware) != "software: no protection from root" {
		t.Error("the limit is not said")
	}
}

func TestKeysHashCoversEveryKey(t *testing.T) {
	if KeysHash([]byte{1}, []byte{2}) == KeysHash([]byte{1}, []byte{3}) || KeysHash([]byte{1}, []byte{2}) == KeysHash([]byte{2}, []byte{1}) {
		t.Error("keys can be exchanged")
	}
}

func TestMeasureFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("program"), 0o700); err != nil {
		t.Fatal(err)
	}
	if m, err := MeasureFile(path); err != nil || m != Measurement(sha512.Sum384([]byte("program"))) {
		t.Errorf("%x, %v", m, err)
	}
	if _, err := MeasureFile(path + "x"); err == nil {
		t.Error("a missing file was measured")
	}
	if m, err := MeasureSelf(); err != nil || m == (Measurement{}) {
		t.Errorf("self: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Software(Measurement{1}, agentkeys.Hash{2}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := Parse(b); err == nil && !bytes.Equal(e.Append(nil), b) {
			t.Fatalf("%x is taken for %+v", b, e)
		}
	})
}
