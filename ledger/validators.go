package ledger

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
)

// MaxValidators bounds the sets that are read; a set costs one signature check a
// member and header.
const MaxValidators = 512

// maxPower bounds the total so that no product or sum below overflows.
const maxPower = math.MaxInt64 / 8

// Validator is one member of a set. Its JSON is that of the node's RPC; the proposer
// priority is not part of any hash and is not kept.
type Validator struct {
	Address Hex       `json:"address"`
	Key     PublicKey `json:"pub_key"`
	Power   int64     `json:"voting_power,string"`
}

// PublicKey is an Ed25519 key as the node's JSON writes it.
type PublicKey struct {
	Type  string `json:"type"`
	Value []byte `json:"value"`
}

const ed25519KeyType = "tendermint/PubKeyEd25519"

// Validators is a checked set in the order of the chain.
type Validators struct {
	members []Validator
	total   int64
	hash    [32]byte
}

// NewValidators checks a set: 1 to [MaxValidators] Ed25519 keys, none twice, each with
// power and the address of its key.
func NewValidators(members []Validator) (*Validators, error) {
	if len(members) == 0 || len(members) > MaxValidators {
		return nil, fmt.Errorf("validators: %d members, want 1 to %d", len(members), MaxValidators)
	}
	v := &Validators{members: members}
	seen := make(map[[32]byte]bool, len(members))
	leaves := make([][]byte, len(members))
	for i, m := range members {
		if err := m.check(); err != nil {
			return nil, err
		}
		if seen[[32]byte(m.Key.Value)] {
			return nil, errors.New("validators: one key twice")
		}
		seen[[32]byte(m.Key.Value)] = true
		if v.total += m.Power; v.total > maxPower {
			return nil, errors.New("validators: total power out of range")
		}
		leaves[i] = m.append(nil)
	}
	v.hash = merkleRoot(leaves)
	return v, nil
}

// Hash is the set's hash, the validators hash of the headers it signs.
func (v *Validators) Hash() [32]byte { return v.hash }

// Members returns a copy of the set.
func (v *Validators) Members() []Validator { return append([]Validator(nil), v.members...) }

func (m *Validator) check() error {
	if m.Key.Type != ed25519KeyType || len(m.Key.Value) != ed25519.PublicKeySize {
		return errors.New("validators: only Ed25519 keys are supported")
	}
	address := sha256.Sum256(m.Key.Value)
	if !bytes.Equal(address[:20], m.Address) {
		return errors.New("validators: address is not that of the key")
	}
	if m.Power <= 0 || m.Power > maxPower {
		return errors.New("validators: power out of range")
	}
	return nil
}

// append encodes SimpleValidator: public key 1 {ed25519 1}, power 2.
func (m *Validator) append(b []byte) []byte {
	b = appendMessage(b, 1, appendMessage(nil, 1, m.Key.Value))
	return appendUint(b, 2, uint64(m.Power))
}
