package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
)

// ErrToken is returned for whatever is not a token of this issuer in its one
// spelling.
var ErrToken = errors.New("token: malformed, or not by this issuer")

// MaxSize of a token in bytes.
const MaxSize = 2048

var b64 = base64.RawURLEncoding.Strict()

// sign gives the JWS compact form (RFC 7515): the signature is r 32, s 32.
func sign(key *ecdsa.PrivateKey, header string, claims any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	input := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString(body)
	h := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, h[:])
	if err != nil {
		return "", err
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return input + "." + b64.EncodeToString(sig), nil
}

// verify reads claims out of a token whose header is exactly this one, so neither
// alg nor kid is ever taken from the token. Claims that are not spelled as sign
// spells them are refused: every token has one form.
func verify(key *ecdsa.PublicKey, header, token string, claims any) error {
	if len(token) > MaxSize {
		return ErrToken
	}
	body, ok := strings.CutPrefix(token, b64.EncodeToString([]byte(header))+".")
	input := strings.LastIndexByte(token, '.')
	payload, signature, two := strings.Cut(body, ".")
	if !ok || !two {
		return ErrToken
	}
	sig, err := b64.DecodeString(signature)
	if err != nil || len(sig) != 64 {
		return ErrToken
	}
	h := sha256.Sum256([]byte(token[:input]))
	if !ecdsa.Verify(key, h[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return ErrToken
	}
	raw, err := b64.DecodeString(payload)
	if err != nil {
		return ErrToken
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if d.Decode(claims) != nil {
		return ErrToken
	}
	again, err := json.Marshal(claims)
	if err != nil || !bytes.Equal(raw, again) {
		return ErrToken
	}
	return nil
}
