package rules

import (
	"encoding/binary"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// Every key is one byte that names the kind of row, then fixed fields.
const (
	keyVault       = 'v'
	keyParams      = 'p'
	keySystem      = 'y'
	keyAnchors     = 'l'
	keyUser        = 'u'
	keyPointer     = 'c'
	keyAgent       = 'a'
	keyGrant       = 'g'
	keyEnclave     = 'e'
	keyReads       = 'r'
	keyAnchor      = 'n'
	keyMeasurement = 'm'
	keyOidc        = 'o'
	keyTouched     = 't'
	keyTouchedHead = 'T'
)

// VaultKey holds the vault id, 32 bytes.
func VaultKey() []byte { return []byte{keyVault} }

// ParamsKey holds [ParamsRow].
func ParamsKey() []byte { return []byte{keyParams} }

// SystemKey holds [System].
func SystemKey() []byte { return []byte{keySystem} }

// AnchorsKey holds [Anchors].
func AnchorsKey() []byte { return []byte{keyAnchors} }

// UserKey holds [User]: 'u', user 20.
func UserKey(u agentkeys.Wallet) []byte { return append([]byte{keyUser}, u[:]...) }

// PointerKey holds [Pointer]: 'c', user 20, agent 20, service 32.
func PointerKey(s agentkeys.Slot) []byte { return slotKey(keyPointer, s) }

// GrantKey holds [Grant]: 'g', user 20, agent 20, service 32.
func GrantKey(s agentkeys.Slot) []byte { return slotKey(keyGrant, s) }

// AgentKey holds [Agent]: 'a', user 20, agent 20.
func AgentKey(user, agent agentkeys.Wallet) []byte {
	return append(append([]byte{keyAgent}, user[:]...), agent[:]...)
}

// EnclaveKey holds [Enclave]: 'e', role 1, key 32.
func EnclaveKey(role statement.EnclaveRole, k agentkeys.ProcessKey) []byte {
	return append([]byte{keyEnclave, byte(role)}, k[:]...)
}

// ReadsKey holds [Reads] of a custodian: 'r', key 32.
func ReadsKey(k agentkeys.ProcessKey) []byte { return append([]byte{keyReads}, k[:]...) }

// AnchorKey holds [Anchor]: 'n', id 16.
func AnchorKey(id statement.AnchorID) []byte { return append([]byte{keyAnchor}, id[:]...) }

// MeasurementKey holds [Measurement]: 'm', role 1, platform 1, measurement 48.
func MeasurementKey(role statement.EnclaveRole, platform uint8, m [48]byte) []byte {
	return append([]byte{keyMeasurement, byte(role), platform}, m[:]...)
}

// OidcKey holds one byte, 1 while the key is active: 'o', key hash 32.
func OidcKey(h agentkeys.Hash) []byte { return append([]byte{keyOidc}, h[:]...) }

// TouchedKey holds [Touched] of a height: 't', height 8.
func TouchedKey(height uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyTouched}, height)
}

// TouchedHeadKey holds a copy of the newest [Touched] row.
func TouchedHeadKey() []byte { return []byte{keyTouchedHead} }

// Owner names the user a row belongs to; rows of the system have none.
func Owner(key []byte) (u agentkeys.Wallet, ok bool) {
	if len(key) < 21 {
		return u, false
	}
	switch key[0] {
	case keyUser, keyPointer, keyAgent, keyGrant:
		return agentkeys.Wallet(key[1:21]), true
	}
	return u, false
}

// UserPrefixes are the prefixes of all rows of one user, for listings.
func UserPrefixes(u agentkeys.Wallet) [][]byte {
	var out [][]byte
	for _, k := range []byte{keyUser, keyPointer, keyAgent, keyGrant} {
		out = append(out, append([]byte{k}, u[:]...))
	}
	return out
}

// PointerPrefix is the prefix of all Pointer rows of one user.
func PointerPrefix(u agentkeys.Wallet) []byte { return append([]byte{keyPointer}, u[:]...) }

// UsersPrefix is the prefix of all User rows.
func UsersPrefix() []byte { return []byte{keyUser} }

// ParsePointerKey gives the slot of a pointer key.
func ParsePointerKey(key []byte) (agentkeys.Slot, bool) { return parseSlotKey(keyPointer, key) }

// ParseGrantKey gives user, agent and service of a grant key.
func ParseGrantKey(key []byte) (agentkeys.Slot, bool) { return parseSlotKey(keyGrant, key) }

// ParseAgentKey gives user and agent of an agent key.
func ParseAgentKey(key []byte) (user, agent agentkeys.Wallet, ok bool) {
	if len(key) != 41 || key[0] != keyAgent {
		return user, agent, false
	}
	return agentkeys.Wallet(key[1:21]), agentkeys.Wallet(key[21:41]), true
}

func parseSlotKey(kind byte, key []byte) (s agentkeys.Slot, ok bool) {
	if len(key) != 73 || key[0] != kind {
		return s, false
	}
	return agentkeys.Slot{User: agentkeys.Wallet(key[1:21]), Agent: agentkeys.Wallet(key[21:41]),
		Service: agentkeys.ServiceID(key[41:73])}, true
}

func slotKey(kind byte, s agentkeys.Slot) []byte {
	b := make([]byte, 0, 73)
	b = append(append(b, kind), s.User[:]...)
	return append(append(b, s.Agent[:]...), s.Service[:]...)
}
