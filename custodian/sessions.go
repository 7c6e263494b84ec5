package custodian

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/token"
)

// maxSessions bounds the sessions that are remembered; the one used least recently
// goes first.
const maxSessions = 1 << 14

// sessions are those issued or heard since the start, in memory: a session needs no
// state to live.
type sessions struct {
	mu    sync.Mutex
	since time.Time
	by    map[[16]byte]*heard
}

type heard struct {
	claims token.Claims
	used   time.Time
}

func newSessions() *sessions { return &sessions{since: time.Now(), by: map[[16]byte]*heard{}} }

func (k *sessions) used(c token.Claims) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if h := k.by[c.ID]; h != nil {
		h.used = now
		return
	}
	if len(k.by) >= maxSessions {
		k.forget(now)
	}
	k.by[c.ID] = &heard{c, now}
}

// forget drops what ended, or else the least recently used eighth.
func (k *sessions) forget(now time.Time) {
	for id, h := range k.by {
		if h.claims.Check(uint64(now.Unix())) != nil {
			delete(k.by, id)
		}
	}
	if len(k.by) < maxSessions {
		return
	}
	all := make([]*heard, 0, len(k.by))
	for _, h := range k.by {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *heard) int { return a.used.Compare(b.used) })
	for _, h := range all[:len(all)/8] {
		delete(k.by, h.claims.ID)
	}
}

// of gives a user's, oldest first.
func (k *sessions) of(user agentkeys.Wallet) (out []heard) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.by {
		if h.claims.User == user {
			out = append(out, *h)
		}
	}
	slices.SortFunc(out, func(a, b heard) int {
		return cmp.Or(cmp.Compare(a.claims.Issued, b.claims.Issued), bytes.Compare(a.claims.ID[:], b.claims.ID[:]))
	})
	return out
}

func (k *sessions) find(id [16]byte) (token.Claims, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.by[id]
	if h == nil {
		return token.Claims{}, false
	}
	return h.claims, true
}

// sessions lists the user's live sessions, as far as this custodian knows them.
func (s *Server) sessions(ctx context.Context, c token.Claims, _ struct{}) (api.Sessions, error) {
	if err := s.freshHead(ctx); err != nil {
		return api.Sessions{}, err
	}
	if _, err := s.authorise(ctx, c, want{action: actOwner}); err != nil {
		return api.Sessions{}, err
	}
	out := api.Sessions{Since: uint64(s.known.since.Unix()), Sessions: []api.SessionInfo{}}
	for _, h := range s.known.of(c.User) {
		if _, err := s.authorise(ctx, h.claims, want{action: actSession}); err != nil {
			continue
		}
		out.Sessions = append(out.Sessions, api.SessionInfo{ID: hex.EncodeToString(h.claims.ID[:]), Agent: h.claims.Agent.String(),
			Role: string(h.claims.Role), Issued: h.claims.Issued, Expires: h.claims.Expires, Used: uint64(h.used.Unix()), Self: h.claims.ID == c.ID})
	}
	return out, nil
}

// end ends a session for good: its own, or another of the user's with the owner
// present. The answer comes when the proxies have dropped what they hold for it.
func (s *Server) end(ctx context.Context, c token.Claims, in api.End) (struct{}, error) {
	b, err := hex.DecodeString(in.Session)
	if err != nil || len(b) != 16 {
		return struct{}{}, badRequest.because("See them: agentkeys session list", "session: want 32 hex digits")
	}
	if err := s.takeNonce(in.Presence); err != nil {
		return struct{}{}, err
	}
	if err := s.freshHead(ctx); err != nil {
		return struct{}{}, err
	}
	if _, err := s.authorise(ctx, c, want{action: actSession}); err != nil {
		return struct{}{}, err
	}
	other := c
	if id := [16]byte(b); id != c.ID {
		if other, err = s.allowEnd(ctx, c, id, in); err != nil {
			return struct{}{}, err
		}
	}
	if err := s.ended.add(other.ID, c.User, other.Expires); errors.Is(err, errManyEnded) {
		return struct{}{}, busy.because("Let them end by themselves, or revoke the agent: agentkeys agent revoke NAME", "%v", err)
	} else if err != nil {
		s.log.Error("ended sessions", "error", err.Error())
		return struct{}{}, auditUnavailable.because("Free disk space on the custodian, then try again", "the end of a session cannot be written down")
	}
	return struct{}{}, s.proxies.drop(c.User, takesSession(other.ID))(ctx)
}

// allowEnd asks for the owner's wallet over this very session.
func (s *Server) allowEnd(ctx context.Context, c token.Claims, id [16]byte, in api.End) (token.Claims, error) {
	if _, err := s.authorise(ctx, c, want{action: actOwner}); err != nil {
		return c, err
	}
	other, known := s.known.find(id)
	if !known || other.User != c.User {
		return c, notFound.because("See them: agentkeys session list", "there is no such session, as far as this custodian knows")
	}
	if in.Presence == nil {
		return c, presenceRequired.because("Sign with the owner's wallet and try again", "to end another session the owner must be present")
	}
	p := eip712.Presence{User: c.User, Action: string(actEnd), Service: eip712.ServiceID(api.SessionLabel(in.Session)), Agent: other.Agent}
	if len(in.Presence.Nonce) == 32 && len(in.Presence.Signature) == 65 {
		p.Nonce = [32]byte(in.Presence.Nonce)
		if eip712.Verify(p.Digest(s.cfg.Vault), eip712.Signature(in.Presence.Signature), c.User) == nil {
			return other, nil
		}
	}
	return c, presenceInvalid.because("Sign again with the owner's wallet", "this presence is not the owner's for ending session %s", in.Session)
}
