package custodian

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

func (s *Server) challenge(context.Context, struct{}) (api.Challenge, error) {
	n := s.nonces.give()
	return api.Challenge{Nonce: n[:]}, nil
}

// login trades the signature of an admitted wallet for a session that is bound to
// the client's key and readable by it alone.
func (s *Server) login(ctx context.Context, in api.Login) (api.Session, error) {
	l, err := s.parseLogin(in)
	if err != nil {
		return api.Session{}, err
	}
	if !s.nonces.take(in.Nonce) {
		return api.Session{}, signatureInvalid.because(loginAgain, "the challenge is unknown, used or older than %s", nonceLife)
	}
	if eip712.Verify(l.Digest(s.cfg.Vault), eip712.Signature(in.Signature), l.Agent) != nil {
		return api.Session{}, signatureInvalid.because(loginAgain, "the login is not signed by wallet %s", l.Agent)
	}
	if err := s.freshHead(ctx); err != nil {
		return api.Session{}, err
	}
	claims := token.Claims{User: l.User, Agent: l.Agent, Key: ed25519.PublicKey(in.SessionKey), Issued: uint64(time.Now().Unix())}
	if err := s.admit(ctx, &claims, in.TTL); err != nil {
		return api.Session{}, err
	}
	return s.issue(claims, in.SealKey)
}

func (s *Server) parseLogin(in api.Login) (l eip712.Login, err error) {
	user, err := agentkeys.ParseWallet(in.User)
	if err != nil {
		return l, badRequest.because("", "user: %v", err)
	}
	agent, err := agentkeys.ParseWallet(in.Agent)
	if err != nil {
		return l, badRequest.because("", "agent: %v", err)
	}
	if len(in.Nonce) != 32 || len(in.SessionKey) != 32 || len(in.SealKey) != 32 || len(in.Signature) != 65 {
		return l, badRequest.because("", "login: nonce and keys have 32 bytes, the signature 65")
	}
	if in.TTL > uint64(token.MaxLife/time.Second) {
		return l, badRequest.because("Ask for at most 30 days", "a session lasts at most %s", token.MaxLife)
	}
	if age := time.Since(time.Unix(int64(in.IssuedAt), 0)); age > nonceLife || age < -nonceLife {
		return l, signatureInvalid.because("Set the clock right and log in again", "the login was signed more than %s from now", nonceLife)
	}
	key := sha256.Sum256(append(append([]byte(nil), in.SessionKey...), in.SealKey...))
	return eip712.Login{User: user, Agent: agent, Nonce: [32]byte(in.Nonce), ClientKey: key, IssuedAt: in.IssuedAt}, nil
}

// admit fills in what the rows say of the agent: role, counter, end.
func (s *Server) admit(ctx context.Context, c *token.Claims, ttl uint64) error {
	v, _, _, err := s.evidence(ctx, *c, want{action: actSession})
	if err != nil {
		return err
	}
	if v.agent.Counter == 0 && c.Agent == c.User {
		return notEnrolled.because("Enrol first: agentkeys init", "%s is not enrolled in this vault", c.User)
	}
	if ttl == 0 {
		ttl = uint64(token.DefaultLife / time.Second)
	}
	if v.agent.Counter != 0 && v.agent.Expires <= blockTime(v.head) {
		return agentNotAdmitted.because("Do not retry. The owner can admit it again: agentkeys agent add", "%s is not admitted, or not any more", who(*c))
	}
	c.Counter = v.agent.Counter
	c.Expires = min(c.Issued+ttl, v.agent.Expires)
	switch {
	case c.Agent == c.User:
		c.Role = token.RoleOwner
	case v.agent.Role == statement.RoleProxy:
		c.Role = token.RoleProxy
	default:
		c.Role = token.RoleAgent
	}
	return s.allowSession(*c, v)
}

// issue seals the token to the client's key by HPKE in base mode (RFC 9180).
func (s *Server) issue(c token.Claims, sealKey []byte) (api.Session, error) {
	rand.Read(c.ID[:])
	t, err := token.IssueSession(s.issuer, s.cfg.Vault, c)
	if err != nil {
		return api.Session{}, fmt.Errorf("session: %w", err)
	}
	pub, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(sealKey)
	if err != nil {
		return api.Session{}, badRequest.because("", "seal key: not an X25519 public key")
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), agentkeys.DomainTag("session", s.cfg.Vault))
	if err != nil {
		return api.Session{}, badRequest.because("", "seal key: cannot be sealed to")
	}
	sealed, err := sender.Seal(nil, []byte(t))
	if err != nil {
		return api.Session{}, fmt.Errorf("session: %w", err)
	}
	s.counts.logins.Add(1)
	s.known.used(c)
	return api.Session{Encapsulated: enc, Sealed: sealed, Expires: c.Expires}, nil
}

func (s *Server) whoami(ctx context.Context, c token.Claims, _ struct{}) (api.WhoAmI, error) {
	if err := s.freshHead(ctx); err != nil {
		return api.WhoAmI{}, err
	}
	if _, err := s.authorise(ctx, c, want{action: actSession}); err != nil {
		return api.WhoAmI{}, err
	}
	return api.WhoAmI{User: c.User.String(), Agent: c.Agent.String(), Role: string(c.Role), Counter: c.Counter, Expires: c.Expires,
		Session: hex.EncodeToString(c.ID[:])}, nil
}

// viewingKey gives the owner the key that names services.
func (s *Server) viewingKey(ctx context.Context, c token.Claims, _ struct{}) (api.TagKey, error) {
	if err := s.freshHead(ctx); err != nil {
		return api.TagKey{}, err
	}
	if _, err := s.authorise(ctx, c, want{action: actOwner}); err != nil {
		return api.TagKey{}, err
	}
	key, err := s.tagKey(c.User)
	if err != nil {
		return api.TagKey{}, err
	}
	return api.TagKey{Key: key.Reveal()}, nil
}
