package eip712

import (
	"errors"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// Signature is r 32, s 32, v 1 (27 or 28), with low s (EIP-2).
type Signature [65]byte

// ErrSignature is returned for a signature that is malformed, has a high s or
// belongs to no key.
var ErrSignature = errors.New("signature: malformed, high s, or not by this wallet")

// Key is a wallet's private key.
type Key struct {
	k      *secp256k1.PrivateKey
	wallet agentkeys.Wallet
}

func keyOf(k *secp256k1.PrivateKey) Key { return Key{k, walletOf(k.PubKey())} }

// NewKey makes a random key.
func NewKey() (Key, error) {
	k, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return Key{}, err
	}
	return keyOf(k), nil
}

// ParseKey takes 32 bytes, big-endian, 1 to n-1.
func ParseKey(b []byte) (Key, error) {
	var s secp256k1.ModNScalar
	if len(b) != 32 || s.SetByteSlice(b) || s.IsZero() {
		return Key{}, errors.New("wallet key: want 32 bytes below the group order")
	}
	return keyOf(secp256k1.NewPrivateKey(&s)), nil
}

// Bytes gives the 32 bytes of the private key.
func (k Key) Bytes() []byte { return k.k.Serialize() }

// Zero clears the private key.
func (k Key) Zero() { k.k.Zero() }

// Wallet is the key's address.
func (k Key) Wallet() agentkeys.Wallet { return k.wallet }

// Sign signs a digest (RFC 6979, low s).
func (k Key) Sign(digest [32]byte) (s Signature) {
	c := ecdsa.SignCompact(k.k, digest[:], false)
	copy(s[:64], c[1:])
	s[64] = c[0]
	return s
}

// SignStatement signs a user's statement and returns its wire form.
func (k Key) SignStatement(vault agentkeys.VaultID, body statement.Body) ([]byte, error) {
	d, err := Digest(vault, body)
	if err != nil {
		return nil, err
	}
	return statement.Signed{Body: body, User: k.Sign(d)}.Append(nil), nil
}

// Recover gives the wallet that signed a digest.
func Recover(digest [32]byte, sig Signature) (agentkeys.Wallet, error) {
	var s secp256k1.ModNScalar
	if v := sig[64]; v != 27 && v != 28 || s.SetByteSlice(sig[32:64]) || s.IsOverHalfOrder() {
		return agentkeys.Wallet{}, ErrSignature
	}
	c := append([]byte{sig[64]}, sig[:64]...)
	pub, _, err := ecdsa.RecoverCompact(c, digest[:])
	if err != nil {
		return agentkeys.Wallet{}, ErrSignature
	}
	return walletOf(pub), nil
}

// Verify checks that wallet signed digest.
func Verify(digest [32]byte, sig Signature, wallet agentkeys.Wallet) error {
	w, err := Recover(digest, sig)
	if err != nil || w != wallet || wallet.IsZero() {
		return ErrSignature
	}
	return nil
}

func walletOf(pub *secp256k1.PublicKey) (w agentkeys.Wallet) {
	h := Keccak256(pub.SerializeUncompressed()[1:])
	copy(w[:], h[12:])
	return w
}
