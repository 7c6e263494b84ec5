package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"example.org/agentkeys"
)

// Type URLs of the messages that carry statements and acts.
const (
	MsgSubmit    = "/agentkeys.vault.v1.MsgSubmit"
	MsgAuthority = "/agentkeys.vault.v1.MsgAuthority"
)

// MaxParts is the most statements or acts one message may carry.
const MaxParts = 512

// Signer signs transactions for the account that pays for them. It says nothing about
// the statements inside, which have their own signatures.
type Signer struct {
	key *secp256k1.PrivateKey
	pub []byte
}

// NewSigner takes a secp256k1 private key, 32 bytes from 1 to the group order. It keeps
// its own copy until [Signer.Wipe].
func NewSigner(key agentkeys.Secret) (*Signer, error) {
	var s secp256k1.ModNScalar
	if key.Len() != 32 || s.SetByteSlice(key.Reveal()) || s.IsZero() {
		return nil, errors.New("signer: want a secp256k1 private key of 32 bytes")
	}
	k := secp256k1.NewPrivateKey(&s)
	s.Zero()
	return &Signer{k, k.PubKey().SerializeCompressed()}, nil
}

// Address is the account that pays.
func (s *Signer) Address() Address { return addressOf(s.pub) }

// Wipe zeroes the key; the signer is of no use afterwards.
func (s *Signer) Wipe() { s.key.Zero() }

// Terms are what a transaction needs beside its content. Number and Sequence come from
// [Node.Account]; a Sequence already used is refused by the chain, so sending twice
// cannot pay twice.
type Terms struct {
	ChainID  string
	Number   uint64
	Sequence uint64
	Timeout  uint64 // the last height whose block may hold it; 0 is none
	Gas      uint64
	Fee      uint64 // in Denom
	Denom    string
	Granter  string // address whose fee grant pays; empty is the signer
}

// Submit encodes and signs one MsgSubmit, SIGN_MODE_DIRECT.
func (s *Signer) Submit(t Terms, statements [][]byte) ([]byte, error) {
	return s.sign(t, MsgSubmit, statements)
}

// Authority encodes and signs one MsgAuthority; the signer must be the authority named
// in genesis.
func (s *Signer) Authority(t Terms, acts [][]byte) ([]byte, error) {
	return s.sign(t, MsgAuthority, acts)
}

func (s *Signer) sign(t Terms, typeURL string, parts [][]byte) ([]byte, error) {
	if len(parts) == 0 || len(parts) > MaxParts {
		return nil, fmt.Errorf("tx: %d parts, want 1 to %d", len(parts), MaxParts)
	}
	if t.Granter != "" {
		if _, err := ParseAddress(t.Granter); err != nil {
			return nil, fmt.Errorf("tx: fee granter: %w", err)
		}
	}
	body, auth := s.body(t, typeURL, parts), s.authInfo(t)
	doc := appendMessage(nil, 1, body)
	doc = appendMessage(doc, 2, auth)
	doc = appendBytes(doc, 3, t.ChainID)
	doc = appendUint(doc, 4, t.Number)
	hash := sha256.Sum256(doc)
	// A compact signature is a recovery byte, R and a low S; the chain takes R and S.
	sig := ecdsa.SignCompact(s.key, hash[:], true)[1:]
	raw := appendMessage(nil, 1, body)
	raw = appendMessage(raw, 2, auth)
	return appendMessage(raw, 3, sig), nil
}

// body encodes TxBody: messages 1 (Any), timeout height 3.
func (s *Signer) body(t Terms, typeURL string, parts [][]byte) []byte {
	msg := appendBytes(nil, 1, s.Address().String())
	for _, p := range parts {
		msg = appendMessage(msg, 2, p)
	}
	return appendUint(appendMessage(nil, 1, appendAny(typeURL, msg)), 3, t.Timeout)
}

// authInfo encodes AuthInfo: signer info 1 {key 1, mode 2, sequence 3}, fee 2
// {coin 1, gas 2, granter 4}.
func (s *Signer) authInfo(t Terms) []byte {
	const direct = 1
	mode := appendMessage(nil, 1, appendUint(nil, 1, direct))
	info := appendMessage(nil, 1, appendAny("/cosmos.crypto.secp256k1.PubKey", appendBytes(nil, 1, s.pub)))
	info = appendMessage(info, 2, mode)
	info = appendUint(info, 3, t.Sequence)
	var fee []byte
	if t.Fee != 0 {
		coin := appendBytes(nil, 1, t.Denom)
		fee = appendMessage(fee, 1, appendBytes(coin, 2, fmt.Sprint(t.Fee)))
	}
	fee = appendUint(fee, 2, t.Gas)
	fee = appendBytes(fee, 4, t.Granter)
	return appendMessage(appendMessage(nil, 1, info), 2, fee)
}

func appendAny(typeURL string, value []byte) []byte {
	return appendBytes(appendBytes(nil, 1, typeURL), 2, value)
}

// parseAny reads google.protobuf.Any {type url 1, value 2}.
func parseAny(b []byte) (typeURL string, value []byte, err error) {
	err = fields(b, map[int]int{1: wireBytes, 2: wireBytes}, 0, func(f wireField) error {
		if f.id == 1 {
			typeURL = string(f.data)
		} else {
			value = f.data
		}
		return nil
	})
	return typeURL, value, err
}
