package statement_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vector is one statement of a process or one act: docs/spec/statements.md. The
// vectors of users' statements lie in eip712/testdata.
type vector struct {
	Name   string            `json:"name"`
	Kind   statement.Kind    `json:"kind"`
	Fields map[string]string `json:"fields"` // numbers in decimal, bytes in hex
	Vault  string            `json:"vault,omitempty"`
	Keys   []string          `json:"private_keys,omitempty"` // Ed25519 seeds: custodian, then rotator
	Wire   string            `json:"wire"`
	Signed string            `json:"message_sha256,omitempty"` // of what the process signs
	Hash   string            `json:"hash"`                     // of the wire bytes, as logs take it
}

// fields flattens a body into names and values.
func fields(prefix string, v reflect.Value, out map[string]string) {
	for i := range v.NumField() {
		name, f := prefix+v.Type().Field(i).Name, v.Field(i)
		switch {
		case f.Kind() == reflect.Struct:
			fields(name+".", f, out)
		case f.Kind() == reflect.Slice:
			for j := range f.Len() {
				fields(fmt.Sprintf("%s[%d].", name, j), f.Index(j), out)
			}
		case f.Kind() == reflect.Array:
			b := make([]byte, f.Len())
			reflect.Copy(reflect.ValueOf(b), f)
			out[name] = hex.EncodeToString(b)
		case f.Kind() == reflect.Bool:
			out[name] = fmt.Sprint(f.Bool())
		default:
			out[name] = fmt.Sprint(f.Uint())
		}
	}
}

func makeVectors() (all []vector) {
	for _, b := range bodies() {
		if b.Kind().ByUser() {
			continue
		}
		wire := wireOf(b)
		v := vector{Name: strings.TrimPrefix(fmt.Sprintf("%T", b), "statement."), Kind: b.Kind(), Fields: map[string]string{},
			Wire: hex.EncodeToString(wire)}
		fields("", reflect.ValueOf(b), v.Fields)
		if b.Kind().ByProcess() {
			v.Vault = vault.String()
			v.Keys = []string{hex.EncodeToString(chief.Seed())}
			if b.Kind().HasReceipt() {
				v.Keys = append(v.Keys, hex.EncodeToString(maker.Seed()))
			}
			m := sha256.Sum256(message(wire))
			v.Signed = hex.EncodeToString(m[:])
		}
		h := sha256.Sum256(wire)
		v.Hash = hex.EncodeToString(h[:])
		all = append(all, v)
	}
	return all
}

// message is what a process signs, put together from the page rather than from
// the package: tag, then the wire up to the process's own key and signature.
func message(wire []byte) []byte {
	return slices.Concat([]byte("agentkeys/statement/v1\x00"), vault[:], wire[:len(wire)-96])
}

func TestVectors(t *testing.T) {
	const path = "testdata/vectors.json"
	made := makeVectors()
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
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden) != len(made) {
		t.Fatalf("%d vectors in the file, %d made", len(golden), len(made))
	}
	for i, v := range golden {
		t.Run(v.Name, func(t *testing.T) {
			if !reflect.DeepEqual(v, made[i]) {
				t.Errorf("made\n%+v, the file has\n%+v", made[i], v)
			}
			wire, err := hex.DecodeString(v.Wire)
			if err != nil {
				t.Fatal(err)
			}
			if h := statement.Hash(wire); h.String() != v.Hash {
				t.Errorf("hash %s", h)
			}
			if v.Kind.ByProcess() {
				checkSignatures(t, v.Kind, wire)
			}
		})
	}
}

// checkSignatures uses Ed25519 alone, over bytes put together here.
func checkSignatures(t *testing.T, kind statement.Kind, wire []byte) {
	own := wire[len(wire)-96:]
	if !bytes.Equal(own[:32], chief.Public().(ed25519.PublicKey)) || !ed25519.Verify(own[:32], message(wire), own[32:]) {
		t.Error("the process's signature is not over the message of the page")
	}
	if !kind.HasReceipt() {
		return
	}
	sig := wire[len(wire)-192 : len(wire)-96]
	body := wire[1 : len(wire)-192-8] // without valid until
	number := map[statement.Kind]byte{statement.KindOpenEpoch: 1, statement.KindRotateBlobs: 2, statement.KindRewrapDEK: 3}[kind]
	m := slices.Concat([]byte("agentkeys/receipt/v1\x00"), vault[:], []byte{number}, body)
	if !bytes.Equal(sig[:32], maker.Public().(ed25519.PublicKey)) || !ed25519.Verify(sig[:32], m, sig[32:]) {
		t.Error("the rotator's signature is not over the receipt of the page")
	}
	if tag := agentkeys.DomainTag("receipt", vault); !bytes.HasPrefix(m, tag) {
		t.Errorf("tag %x", tag)
	}
}
