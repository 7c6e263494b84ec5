package envelope

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"example.org/agentkeys"
)

const (
	magic     = "AKv1\x01" // the last byte is the format
	blockSize = 256
	nonceAt   = len(magic) + 32
	bodyAt    = nonceAt + nonceSize
	overhead  = bodyAt + tagSize
)

// Sizes in bytes. The largest credential is a length, 64 KiB of secret and 4 KiB of
// metadata (docs/spec/envelope.md, "Credential").
const (
	MaxCredential = 4 + 64<<10 + 4<<10
	MaxEnvelope   = overhead + (4+MaxCredential+blockSize-1)/blockSize*blockSize
)

// Place is where an envelope belongs. All of it is authenticated, so an envelope
// moved to any other place does not open. Version counts the user's writes from 1.
type Place struct {
	User    agentkeys.Wallet
	Service agentkeys.ServiceID
	Agent   agentkeys.Wallet
	Epoch   agentkeys.Epoch
	Blob    agentkeys.BlobID
	Version uint64
}

// aad is domain tag "envelope", header 37, user 20, service id 32, agent 20,
// epoch 4, blob id 16, version 8.
func (p Place) aad(vault agentkeys.VaultID, id agentkeys.DEKID) []byte {
	b := appendHeader(agentkeys.DomainTag("envelope", vault), id)
	b = append(append(append(b, p.User[:]...), p.Service[:]...), p.Agent[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Epoch))
	return binary.BigEndian.AppendUint64(append(b, p.Blob[:]...), p.Version)
}

// cipher keys AES-256-GCM for one blob: HKDF-SHA256(DEK, salt = blob id, info =
// domain tag "blob-key").
func (p Place) cipher(vault agentkeys.VaultID, dek DEK) (cipher.AEAD, error) {
	if p.User.IsZero() || p.Agent.IsZero() || p.Epoch == 0 || p.Blob == (agentkeys.BlobID{}) || p.Version == 0 {
		return nil, ErrPlace
	}
	if !usable(dek.Reveal()) {
		return nil, ErrKey
	}
	key, err := hkdf.Key(sha256.New, dek.Reveal(), p.Blob[:], string(agentkeys.DomainTag("blob-key", vault)), keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newGCM(key)
}

// Seal encrypts 1 to [MaxCredential] bytes for one place and returns the envelope.
// The caller keeps and clears credential. Every blob id is sealed for once.
func Seal(vault agentkeys.VaultID, dek DEK, at Place, credential []byte) ([]byte, error) {
	return seal(vault, dek, at, credential, random(nonceSize))
}

func seal(vault agentkeys.VaultID, dek DEK, at Place, credential, nonce []byte) ([]byte, error) {
	if len(credential) == 0 || len(credential) > MaxCredential {
		return nil, errSize
	}
	aead, err := at.cipher(vault, dek)
	if err != nil {
		return nil, err
	}
	id, n := dek.ID(vault), padded(len(credential))
	out := append(appendHeader(make([]byte, 0, overhead+n), id), nonce...)
	// Sealing where the plaintext lies leaves no copy of it behind.
	plain := out[bodyAt : bodyAt+n]
	binary.BigEndian.PutUint32(plain, uint32(len(credential)))
	copy(plain[4:], credential)
	return aead.Seal(out, nonce, plain, at.aad(vault, id)), nil
}

// Open returns the credential of an envelope in a slice the caller must clear. It
// opens only if the data key, the id from the user's row and the header agree and
// the envelope was sealed for this place.
func Open(vault agentkeys.VaultID, dek DEK, want agentkeys.DEKID, at Place, envelope []byte) ([]byte, error) {
	id, err := Parse(envelope)
	if err != nil {
		return nil, err
	}
	if id != want || !dek.matches(vault, want) {
		return nil, ErrDEKID
	}
	aead, err := at.cipher(vault, dek)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, envelope[nonceAt:bodyAt], envelope[bodyAt:], at.aad(vault, id))
	if err != nil {
		return nil, ErrOpen
	}
	return unpad(plain)
}

// Reseal moves a credential to a later epoch, under that epoch's data key and a
// fresh blob id. Slot and version stay. The plaintext is cleared before it returns.
func Reseal(vault agentkeys.VaultID, oldDEK DEK, oldID agentkeys.DEKID, newDEK DEK, newID agentkeys.DEKID,
	at Place, epoch agentkeys.Epoch, blob agentkeys.BlobID, envelope []byte) ([]byte, error) {
	if epoch <= at.Epoch || blob == at.Blob || newID == oldID || !newDEK.matches(vault, newID) {
		return nil, errReseal
	}
	credential, err := Open(vault, oldDEK, oldID, at, envelope)
	if err != nil {
		return nil, err
	}
	defer clear(credential)
	at.Epoch, at.Blob = epoch, blob
	return Seal(vault, newDEK, at, credential)
}

// HashOf is the ciphertext hash that a pointer holds: SHA-256 of the envelope.
func HashOf(envelope []byte) agentkeys.Hash { return sha256.Sum256(envelope) }

// Parse checks what can be checked without a key, length and front, and returns
// the DEK id: "AKv1" 4, format 1, DEK id 32, nonce 12, ciphertext N, tag 16.
func Parse(envelope []byte) (id agentkeys.DEKID, err error) {
	n := len(envelope) - overhead
	if n < blockSize || n%blockSize != 0 || len(envelope) > MaxEnvelope || string(envelope[:len(magic)]) != magic {
		return id, agentkeys.ErrLayout
	}
	copy(id[:], envelope[len(magic):])
	return id, nil
}

func appendHeader(b []byte, id agentkeys.DEKID) []byte { return append(append(b, magic...), id[:]...) }

// padded is the plaintext length for n bytes of credential.
func padded(n int) int { return (4 + n + blockSize - 1) / blockSize * blockSize }

// unpad takes length and zeros off. A holder of the data key could have written
// anything here, so only the one padding that Seal writes is accepted.
func unpad(plain []byte) ([]byte, error) {
	n := int(binary.BigEndian.Uint32(plain))
	if n > 0 && n <= MaxCredential && padded(n) == len(plain) && isZero(plain[4+n:]) {
		return plain[4 : 4+n : 4+n], nil
	}
	clear(plain)
	return nil, agentkeys.ErrLayout
}
