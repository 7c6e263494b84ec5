package agentkeys

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// VaultID names one vault. It is 32 random bytes fixed at genesis and part of
// every domain tag, so nothing signed or sealed for one vault means anything in
// another.
type VaultID [32]byte

// Wallet is the address of a secp256k1 key: the last 20 bytes of the Keccak-256
// hash of the uncompressed public key. A user owns credentials, an agent uses
// them; both are wallets.
type Wallet [20]byte

// ServiceID is Keccak-256 of a service label, the way EIP-712 encodes a string.
// The chain, object keys and AAD carry only this, never the name.
type ServiceID [32]byte

// BlobID is 16 random bytes, fresh at every write and every re-seal.
type BlobID [16]byte

// Hash is a SHA-256 digest.
type Hash [32]byte

// DEKID identifies a data key without revealing it: HMAC-SHA256(DEK, domain tag).
type DEKID [32]byte

// ProcessKey is the Ed25519 public key with which an enclave process signs
// statements and receipts.
type ProcessKey [32]byte

// JobID is 16 random bytes that name one rotation job.
type JobID [16]byte

// WrappedDEK is a data key under a wrapping key, 64 bytes:
// wrap version 4, nonce 12, ciphertext 32, tag 16.
type WrappedDEK [64]byte

// SealedName is a service name under its user's tag key, 92 bytes:
// nonce 12, name zero-padded to 64, tag 16.
type SealedName [92]byte

// Epoch numbers the data keys of one user. The first epoch is 1; 0 means none.
type Epoch uint32

// Slot is the place of one credential. Agent equals User when the credential is
// shared by every agent that has a grant.
type Slot struct {
	User    Wallet
	Agent   Wallet
	Service ServiceID
}

// String gives the 10 digits used in object keys.
func (e Epoch) String() string { return fmt.Sprintf("%010d", uint32(e)) }

// String gives 0x and 40 lower-case hex digits.
func (w Wallet) String() string { return "0x" + hex.EncodeToString(w[:]) }

func (v VaultID) String() string    { return hex.EncodeToString(v[:]) }
func (s ServiceID) String() string  { return hex.EncodeToString(s[:]) }
func (b BlobID) String() string     { return hex.EncodeToString(b[:]) }
func (h Hash) String() string       { return hex.EncodeToString(h[:]) }
func (d DEKID) String() string      { return hex.EncodeToString(d[:]) }
func (k ProcessKey) String() string { return hex.EncodeToString(k[:]) }
func (j JobID) String() string      { return hex.EncodeToString(j[:]) }

// IsZero reports whether the wallet is unset. The zero wallet owns nothing and
// may do nothing.
func (w Wallet) IsZero() bool { return w == Wallet{} }

// ParseWallet reads 0x and 40 lower-case hex digits; nothing else is a wallet.
func ParseWallet(s string) (Wallet, error) {
	var w Wallet
	hexDigits, ok := strings.CutPrefix(s, "0x")
	if !ok || parseHex(w[:], hexDigits) != nil {
		return Wallet{}, errors.New("wallet: want 0x and 40 lower-case hex digits")
	}
	return w, nil
}

// ParseVaultID reads 64 lower-case hex digits.
func ParseVaultID(s string) (v VaultID, err error) { return v, parseHex(v[:], s) }

// ParseServiceID reads 64 lower-case hex digits.
func ParseServiceID(s string) (v ServiceID, err error) { return v, parseHex(v[:], s) }

// ParseBlobID reads 32 lower-case hex digits.
func ParseBlobID(s string) (v BlobID, err error) { return v, parseHex(v[:], s) }

// ParseHash reads 64 lower-case hex digits.
func ParseHash(s string) (v Hash, err error) { return v, parseHex(v[:], s) }

// ParseJobID reads 32 lower-case hex digits.
func ParseJobID(s string) (v JobID, err error) { return v, parseHex(v[:], s) }

// ParseProcessKey reads 64 lower-case hex digits.
func ParseProcessKey(s string) (v ProcessKey, err error) { return v, parseHex(v[:], s) }

// ParseEpoch reads exactly 10 digits, 1 to 4294967295.
func ParseEpoch(s string) (Epoch, error) {
	if len(s) != 10 {
		return 0, errors.New("epoch: want 10 digits")
	}
	var n uint64
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, errors.New("epoch: want 10 digits")
		}
		n = n*10 + uint64(c-'0')
	}
	if n == 0 || n > 0xffffffff {
		return 0, errors.New("epoch: out of range")
	}
	return Epoch(n), nil
}

// parseHex fills dst from exactly 2*len(dst) lower-case hex digits. Upper case is
// refused so that every identifier has one spelling.
func parseHex(dst []byte, s string) error {
	if len(s) != 2*len(dst) || strings.ToLower(s) != s {
		return fmt.Errorf("want %d lower-case hex digits", 2*len(dst))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return fmt.Errorf("want %d lower-case hex digits", 2*len(dst))
	}
	return nil
}
