// Package seed derives every long-lived key of a custodian from its master seed:
// shielding keys, token issuers and the tag keys that name services. Labels and
// bytes: docs/spec/seed.md. Enclave keys never come from here.
package seed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math/big"

	"example.org/agentkeys"
)

const keySize = 32

// ErrKey is returned for a seed, key or share that is missing, all zero or not 32
// bytes.
var ErrKey = errors.New("seed: a key or share is missing, zero or not 32 bytes")

// ErrNumber is returned for a user, epoch or wrap version that is not set: numbers
// begin at 1.
var ErrNumber = errors.New("seed: user, epoch and wrap version must be set")

// Seed is the master seed: 32 random bytes behind a Secret. The custodian owns it
// and keeps it sealed.
type Seed struct{ agentkeys.Secret }

// New makes a random seed.
func New() Seed {
	b := make([]byte, keySize)
	rand.Read(b)
	return Seed{agentkeys.NewSecret(b)}
}

// ShieldingKey is the input key of wrapping keys and the salt of tree keys: 32
// bytes behind a Secret.
type ShieldingKey struct{ agentkeys.Secret }

// MetadataKey is the parent of all tag keys: 32 bytes behind a Secret.
type MetadataKey struct{ agentkeys.Secret }

// ShieldingKey derives the key of one wrap version, from 1.
func (s Seed) ShieldingKey(vault agentkeys.VaultID, version uint32) (ShieldingKey, error) {
	if version == 0 {
		return ShieldingKey{}, ErrNumber
	}
	info := binary.BigEndian.AppendUint32(agentkeys.DomainTag("shielding/v1", vault), version)
	key, err := derive(s.Secret, nil, info, keySize)
	return ShieldingKey{agentkeys.NewSecret(key)}, err
}

// MetadataKey derives the key under label "metadata/v1".
func (s Seed) MetadataKey(vault agentkeys.VaultID) (MetadataKey, error) {
	key, err := derive(s.Secret, nil, agentkeys.DomainTag("metadata/v1", vault), keySize)
	return MetadataKey{agentkeys.NewSecret(key)}, err
}

// SessionIssuer derives the ES256 key that signs sessions (label "issuer/jwt/v1").
func (s Seed) SessionIssuer(vault agentkeys.VaultID) (*ecdsa.PrivateKey, error) {
	return s.es256("issuer/jwt/v1", vault)
}

// OIDCIssuer derives the ES256 key that signs web identity tokens for the object
// store (label "oidc/issuer/v1"). Its public half is in the JWKS.
func (s Seed) OIDCIssuer(vault agentkeys.VaultID) (*ecdsa.PrivateKey, error) {
	return s.es256("oidc/issuer/v1", vault)
}

func (s Seed) es256(label string, vault agentkeys.VaultID) (*ecdsa.PrivateKey, error) {
	wide, err := derive(s.Secret, nil, agentkeys.DomainTag(label, vault), 48)
	if err != nil {
		return nil, err
	}
	defer clear(wide)
	return es256Key(wide)
}

// es256Key reads 48 bytes as a number and maps it to 1..n-1. The 128 bits beyond
// the order make the bias negligible (FIPS 186-5, A.2.1).
func es256Key(wide []byte) (*ecdsa.PrivateKey, error) {
	one := big.NewInt(1)
	d := new(big.Int).SetBytes(wide)
	d.Mod(d, new(big.Int).Sub(elliptic.P256().Params().N, one))
	d.Add(d, one)
	raw := d.FillBytes(make([]byte, keySize))
	defer clear(d.Bits())
	defer clear(raw)
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
}

// derive is HKDF-SHA256 over a key that is checked first, because HKDF takes an
// empty or zero key in silence.
func derive(key agentkeys.Secret, salt, info []byte, n int) ([]byte, error) {
	if !usable(key) {
		return nil, ErrKey
	}
	return hkdf.Key(sha256.New, key.Reveal(), salt, string(info), n)
}

func usable(key agentkeys.Secret) bool {
	b := key.Reveal()
	return len(b) == keySize && subtle.ConstantTimeCompare(b, make([]byte, keySize)) == 0
}
