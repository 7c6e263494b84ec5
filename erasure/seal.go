package erasure

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"example.org/agentkeys"
)

type kind byte

const (
	kindIndex  kind = 1
	kindShard  kind = 2
	kindRecord kind = 3
)

const (
	headerSize = 4 + 1 + 4
	nonceSize  = 12
)

// frame is what a sealed object is and where it belongs, all of it
// authenticated. The object: "AKt1" 4, kind 1, wrap version 4, nonce 12,
// ciphertext, tag 16 (AES-256-GCM).
type frame struct {
	place
	kind    kind
	version uint32   // 0 for shards: their keys are random
	number  uint64   // generation, or the number of the shard
	id      [16]byte // root tag, record id; zero for shards
}

func shardFrame(p place, number byte) frame {
	return frame{place: p, kind: kindShard, number: uint64(number)}
}

func (f frame) header() []byte {
	return binary.BigEndian.AppendUint32(append([]byte("AKt1"), byte(f.kind)), f.version)
}

func (f frame) aad() []byte {
	b := append(agentkeys.DomainTag("tree/object", f.vault), f.header()...)
	b = append(b, f.anchor[:]...)
	b = binary.BigEndian.AppendUint64(b, f.number)
	return append(b, f.id[:]...)
}

// seal takes plain over and zeroes it.
func (f frame) seal(key [32]byte, plain []byte) []byte {
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	return f.sealWith(key, nonce, plain)
}

func (f frame) sealWith(key [32]byte, nonce [nonceSize]byte, plain []byte) []byte {
	defer clear(plain)
	out := make([]byte, 0, headerSize+nonceSize+len(plain)+16)
	out = append(append(out, f.header()...), nonce[:]...)
	return gcm(key).Seal(out, nonce[:], plain, f.aad())
}

// open returns plaintext that the caller clears.
func (f frame) open(key [32]byte, object []byte) ([]byte, error) {
	r := agentkeys.NewReader(object)
	header, nonce := r.Take(headerSize), r.Take(nonceSize)
	if nonce == nil || string(header) != string(f.header()) {
		return nil, fmt.Errorf("%w: header", ErrTampered)
	}
	plain, err := gcm(key).Open(nil, nonce, r.Take(r.Len()), f.aad())
	if err != nil {
		return nil, fmt.Errorf("%w: authentication", ErrTampered)
	}
	return plain, nil
}

// indexVersion reads the wrap version from an index header, which says with which
// shielding key to open it; the header is authenticated then.
func indexVersion(object []byte) (uint32, error) {
	r := agentkeys.NewReader(object)
	if string(r.Take(5)) != "AKt1\x01" {
		return 0, fmt.Errorf("%w: header", ErrTampered)
	}
	return r.U32(), nil
}

func gcm(key [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for key sizes other than 16, 24, 32
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // only for block sizes other than 16
	}
	return aead
}
