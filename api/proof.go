package api

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"example.org/agentkeys"
)

// ProofWindow is how far a proof's time may lie from the custodian's.
const ProofWindow = time.Minute

var errProof = errors.New("proof: missing, old, or not by the session's key")

// Prove makes the [ProofHeader] of one request.
func Prove(key ed25519.PrivateKey, vault agentkeys.VaultID, token, method, path string, body []byte, now time.Time) string {
	b := make([]byte, 24, 88)
	binary.BigEndian.PutUint64(b, uint64(now.Unix()))
	_, _ = rand.Read(b[8:24])
	b = append(b, ed25519.Sign(key, proofMessage(vault, token, method, path, body, b[:24]))...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Proof is what tells one proven request from another: the signature covers both.
type Proof struct {
	Time  uint64 // unix seconds, by the clock of whoever sent it
	Nonce [16]byte
}

// CheckProof checks a [ProofHeader]. Whether it comes for the first time is for the
// caller to see.
func CheckProof(header string, key ed25519.PublicKey, vault agentkeys.VaultID, token, method, path string, body []byte, now time.Time) (Proof, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(header)
	if err != nil || len(b) != 88 || len(header) != base64.RawURLEncoding.EncodedLen(88) || len(key) != ed25519.PublicKeySize {
		return Proof{}, errProof
	}
	p := Proof{binary.BigEndian.Uint64(b), [16]byte(b[8:24])}
	age := now.Sub(time.Unix(int64(p.Time), 0))
	if age > ProofWindow || age < -ProofWindow {
		return Proof{}, errProof
	}
	if !ed25519.Verify(key, proofMessage(vault, token, method, path, body, b[:24]), b[24:]) {
		return Proof{}, errProof
	}
	return p, nil
}

func proofMessage(vault agentkeys.VaultID, token, method, path string, body, stamp []byte) []byte {
	m := agentkeys.DomainTag("request", vault)
	th := sha256.Sum256([]byte(token))
	m = append(append(m, th[:]...), stamp...)
	h := sha256.New()
	h.Write([]byte(method + "\x00" + path + "\x00"))
	h.Write(body)
	return h.Sum(m)
}
