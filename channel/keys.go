// Package channel carries messages between a custodian and a rotator through a
// courier that must learn nothing but the number of frames. It is Noise IKpsk2
// (25519, AESGCM, SHA256) with an ML-KEM-768 secret as the psk. Bytes and rules:
// docs/spec/channel.md. The custodian calls [Initiate] and [Initiator.Finish], the
// rotator [Accept]; both then use the [Conn].
//
// The handshake proves the rotator to the custodian, by its registered keys. It
// does not prove the custodian: that side's keys are fresh for every job, and what
// a job yields counts only once a registered custodian has signed it.
package channel

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"example.org/agentkeys"
)

// PublicKeys are the keys a rotator is registered with.
type PublicKeys struct {
	Noise [32]byte // X25519
	KEM   [mlkem.EncapsulationKeySize768]byte
}

// Append adds Noise key 32, ML-KEM-768 encapsulation key 1184.
func (p PublicKeys) Append(b []byte) []byte { return append(append(b, p.Noise[:]...), p.KEM[:]...) }

// ParsePublicKeys reads what Append wrote. Whether they are usable keys shows in
// [Initiate].
func ParsePublicKeys(b []byte) (PublicKeys, error) {
	var p PublicKeys
	r := agentkeys.NewReader(b)
	r.Copy(p.Noise[:])
	r.Copy(p.KEM[:])
	return p, r.Close()
}

// KEMHash is what the chain keeps of the ML-KEM key: SHA-256 of its 1184 bytes.
// Compare it with the row before calling Initiate.
func (p PublicKeys) KEMHash() agentkeys.Hash { return sha256.Sum256(p.KEM[:]) }

// Keys are a rotator's private keys. It makes them at every start and never stores
// them.
type Keys struct {
	noise *ecdh.PrivateKey
	kem   *mlkem.DecapsulationKey768
}

// NewKeys makes random keys.
func NewKeys() (*Keys, error) {
	noise, err1 := ecdh.X25519().GenerateKey(rand.Reader)
	kem, err2 := mlkem.GenerateKey768()
	return &Keys{noise: noise, kem: kem}, errors.Join(err1, err2)
}

// Public is what goes into the rotator's evidence and registration.
func (k *Keys) Public() (p PublicKeys) {
	copy(p.Noise[:], k.noise.PublicKey().Bytes())
	copy(p.KEM[:], k.kem.EncapsulationKey().Bytes())
	return p
}
