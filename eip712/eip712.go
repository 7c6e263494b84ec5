// Package eip712 is how wallets sign (EIP-712 typed data, secp256k1, Keccak-256)
// and how a service label becomes a service id. The domain is {name "AgentKeys",
// version "1", salt = vault id}: a signature for one vault means nothing in
// another. The chain computes the digest from a statement's wire body; a wallet
// that shows typed data computes the same. Layout: docs/spec/eip712.md.
package eip712

import (
	"encoding/binary"
	"errors"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
	"golang.org/x/crypto/sha3"
)

// Keccak256 hashes the concatenation of its arguments, the Ethereum way.
func Keccak256(parts ...[]byte) (h [32]byte) {
	d := sha3.NewLegacyKeccak256()
	for _, p := range parts {
		d.Write(p)
	}
	d.Sum(h[:0])
	return h
}

// ServiceID is Keccak-256 of a label, which is how EIP-712 encodes a string.
func ServiceID(label string) agentkeys.ServiceID { return Keccak256([]byte(label)) }

// ErrNotUser is returned for statements that wallets do not sign.
var ErrNotUser = errors.New("eip712: not a user statement")

// Login proves to a custodian that the caller holds a wallet, for one key of the
// client. It is typed data that never goes on the chain.
type Login struct {
	User, Agent agentkeys.Wallet // Agent = User for the owner's own session
	Nonce       [32]byte         // from the custodian, used once
	ClientKey   [32]byte         // SHA-256 of the key the session is bound to
	IssuedAt    uint64           // unix seconds, valid for 5 minutes
}

// Presence is the owner's fresh consent to one action on one credential.
type Presence struct {
	User    agentkeys.Wallet
	Action  string // "reveal", "overwrite", "end"
	Service agentkeys.ServiceID
	Agent   agentkeys.Wallet
	Version uint64
	Nonce   [32]byte
}

const domainType = "EIP712Domain(string name,string version,bytes32 salt)"

const (
	typeEnrol       = "Enrol(address user)"
	typeAdmitAgent  = "AdmitAgent(address user,address agent,uint8 role,uint64 counter,uint64 expires)"
	typeRevokeAgent = "RevokeAgent(address user,address agent,uint64 counter)"
	typeGrant       = "Grant(address user,address agent,string service,uint64 previousVersion,uint64 counter,uint8 mode,uint8 slot,uint64 expires,bytes sealedName)"
	typeDelete      = "Delete(address user,address agent,string service,uint64 version)"
	typeAskRotation = "AskRotation(address user,uint32 dueEpoch)"
	typeLogin       = "Login(address user,address agent,bytes32 nonce,bytes32 clientKey,uint64 issuedAt)"
	typePresence    = "Presence(address user,string action,string service,address agent,uint64 version,bytes32 nonce)"
)

// Digest is what a wallet signs for a user's statement.
func Digest(vault agentkeys.VaultID, body statement.Body) ([32]byte, error) {
	h, ok := hashStruct(body)
	if !ok {
		return [32]byte{}, ErrNotUser
	}
	return digest(vault, h), nil
}

// Digest is what a wallet signs to log in.
func (l Login) Digest(vault agentkeys.VaultID) [32]byte {
	return digest(vault, encode(typeLogin, address(l.User), address(l.Agent), l.Nonce, l.ClientKey, number(l.IssuedAt)))
}

// Digest is what a wallet signs to consent.
func (p Presence) Digest(vault agentkeys.VaultID) [32]byte {
	return digest(vault, encode(typePresence, address(p.User), Keccak256([]byte(p.Action)), p.Service, address(p.Agent), number(p.Version), p.Nonce))
}

func hashStruct(body statement.Body) (h [32]byte, ok bool) {
	switch s := body.(type) {
	case statement.Enrol:
		return encode(typeEnrol, address(s.User)), true
	case statement.AdmitAgent:
		return encode(typeAdmitAgent, address(s.User), address(s.Agent), number(uint64(s.Role)), number(s.Counter), number(s.Expires)), true
	case statement.RevokeAgent:
		return encode(typeRevokeAgent, address(s.User), address(s.Agent), number(s.Counter)), true
	case statement.Grant:
		return encode(typeGrant, address(s.User), address(s.Agent), s.Service, number(s.Previous), number(s.Counter),
			number(uint64(s.Mode)), number(uint64(s.Slot)), number(s.Expires), Keccak256(s.SealedName[:])), true
	case statement.Delete:
		return encode(typeDelete, address(s.User), address(s.Agent), s.Service, number(s.Version)), true
	case statement.AskRotation:
		return encode(typeAskRotation, address(s.User), number(uint64(s.Due))), true
	}
	return h, false
}

// encode is hashStruct of EIP-712: Keccak-256(type hash, 32-byte fields).
func encode(typ string, fields ...[32]byte) [32]byte {
	th := Keccak256([]byte(typ))
	b := make([]byte, 0, 32*(1+len(fields)))
	b = append(b, th[:]...)
	for _, f := range fields {
		b = append(b, f[:]...)
	}
	return Keccak256(b)
}

func digest(vault agentkeys.VaultID, h [32]byte) [32]byte {
	domain := encode(domainType, Keccak256([]byte("AgentKeys")), Keccak256([]byte("1")), vault)
	return Keccak256([]byte{0x19, 0x01}, domain[:], h[:])
}

func address(w agentkeys.Wallet) (f [32]byte) {
	copy(f[12:], w[:])
	return f
}

func number(n uint64) (f [32]byte) {
	binary.BigEndian.PutUint64(f[24:], n)
	return f
}
