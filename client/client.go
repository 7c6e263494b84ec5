// Package client is the Go SDK: a session at a custodian, and what can be done with
// it. It holds no cloud credentials and sees no ciphertext. Start with [Dial] and
// [Client.Login].
package client

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
)

// Endpoint says where a custodian is and how it is recognised.
type Endpoint struct {
	URL   string // https://host:port
	Pin   string // SHA-256 of its certificate, hex
	Vault agentkeys.VaultID
}

// Client talks to one custodian. It is safe for concurrent use once logged in.
type Client struct {
	at   Endpoint
	http *http.Client

	user, agent agentkeys.Wallet

	mu   sync.RWMutex
	live session
}

// session is what a login gave.
type session struct {
	token   string
	key     ed25519.PrivateKey // the session is bound to it
	expires time.Time
}

func (c *Client) session() session {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.live
}

func (c *Client) set(s session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = s
}

// Dial checks the endpoint; nothing is sent.
func Dial(at Endpoint) (*Client, error) {
	pin, err := hex.DecodeString(at.Pin)
	if err != nil || len(pin) != 32 {
		return nil, errors.New("profile: pin must be 64 hex digits")
	}
	at.URL = strings.TrimSuffix(at.URL, "/")
	return &Client{at: at, http: &http.Client{Transport: api.PinnedTransport([32]byte(pin)), Timeout: time.Minute}}, nil
}

// Info asks for the vault's description.
func (c *Client) Info(ctx context.Context) (v api.Vault, err error) {
	return v, api.Call(ctx, c.http, http.MethodGet, c.at.URL+api.PathVault, nil, nil, &v)
}

// challenge fetches a nonce.
func (c *Client) challenge(ctx context.Context) (n [32]byte, err error) {
	var ch api.Challenge
	if err := api.Call(ctx, c.http, http.MethodPost, c.at.URL+api.PathChallenge, nil, []byte("{}"), &ch); err != nil {
		return n, err
	}
	if len(ch.Nonce) != 32 {
		return n, errors.New("challenge: want 32 bytes")
	}
	return [32]byte(ch.Nonce), nil
}

// Login opens a session of agent at user, signed by the agent's wallet. An owner is
// its own agent. ttl 0 means one hour. Another login of the same agent renews the
// session in place, also while others use the client.
func (c *Client) Login(ctx context.Context, wallet eip712.Key, user agentkeys.Wallet, ttl time.Duration) error {
	nonce, err := c.challenge(ctx)
	if err != nil {
		return err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	seal, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	sealPub := seal.PublicKey().Bytes()
	l := eip712.Login{User: user, Agent: wallet.Wallet(), Nonce: nonce, IssuedAt: uint64(time.Now().Unix()),
		ClientKey: sha256.Sum256(append(append([]byte(nil), pub...), sealPub...))}
	sig := wallet.Sign(l.Digest(c.at.Vault))
	var s api.Session
	err = c.post(ctx, api.PathLogin, api.Login{User: user.String(), Agent: l.Agent.String(), Nonce: nonce[:], IssuedAt: l.IssuedAt,
		SessionKey: pub, SealKey: sealPub, TTL: uint64(ttl / time.Second), Signature: sig[:]}, &s)
	if err != nil {
		return err
	}
	token, err := openToken(c.at.Vault, seal, s)
	if err != nil {
		return err
	}
	if c.user != user || c.agent != l.Agent {
		c.user, c.agent = user, l.Agent
	}
	c.set(session{token, key, time.Unix(int64(s.Expires), 0)})
	return nil
}

func openToken(vault agentkeys.VaultID, seal *ecdh.PrivateKey, s api.Session) (string, error) {
	priv, err := hpke.NewDHKEMPrivateKey(seal)
	if err != nil {
		return "", fmt.Errorf("session: %w", err)
	}
	r, err := hpke.NewRecipient(s.Encapsulated, priv, hpke.HKDFSHA256(), hpke.AES256GCM(), agentkeys.DomainTag("session", vault))
	if err != nil {
		return "", fmt.Errorf("session: %w", err)
	}
	token, err := r.Open(nil, s.Sealed)
	if err != nil {
		return "", fmt.Errorf("session: the token is not sealed to this client: %w", err)
	}
	return string(token), nil
}

// State is a session as a file may keep it. Whoever holds it has the session.
type State struct {
	User    string `json:"user"`
	Agent   string `json:"agent"`
	Token   string `json:"token"`
	Key     []byte `json:"key"`
	Expires int64  `json:"expires"`
}

// State gives the session for keeping.
func (c *Client) State() State {
	s := c.session()
	return State{c.user.String(), c.agent.String(), s.token, s.key.Seed(), s.expires.Unix()}
}

// Resume takes a kept session. It is checked at its first use.
func (c *Client) Resume(s State) (err error) {
	if c.user, err = agentkeys.ParseWallet(s.User); err != nil {
		return err
	}
	if c.agent, err = agentkeys.ParseWallet(s.Agent); err != nil {
		return err
	}
	if len(s.Key) != ed25519.SeedSize {
		return errors.New("session: damaged; log in again: agentkeys login")
	}
	c.set(session{s.Token, ed25519.NewKeyFromSeed(s.Key), time.Unix(s.Expires, 0)})
	return nil
}

// User is whose vault the session is at.
func (c *Client) User() agentkeys.Wallet { return c.user }

// Expires is when the session ends.
func (c *Client) Expires() time.Time { return c.session().expires }

// post sends without a session.
func (c *Client) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return api.Call(ctx, c.http, http.MethodPost, c.at.URL+path, nil, body, out)
}

// call sends with the session and its proof.
func (c *Client) call(ctx context.Context, path string, in, out any) error {
	s := c.session()
	if s.token == "" {
		return &api.Error{Status: 401, Code: "session_invalid", Message: "no session", Next: "Log in: agentkeys login"}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	defer clear(body)
	h := http.Header{}
	h.Set("Authorization", "Bearer "+s.token)
	h.Set(api.ProofHeader, api.Prove(s.key, c.at.Vault, s.token, http.MethodPost, path, body, time.Now()))
	return api.Call(ctx, c.http, http.MethodPost, c.at.URL+path, h, body, out)
}
