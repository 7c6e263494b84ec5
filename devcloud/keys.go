package devcloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const maxJWKS = 64 << 10

// keySet is the issuer's public keys as the JWKS file (RFC 7517) last told them.
// The custodian writes the file; keySet only reads it.
type keySet struct {
	path string

	mu       sync.Mutex
	keys     map[string]*ecdsa.PublicKey
	modified time.Time
}

// key finds a key by id. A changed file or an unknown id makes it read the file
// again, so a new issuer key works at once and a removed one stops at once.
func (k *keySet) key(id string) (*ecdsa.PublicKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	info, err := os.Stat(k.path)
	if err != nil {
		k.keys = nil
		return nil, fmt.Errorf("JWKS: %w", err)
	}
	if key, ok := k.keys[id]; ok && info.ModTime().Equal(k.modified) {
		return key, nil
	}
	keys, err := readJWKS(k.path)
	if err != nil {
		k.keys = nil
		return nil, err
	}
	k.keys, k.modified = keys, info.ModTime()
	if key, ok := keys[id]; ok {
		return key, nil
	}
	return nil, fmt.Errorf("JWKS: no key %q", id)
}

func readJWKS(path string) (map[string]*ecdsa.PublicKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("JWKS: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJWKS+1))
	if err != nil {
		return nil, fmt.Errorf("JWKS: %w", err)
	}
	return parseJWKS(b)
}

// parseJWKS takes the P-256 signing keys of a key set and skips other kinds. Two
// keys with one id are an error: which of them signs would be a guess.
func parseJWKS(b []byte) (map[string]*ecdsa.PublicKey, error) {
	if len(b) > maxJWKS {
		return nil, errors.New("JWKS: longer than 64 KiB")
	}
	var set struct {
		Keys []struct{ Kid, Kty, Crv, Use, X, Y string }
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("JWKS: %w", err)
	}
	keys := map[string]*ecdsa.PublicKey{}
	for _, j := range set.Keys {
		if j.Kty != "EC" || j.Crv != "P-256" || j.Use != "" && j.Use != "sig" {
			continue
		}
		key, err := p256(j.X, j.Y)
		if err != nil {
			return nil, fmt.Errorf("JWKS: key %q: %w", j.Kid, err)
		}
		if _, twice := keys[j.Kid]; twice || j.Kid == "" {
			return nil, fmt.Errorf("JWKS: key id %q is missing or not unique", j.Kid)
		}
		keys[j.Kid] = key
	}
	return keys, nil
}

// p256 decodes coordinates (RFC 7518 section 6.2.1) and checks the curve equation.
func p256(x, y string) (*ecdsa.PublicKey, error) {
	point := []byte{4}
	for _, c := range []string{x, y} {
		b, err := base64.RawURLEncoding.Strict().DecodeString(c)
		if err != nil || len(b) != 32 {
			return nil, errors.New("want 32 bytes a coordinate")
		}
		point = append(point, b...)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}
