// Package envelope seals one credential into one blob and wraps the data keys
// that do it. Bytes and rules: docs/spec/envelope.md. Start with [Seal] and
// [Open]; the rotator uses [Reseal] and the methods of [WrappingKey].
package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"example.org/agentkeys"
)

const keySize, nonceSize, tagSize = 32, 12, 16

var (
	// ErrKey is returned for a key that is missing, all zero or not 32 bytes.
	ErrKey = errors.New("key: want 32 bytes, not all zero")
	// ErrDEKID is returned when the data key, the row and the bytes do not all
	// name the same data key.
	ErrDEKID = errors.New("dek id: does not match the data key")
	// ErrOpen is returned when bytes were not sealed under this key for this place.
	ErrOpen = errors.New("envelope: wrong key, place or bytes")
	// ErrPlace is returned for a place with an unset field: nothing is numbered 0.
	ErrPlace = errors.New("place: a user, agent, blob id or number is not set")

	errSize   = errors.New("credential: too short or too long")
	errReseal = errors.New("reseal: want a later epoch, a fresh blob id and another data key")
)

// DEK is the data key of one (user, epoch): 32 bytes behind a Secret.
type DEK struct{ agentkeys.Secret }

// NewDEK makes a random data key.
func NewDEK() DEK { return DEK{agentkeys.NewSecret(random(keySize))} }

// ID names the key without revealing it: HMAC-SHA256(DEK, domain tag "dek-id").
// A missing or zero key has the zero id, which nothing accepts.
func (k DEK) ID(vault agentkeys.VaultID) (id agentkeys.DEKID) {
	if usable(k.Reveal()) {
		m := hmac.New(sha256.New, k.Reveal())
		m.Write(agentkeys.DomainTag("dek-id", vault))
		m.Sum(id[:0])
	}
	return id
}

func (k DEK) matches(vault agentkeys.VaultID, id agentkeys.DEKID) bool {
	return id != agentkeys.DEKID{} && k.ID(vault) == id
}

// WrappingKey is the key under which a data key lies on the chain: 32 bytes behind
// a Secret, good for one user, epoch and wrap version. Package seed derives it.
type WrappingKey struct {
	agentkeys.Secret
	User    agentkeys.Wallet
	Epoch   agentkeys.Epoch
	Version uint32 // number of the shielding key, from 1
}

// Info is domain tag "wrap", user 20, epoch 4, wrap version 4: the HKDF info of the
// key and the front of the AAD it is used with.
func (k WrappingKey) Info(vault agentkeys.VaultID) []byte {
	b := append(agentkeys.DomainTag("wrap", vault), k.User[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(k.Epoch))
	return binary.BigEndian.AppendUint32(b, k.Version)
}

// Wrap seals a data key: wrap version 4, nonce 12, ciphertext 32, tag 16.
func (k WrappingKey) Wrap(vault agentkeys.VaultID, dek DEK) (agentkeys.WrappedDEK, error) {
	return k.wrap(vault, dek, random(nonceSize))
}

func (k WrappingKey) wrap(vault agentkeys.VaultID, dek DEK, nonce []byte) (w agentkeys.WrappedDEK, err error) {
	aead, err := k.cipher()
	if err != nil {
		return w, err
	}
	id := dek.ID(vault)
	if id == (agentkeys.DEKID{}) {
		return w, ErrKey
	}
	binary.BigEndian.PutUint32(w[:], k.Version)
	copy(w[4:], nonce)
	aead.Seal(w[:4+nonceSize], nonce, dek.Reveal(), append(k.Info(vault), id[:]...))
	return w, nil
}

// Unwrap opens a wrapped data key and checks that it is the one the user's row
// names.
func (k WrappingKey) Unwrap(vault agentkeys.VaultID, want agentkeys.DEKID, w agentkeys.WrappedDEK) (DEK, error) {
	aead, err := k.cipher()
	if err != nil {
		return DEK{}, err
	}
	plain, err := aead.Open(nil, w[4:4+nonceSize], w[4+nonceSize:], append(k.Info(vault), want[:]...))
	dek := DEK{agentkeys.NewSecret(plain)}
	if err != nil || binary.BigEndian.Uint32(w[:]) != k.Version || !dek.matches(vault, want) {
		dek.Wipe()
		return DEK{}, ErrOpen
	}
	return dek, nil
}

func (k WrappingKey) cipher() (cipher.AEAD, error) {
	if k.User.IsZero() || k.Epoch == 0 || k.Version == 0 {
		return nil, ErrPlace
	}
	return newGCM(k.Reveal())
}

func newGCM(key []byte) (cipher.AEAD, error) {
	if !usable(key) {
		return nil, ErrKey
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// usable refuses what AES, HKDF and HMAC would take in silence.
func usable(key []byte) bool { return len(key) == keySize && !isZero(key) }

func isZero(b []byte) bool { return subtle.ConstantTimeCompare(b, make([]byte, len(b))) == 1 }

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
