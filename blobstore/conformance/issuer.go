package conformance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
)

// Issuer signs OIDC tokens with a key of its own. It is a complete
// [blobstore.Exchange] for tests; in a vault the custodian is the issuer.
type Issuer struct {
	URL, Audience string
	kid           string
	key           *ecdsa.PrivateKey
}

// NewIssuer makes an issuer with a fresh key.
func NewIssuer(url, audience, kid string) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Issuer{url, audience, kid, key}, nil
}

// JWKS gives the public keys of issuers as a JWK set (RFC 7517).
func JWKS(issuers ...*Issuer) ([]byte, error) {
	keys := []map[string]string{}
	for _, i := range issuers {
		point, err := i.key.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		if len(point) != 65 {
			return nil, errors.New("JWKS: want an uncompressed P-256 point")
		}
		b64 := base64.RawURLEncoding.EncodeToString
		keys = append(keys, map[string]string{
			"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": i.kid,
			"x": b64(point[1:33]), "y": b64(point[33:]),
		})
	}
	return json.Marshal(map[string]any{"keys": keys})
}

// Token implements [blobstore.Exchange].
func (i *Issuer) Token(_ context.Context, user agentkeys.Wallet, role blobstore.Role) (string, error) {
	return i.Sign(i.Claims(user, role))
}

// Claims gives the claims of a good token, for tests to spoil.
func (i *Issuer) Claims(user agentkeys.Wallet, role blobstore.Role) jwt.MapClaims {
	now := time.Now()
	c := jwt.MapClaims{
		"iss": i.URL, "aud": i.Audience, "sub": role.Subject(),
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	if role.Tagged() {
		c[blobstore.TagsClaim] = Tags(user.String())
	}
	return c
}

// Tags is the value of the tag claim for wallets given as text.
func Tags(wallets ...string) map[string]any {
	return map[string]any{"principal_tags": map[string][]string{blobstore.TagKey: wallets}}
}

// Sign makes a token of any claims.
func (i *Issuer) Sign(c jwt.MapClaims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodES256, c)
	t.Header["kid"] = i.kid
	return t.SignedString(i.key)
}
