package custodian

import (
	"encoding/hex"
	"testing"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/token"
)

// endPresence is the owner's consent to end a session.
func (w *world) endPresence(id string, agent token.Claims) *api.Presence {
	w.t.Helper()
	c, err := w.s.challenge(w.t.Context(), struct{}{})
	check(w.t, err)
	p := eip712.Presence{User: w.owner.Wallet(), Action: "end", Service: eip712.ServiceID(api.SessionLabel(id)), Agent: agent.Agent, Nonce: [32]byte(c.Nonce)}
	sig := w.owner.Sign(p.Digest(w.vault))
	return &api.Presence{Nonce: c.Nonce, Signature: sig[:]}
}

func idOf(c token.Claims) string { return hex.EncodeToString(c.ID[:]) }

func TestSessionsAreListedAndEnded(t *testing.T) {
	w := newWorld(t)
	owner, scribe, other := w.session(w.owner), w.session(w.scribe), w.session(w.scribe)
	list := func() map[string]api.SessionInfo {
		l, err := w.s.sessions(t.Context(), owner, struct{}{})
		check(t, err)
		by := map[string]api.SessionInfo{}
		for _, s := range l.Sessions {
			by[s.ID] = s
		}
		return by
	}
	if l := list(); !l[idOf(owner)].Self || l[idOf(scribe)].Agent != w.scribe.Wallet().String() || l[idOf(other)].Role != "agent" || l[idOf(scribe)].Self {
		t.Errorf("listed %+v", l)
	}
	alive := func(c token.Claims) error { _, err := w.s.whoami(t.Context(), c, struct{}{}); return err }
	end := func(c token.Claims, id string, p *api.Presence) error {
		_, err := w.s.end(t.Context(), c, api.End{Session: id, Presence: p})
		return err
	}
	// Whom it takes to end another's session.
	wantCode(t, end(scribe, idOf(other), nil), ownerOnly)
	wantCode(t, end(owner, idOf(scribe), nil), presenceRequired)
	wantCode(t, end(owner, idOf(scribe), w.endPresence(idOf(other), scribe)), presenceInvalid)
	wantCode(t, end(owner, "00112233445566778899aabbccddeeff", w.endPresence("00112233445566778899aabbccddeeff", scribe)), notFound)
	wantCode(t, end(owner, "x", nil), badRequest)
	used := w.endPresence(idOf(other), other)
	check(t, alive(scribe))
	check(t, end(owner, idOf(other), used))
	wantCode(t, alive(other), sessionExpired)
	wantCode(t, end(owner, idOf(scribe), used), presenceInvalid)
	// A session ends itself; both stay ended over a restart.
	check(t, end(scribe, idOf(scribe), nil))
	if l := list(); len(l) != 1 {
		t.Errorf("left: %+v", l)
	}
	w.restart()
	wantCode(t, alive(other), sessionExpired)
	wantCode(t, alive(scribe), sessionExpired)
	check(t, alive(owner))
}

func TestSessionsAreBounded(t *testing.T) {
	k := newSessions()
	for n := range maxSessions + 10 {
		k.used(token.Claims{ID: [16]byte{byte(n), byte(n >> 8), byte(n >> 16)}, Expires: uint64(time.Now().Unix()) + 100})
	}
	if len(k.by) > maxSessions {
		t.Errorf("%d are remembered", len(k.by))
	}
	if _, ok := k.find([16]byte{9, maxSessions >> 8 & 0xff, maxSessions >> 16}); !ok {
		t.Error("the newest is forgotten")
	}
}
