package eip712_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strconv"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vector is one typed data of a wallet, with everything needed to check another
// implementation: docs/spec/eip712.md.
type vector struct {
	Name      string         `json:"name"` // EIP-712 primary type
	Vault     string         `json:"vault"`
	Key       string         `json:"private_key"`
	Message   map[string]any `json:"message"` // as in the JSON of eth_signTypedData_v4
	Wire      string         `json:"wire,omitempty"`
	Digest    string         `json:"digest"`
	Signature string         `json:"signature"`
}

const label = "github#000102030405060708090a0b0c0d0e0f"

// sample is one body and the message that a wallet would show for it.
type sample struct {
	name    string
	body    statement.Body // nil for what never goes on the chain
	digest  func(agentkeys.VaultID) [32]byte
	message map[string]any
}

func samples(user agentkeys.Wallet) []sample {
	agent := agentkeys.Wallet(bytes.Repeat([]byte{0xa9}, 20))
	svc := eip712.ServiceID(label)
	var name agentkeys.SealedName
	for i := range name {
		name[i] = byte(i)
	}
	u, a, max := user.String(), agent.String(), strconv.FormatUint(1<<64-1, 10)
	nonce, clientKey := [32]byte(bytes.Repeat([]byte{0x11}, 32)), [32]byte(bytes.Repeat([]byte{0x22}, 32))
	hex32 := func(b [32]byte) string { return "0x" + hex.EncodeToString(b[:]) }
	return []sample{
		{"Enrol", statement.Enrol{User: user}, nil, map[string]any{"user": u}},
		{"AdmitAgent", statement.AdmitAgent{User: user, Agent: agent, Role: statement.RoleProxy, Counter: 3, Expires: 1_900_000_000}, nil,
			map[string]any{"user": u, "agent": a, "role": "2", "counter": "3", "expires": "1900000000"}},
		{"RevokeAgent", statement.RevokeAgent{User: user, Agent: agent, Counter: 1<<64 - 1}, nil,
			map[string]any{"user": u, "agent": a, "counter": max}},
		{"Grant", statement.Grant{User: user, Agent: agent, Service: svc, Previous: 4, Counter: 3, Mode: statement.ModeReveal,
			Slot: statement.SlotShared, Expires: 1_800_000_000, SealedName: name}, nil,
			map[string]any{"user": u, "agent": a, "service": label, "previousVersion": "4", "counter": "3", "mode": "2", "slot": "2",
				"expires": "1800000000", "sealedName": "0x" + hex.EncodeToString(name[:])}},
		{"Delete", statement.Delete{User: user, Agent: user, Service: svc, Version: 7}, nil,
			map[string]any{"user": u, "agent": u, "service": label, "version": "7"}},
		{"AskRotation", statement.AskRotation{User: user, Due: 1<<32 - 1}, nil, map[string]any{"user": u, "dueEpoch": "4294967295"}},
		{"Login", nil, eip712.Login{User: user, Agent: agent, Nonce: nonce, ClientKey: clientKey, IssuedAt: 1_800_000_001}.Digest,
			map[string]any{"user": u, "agent": a, "nonce": hex32(nonce), "clientKey": hex32(clientKey), "issuedAt": "1800000001"}},
		{"Presence", nil, eip712.Presence{User: user, Action: "reveal", Service: svc, Agent: agent, Version: 9, Nonce: nonce}.Digest,
			map[string]any{"user": u, "action": "reveal", "service": label, "agent": a, "version": "9", "nonce": hex32(nonce)}},
	}
}

func makeVectors(t *testing.T) (all []vector) {
	vault := agentkeys.VaultID(bytes.Repeat([]byte{0x5a}, 32))
	k := cow(t)
	for _, s := range samples(k.Wallet()) {
		v := vector{Name: s.name, Vault: vault.String(), Key: hex.EncodeToString(k.Bytes()), Message: s.message}
		var d [32]byte
		if s.body == nil {
			d = s.digest(vault)
		} else {
			wire, err := k.SignStatement(vault, s.body)
			if err != nil {
				t.Fatal(err)
			}
			if d, err = eip712.Digest(vault, s.body); err != nil {
				t.Fatal(err)
			}
			v.Wire = hex.EncodeToString(wire)
		}
		sig := k.Sign(d)
		v.Digest, v.Signature = hex.EncodeToString(d[:]), hex.EncodeToString(sig[:])
		all = append(all, v)
	}
	return all
}

func TestVectors(t *testing.T) {
	const path = "testdata/vectors.json"
	made := makeVectors(t)
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
	if len(golden) != len(made) || len(golden) != len(vaultTypes())-1 {
		t.Fatalf("%d vectors for %d types", len(golden), len(vaultTypes())-1)
	}
	for i, v := range golden {
		t.Run(v.Name, func(t *testing.T) {
			if !reflect.DeepEqual(v, made[i]) {
				t.Errorf("made\n%+v, the file has\n%+v", made[i], v)
			}
			checkVector(t, v)
		})
	}
}

// checkVector holds a vector of the file against the other implementation and
// against the parser.
func checkVector(t *testing.T, v vector) {
	domain := map[string]any{"name": "AgentKeys", "version": "1", "salt": v.Vault}
	digest := vaultTypes().digest(v.Name, domain, v.Message)
	if hex.EncodeToString(digest) != v.Digest {
		t.Errorf("the other implementation gives %x", digest)
	}
	user, err := agentkeys.ParseWallet(v.Message["user"].(string))
	if err != nil {
		t.Fatal(err)
	}
	sig := eip712.Signature(unhex(v.Signature))
	if err := eip712.Verify([32]byte(digest), sig, user); err != nil {
		t.Error(err)
	}
	if v.Wire == "" {
		return
	}
	s, err := statement.Parse(unhex(v.Wire))
	if err != nil || s.User != sig {
		t.Fatalf("%v, signature %x", err, s.User)
	}
	if !bytes.Equal(s.Append(nil), unhex(v.Wire)) {
		t.Error("the wire form does not survive")
	}
}

// Every field counts: a wallet that signs one thing has not signed its neighbour.
func TestEveryFieldChangesTheDigest(t *testing.T) {
	vault := agentkeys.VaultID{1}
	for _, s := range samples(agentkeys.Wallet{7}) {
		if s.body == nil {
			continue
		}
		whole, _ := eip712.Digest(vault, s.body)
		b := s.body.Append([]byte{byte(s.body.Kind())})
		for i := 1; i < len(b); i++ {
			b[i] ^= 1
			got, err := statement.Parse(append(bytes.Clone(b), make([]byte, 65)...))
			b[i] ^= 1
			if err != nil {
				continue // an enumeration out of range
			}
			if d, err := eip712.Digest(vault, got.Body); err != nil || d == whole {
				t.Errorf("%s: byte %d of the body is not signed", s.name, i)
			}
		}
	}
}
