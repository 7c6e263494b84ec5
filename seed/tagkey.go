package seed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"

	"example.org/agentkeys"
)

const (
	nonceSize  = 12
	paddedName = 64
)

// ErrName is returned for a sealed name that this tag key did not seal for this
// user and service id.
var ErrName = errors.New("sealed name: wrong tag key, user, service id or bytes")

// TagKey is a user's viewing key: 32 bytes behind a Secret. Whoever holds it can
// name the user's services, past and future; it cannot be withdrawn and is not
// forward secret.
type TagKey struct{ agentkeys.Secret }

// TagKey derives a user's key: HKDF-SHA256(metadata key, empty salt, info = domain
// tag "tag-key", user).
func (m MetadataKey) TagKey(vault agentkeys.VaultID, user agentkeys.Wallet) (TagKey, error) {
	if user.IsZero() {
		return TagKey{}, ErrNumber
	}
	info := append(agentkeys.DomainTag("tag-key", vault), user[:]...)
	key, err := derive(m.Secret, nil, info, keySize)
	return TagKey{agentkeys.NewSecret(key)}, err
}

// Label is the service label of a name, whose Keccak-256 is the service id.
func (k TagKey) Label(name agentkeys.Service) (string, error) {
	if !usable(k.Secret) {
		return "", ErrKey
	}
	return name.Label([keySize]byte(k.Reveal())), nil
}

// SealName seals a service name for the row of (user, service id).
func (k TagKey) SealName(user agentkeys.Wallet, id agentkeys.ServiceID, name agentkeys.Service) (agentkeys.SealedName, error) {
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	return k.sealName(user, id, name, nonce)
}

func (k TagKey) sealName(user agentkeys.Wallet, id agentkeys.ServiceID, name agentkeys.Service,
	nonce [nonceSize]byte) (sealed agentkeys.SealedName, err error) {
	if _, err := agentkeys.ParseService(string(name)); err != nil {
		return sealed, err
	}
	aead, err := k.nameCipher()
	if err != nil {
		return sealed, err
	}
	var plain [paddedName]byte
	copy(plain[:], name)
	copy(sealed[:], nonce[:])
	aead.Seal(sealed[:nonceSize], nonce[:], plain[:], nameAAD(user, id))
	return sealed, nil
}

// OpenName reads a service name back. That the id is really the hash of this
// name's label is for the caller to compare.
func (k TagKey) OpenName(user agentkeys.Wallet, id agentkeys.ServiceID, sealed agentkeys.SealedName) (agentkeys.Service, error) {
	aead, err := k.nameCipher()
	if err != nil {
		return "", err
	}
	plain, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], nameAAD(user, id))
	if err != nil {
		return "", ErrName
	}
	name, err := agentkeys.ParseService(string(bytes.TrimRight(plain, "\x00")))
	if err != nil {
		return "", ErrName
	}
	return name, nil
}

// nameCipher keys AES-256-GCM with HKDF-SHA256(tag key, empty salt, info "name").
// The tag key already belongs to one vault and user.
func (k TagKey) nameCipher() (cipher.AEAD, error) {
	key, err := derive(k.Secret, nil, []byte("name"), keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nameAAD is user 20, service id 32.
func nameAAD(user agentkeys.Wallet, id agentkeys.ServiceID) []byte {
	return append(user[:], id[:]...)
}

// SegmentKey seals audit segments, which hold the records of many users:
// HKDF-SHA256(metadata key, empty salt, info = domain tag "audit-segment").
func (m MetadataKey) SegmentKey(vault agentkeys.VaultID) (agentkeys.Secret, error) {
	key, err := derive(m.Secret, nil, agentkeys.DomainTag("audit-segment", vault), keySize)
	return agentkeys.NewSecret(key), err
}
