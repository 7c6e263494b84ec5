package token

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"example.org/agentkeys"
)

// IdentityLife is how long a web identity token is good for.
const IdentityLife = 5 * time.Minute

// WalletTag is the session tag that ties a store session to one user.
const WalletTag = "agentkeys_user_wallet"

// Issuer makes web identity tokens.
type Issuer struct {
	Key      *ecdsa.PrivateKey
	URL      string // iss
	Audience string // aud
}

type identityClaims struct {
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Subject   string `json:"sub"`
	Issued    int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
	ID        string `json:"jti"`
	Tags      *tags  `json:"https://aws.amazon.com/tags,omitempty"`
}

// tags is the claim in which STS looks for session tags. Values are arrays of one
// element; a bare string would be ignored in silence.
type tags struct {
	Principal  map[string][]string `json:"principal_tags"`
	Transitive []string            `json:"transitive_tag_keys"`
}

// Identity signs a token with subject "user" and the wallet as session tag, or for
// the zero wallet with subject "custodian" and no tag.
func (i Issuer) Identity(user agentkeys.Wallet, now time.Time) (string, error) {
	var id [16]byte
	rand.Read(id[:])
	c := identityClaims{Issuer: i.URL, Audience: i.Audience, Subject: "custodian", ID: hex.EncodeToString(id[:]),
		Issued: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(IdentityLife).Unix()}
	if !user.IsZero() {
		c.Subject = "user"
		c.Tags = &tags{map[string][]string{WalletTag: {user.String()}}, []string{WalletTag}}
	}
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{"ES256", keyID(i.Key), "JWT"})
	if err != nil {
		return "", err
	}
	return sign(i.Key, string(header), c)
}

type jwk struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
	Kid   string `json:"kid"`
	Use   string `json:"use"`
	Alg   string `json:"alg"`
}

// JWKS is the public key set of the issuer (RFC 7517), without any secret.
func (i Issuer) JWKS() ([]byte, error) {
	x, y := coordinates(i.Key)
	k := jwk{"EC", "P-256", x, y, keyID(i.Key), "sig", "ES256"}
	return json.Marshal(struct {
		Keys []jwk `json:"keys"`
	}{[]jwk{k}})
}

// KeyHash is what the chain lists of the issuer's key: SHA-256 of its JWK thumbprint
// input (RFC 7638).
func (i Issuer) KeyHash() agentkeys.Hash { return thumbprint(i.Key) }

func keyID(key *ecdsa.PrivateKey) string {
	h := thumbprint(key)
	return b64.EncodeToString(h[:])
}

func thumbprint(key *ecdsa.PrivateKey) agentkeys.Hash {
	x, y := coordinates(key)
	return sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
}

func coordinates(key *ecdsa.PrivateKey) (x, y string) {
	point, err := key.PublicKey.Bytes()
	if err != nil || len(point) != 65 {
		panic("token: the issuer key is not a P-256 key") // made by package seed, never input
	}
	return b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:])
}
