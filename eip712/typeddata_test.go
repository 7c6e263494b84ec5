package eip712_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/sha3"
)

// A second EIP-712, written from the text of the EIP: it knows no statement, builds
// type strings out of a table of types and takes values as a wallet's JSON does.
// The package under test must agree with it.

type member struct{ name, typ string }

type typeSet map[string][]member

func keccak(parts ...[]byte) []byte {
	h := sha3.NewLegacyKeccak256()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// encodeType is the primary type, then the types it refers to, sorted by name.
func (ts typeSet) encodeType(primary string) string {
	found := map[string]bool{}
	ts.references(primary, found)
	delete(found, primary)
	var b strings.Builder
	for _, name := range append([]string{primary}, slices.Sorted(maps.Keys(found))...) {
		var members []string
		for _, m := range ts[name] {
			members = append(members, m.typ+" "+m.name)
		}
		b.WriteString(name + "(" + strings.Join(members, ",") + ")")
	}
	return b.String()
}

func (ts typeSet) references(name string, found map[string]bool) {
	if _, ok := ts[name]; !ok || found[name] {
		return
	}
	found[name] = true
	for _, m := range ts[name] {
		ts.references(m.typ, found)
	}
}

func (ts typeSet) hashStruct(name string, message map[string]any) []byte {
	enc := keccak([]byte(ts.encodeType(name)))
	for _, m := range ts[name] {
		enc = append(enc, ts.encodeData(m.typ, message[m.name])...)
	}
	return keccak(enc)
}

func (ts typeSet) encodeData(typ string, v any) []byte {
	if _, ok := ts[typ]; ok {
		return ts.hashStruct(typ, v.(map[string]any))
	}
	s := v.(string)
	word := make([]byte, 32)
	switch {
	case typ == "string":
		return keccak([]byte(s))
	case typ == "bytes":
		return keccak(unhex(s))
	case typ == "address":
		copy(word[12:], unhex(s))
	case strings.HasPrefix(typ, "bytes"):
		copy(word, unhex(s)) // left-aligned
	case strings.HasPrefix(typ, "uint"):
		n, ok := new(big.Int).SetString(s, 10)
		if !ok {
			panic("not a number: " + s)
		}
		n.FillBytes(word)
	default:
		panic("type " + typ)
	}
	return word
}

func (ts typeSet) digest(primary string, domain, message map[string]any) []byte {
	return keccak([]byte{0x19, 0x01}, ts.hashStruct("EIP712Domain", domain), ts.hashStruct(primary, message))
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		panic(err)
	}
	return b
}

// mail is the example of the EIP itself.
func mail() (typeSet, map[string]any, map[string]any) {
	ts := typeSet{
		"EIP712Domain": {{"name", "string"}, {"version", "string"}, {"chainId", "uint256"}, {"verifyingContract", "address"}},
		"Person":       {{"name", "string"}, {"wallet", "address"}},
		"Mail":         {{"from", "Person"}, {"to", "Person"}, {"contents", "string"}},
	}
	domain := map[string]any{"name": "Ether Mail", "version": "1", "chainId": "1",
		"verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"}
	message := map[string]any{
		"from":     map[string]any{"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
		"to":       map[string]any{"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
		"contents": "Hello, Bob!",
	}
	return ts, domain, message
}

func TestTheOtherImplementationKnowsTheExampleOfTheEIP(t *testing.T) {
	ts, domain, message := mail()
	if got, want := ts.encodeType("Mail"), "Mail(Person from,Person to,string contents)Person(string name,address wallet)"; got != want {
		t.Fatal(got)
	}
	for what, c := range map[string][2]string{
		"type hash": {hex.EncodeToString(keccak([]byte(ts.encodeType("Mail")))), "a0cedeb2dc280ba39b857546d74f5549c3a1d7bdc2dd96bf881f76108e23dac2"},
		"domain":    {hex.EncodeToString(ts.hashStruct("EIP712Domain", domain)), "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"},
		"message":   {hex.EncodeToString(ts.hashStruct("Mail", message)), "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e"},
		"digest":    {hex.EncodeToString(ts.digest("Mail", domain, message)), "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %s, the EIP says %s", what, c[0], c[1])
		}
	}
}

// The types of docs/spec/eip712.md.
func vaultTypes() typeSet {
	parse := func(s string) (members []member) {
		for _, m := range strings.Split(s, ", ") {
			typ, name, ok := strings.Cut(m, " ")
			if !ok {
				panic(fmt.Sprintf("member %q", m))
			}
			members = append(members, member{name, typ})
		}
		return members
	}
	return typeSet{
		"EIP712Domain": parse("string name, string version, bytes32 salt"),
		"Enrol":        parse("address user"),
		"AdmitAgent":   parse("address user, address agent, uint8 role, uint64 counter, uint64 expires"),
		"RevokeAgent":  parse("address user, address agent, uint64 counter"),
		"Grant":        parse("address user, address agent, string service, uint64 previousVersion, uint64 counter, uint8 mode, uint8 slot, uint64 expires, bytes sealedName"),
		"Delete":       parse("address user, address agent, string service, uint64 version"),
		"AskRotation":  parse("address user, uint32 dueEpoch"),
		"Login":        parse("address user, address agent, bytes32 nonce, bytes32 clientKey, uint64 issuedAt"),
		"Presence":     parse("address user, string action, string service, address agent, uint64 version, bytes32 nonce"),
	}
}
