package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"time"

	"example.org/agentkeys"
)

// Lives of a session.
const (
	DefaultLife = time.Hour
	MaxLife     = 30 * 24 * time.Hour
)

// ErrExpired is returned by [Claims.Check] for a session that ended.
var ErrExpired = errors.New("token: the session ended")

// Role is what a session may be used for.
type Role string

// Roles. An owner's session has Agent equal to User.
const (
	RoleOwner Role = "owner"
	RoleAgent Role = "agent"
	RoleProxy Role = "proxy"
)

// Claims is what a session says. It is stateless: it dies by Expires, with Key, or
// when the agent's counter on the chain is no longer Counter.
type Claims struct {
	User    agentkeys.Wallet
	Agent   agentkeys.Wallet
	Counter uint64
	Role    Role
	Key     ed25519.PublicKey // every request is proven with it
	Issued  uint64            // unix seconds
	Expires uint64            // unix seconds
	ID      [16]byte
}

const sessionHeader = `{"alg":"ES256","typ":"agentkeys-session+jwt"}`

// sessionClaims is the JSON of a session. cnf is RFC 7800 with the key of RFC 8037.
type sessionClaims struct {
	Audience string       `json:"aud"`
	User     string       `json:"user"`
	Agent    string       `json:"agent"`
	Counter  uint64       `json:"ctr"`
	Role     Role         `json:"role"`
	Confirm  confirmation `json:"cnf"`
	Issued   uint64       `json:"iat"`
	Expires  uint64       `json:"exp"`
	ID       string       `json:"jti"`
}

type confirmation struct {
	JWK okp `json:"jwk"`
}

type okp struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
}

// IssueSession signs a session for one vault.
func IssueSession(key *ecdsa.PrivateKey, vault agentkeys.VaultID, c Claims) (string, error) {
	if err := c.valid(); err != nil {
		return "", err
	}
	return sign(key, sessionHeader, sessionClaims{
		Audience: vault.String(), User: c.User.String(), Agent: c.Agent.String(), Counter: c.Counter, Role: c.Role,
		Confirm: confirmation{okp{"OKP", "Ed25519", b64.EncodeToString(c.Key)}},
		Issued:  c.Issued, Expires: c.Expires, ID: hex.EncodeToString(c.ID[:]),
	})
}

// ParseSession checks signature, form and audience. Whether the session is still
// good is for [Claims.Check] and the rows to say.
func ParseSession(key *ecdsa.PublicKey, vault agentkeys.VaultID, token string) (Claims, error) {
	var j sessionClaims
	if err := verify(key, sessionHeader, token, &j); err != nil {
		return Claims{}, err
	}
	user, err1 := agentkeys.ParseWallet(j.User)
	agent, err2 := agentkeys.ParseWallet(j.Agent)
	pub, err3 := b64.DecodeString(j.Confirm.JWK.X)
	id, err4 := hex.DecodeString(j.ID)
	if errors.Join(err1, err2, err3, err4) != nil || len(id) != 16 || j.Audience != vault.String() ||
		j.Confirm.JWK.Type != "OKP" || j.Confirm.JWK.Curve != "Ed25519" {
		return Claims{}, ErrToken
	}
	c := Claims{user, agent, j.Counter, j.Role, pub, j.Issued, j.Expires, [16]byte(id)}
	return c, c.valid()
}

// Check refuses a session at or after its end.
func (c Claims) Check(now uint64) error {
	if now >= c.Expires {
		return ErrExpired
	}
	return nil
}

func (c Claims) valid() error {
	role := c.Role == RoleOwner && c.Agent == c.User || (c.Role == RoleAgent || c.Role == RoleProxy) && c.Agent != c.User
	if !role || c.User.IsZero() || c.Agent.IsZero() || c.Counter == 0 || len(c.Key) != ed25519.PublicKeySize ||
		c.Expires <= c.Issued || c.Expires-c.Issued > uint64(MaxLife/time.Second) {
		return ErrToken
	}
	return nil
}
