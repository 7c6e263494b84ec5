package agentkeys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// Service is the name of what a credential opens, such as "github": 1 to 63
// characters of [a-z0-9._-], the first a letter or digit, without "..".
type Service string

// MaxService is the longest service name in bytes.
const MaxService = 63

// ParseService checks a service name.
func ParseService(s string) (Service, error) {
	if len(s) == 0 || len(s) > MaxService {
		return "", errors.New("service: want 1 to 63 characters")
	}
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return "", errors.New("service: use a-z, 0-9, '.', '_', '-', beginning with a letter or digit")
		}
	}
	if strings.Contains(s, "..") {
		return "", errors.New("service: '..' is not allowed")
	}
	return Service(s), nil
}

// Label is what the wallet shows: name # 32 hex of HMAC-SHA256(tag key, name).
// Without the tag key nobody can guess names from service ids.
func (s Service) Label(tagKey [32]byte) string {
	m := hmac.New(sha256.New, tagKey[:])
	m.Write([]byte(s))
	return string(s) + "#" + hex.EncodeToString(m.Sum(nil)[:16])
}
