package custodian

import (
	"context"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// statement has a user's signed statement accepted by the chain and answers after
// the verified block. It needs no session: the signature is the authority. A
// revocation is obeyed here at once, before anything else.
func (s *Server) statement(ctx context.Context, in api.Statement) (api.Accepted, error) {
	st, err := statement.Parse(in.Wire)
	if err != nil || !st.Body.Kind().ByUser() {
		return api.Accepted{}, badRequest.because("", "statement: not a user's statement in its wire form")
	}
	user := statement.UserOf(st.Body)
	digest, err := eip712.Digest(s.cfg.Vault, st.Body)
	if err != nil || eip712.Verify(digest, st.User, user) != nil {
		return api.Accepted{}, signatureInvalid.because("Sign it with the user's wallet, for this vault", "the statement is not signed by %s", user)
	}
	r, revoking := st.Body.(statement.RevokeAgent)
	if revoking {
		s.revoked.add(r.User, r.Agent, r.Counter)
		defer s.forgetStranger(ctx, r.User)
	}
	var carriedOut func(context.Context) error
	t, dropping := takes(st.Body)
	if revoking {
		carriedOut = s.proxies.drop(user, t) // while the relay carries it
	}
	old, held := s.deleted(ctx, st.Body)
	s.step("statement.relay")
	// Who sent it may go away: what it takes is dropped all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proofTimeout)
	defer cancel()
	relayed, err := s.cfg.Relay.Submit(ctx, [][]byte{in.Wire})
	if code := api.CodeOf(err); code == "enrol_limited" || code == "relay_busy" {
		return api.Accepted{}, err // it was not taken; the relay's own words say when to come again
	}
	if err != nil {
		s.log.Warn("relay", "error", err.Error())
		return api.Accepted{}, unknownOutcome.because("Send the same statement again: a repeat is harmless", "no block has answered yet")
	}
	code, reason := hint(relayed)
	out := api.Accepted{Code: uint32(code), Name: code.String(), Reason: reason, Height: relayed.Height}
	if !code.Done() {
		// The relay's word; a revocation it speaks against stays obeyed.
		return out, nil
	}
	s.step("statement.await")
	key, shown := effect(st.Body)
	if _, _, err := s.cfg.Chain.AwaitRow(ctx, key, shown); err != nil {
		return api.Accepted{}, unknownOutcome.because("Send the same statement again: a repeat is harmless", "a block has it, but its proof has not come")
	}
	if revoking {
		s.revoked.remove(r.User, r.Agent, r.Counter)
	} else if dropping {
		carriedOut = s.proxies.drop(user, t) // from here on nothing is lent by the old row
	}
	s.step("statement.drop")
	if carriedOut != nil && carriedOut(ctx) != nil {
		return api.Accepted{}, unknownOutcome.because("Send the same statement again: a repeat is harmless", "it is in a block, but a proxy has not confirmed yet")
	}
	if held {
		s.discarded(user, old)
	}
	return out, nil
}

// effect names the row that shows what a user's statement did, and how. Only such a
// row counts: the old object of a Delete is given up on its strength.
func effect(body statement.Body) (key []byte, shown func([]byte) bool) {
	switch b := body.(type) {
	case statement.Enrol:
		return rules.UserKey(b.User), func(v []byte) bool { return v != nil }
	case statement.AdmitAgent:
		return rules.AgentKey(b.User, b.Agent), has(rules.ParseAgent, func(a rules.Agent) bool {
			c := max(b.Counter, 1)
			return a.Counter > c || a.Counter == c && a.Expires >= b.Expires
		})
	case statement.RevokeAgent:
		return rules.AgentKey(b.User, b.Agent), has(rules.ParseAgent, func(a rules.Agent) bool { return a.Counter > b.Counter })
	case statement.Grant:
		slot := agentkeys.Slot{User: b.User, Agent: b.Agent, Service: b.Service}
		return rules.GrantKey(slot), has(rules.ParseGrant, func(g rules.Grant) bool { return g.Version > b.Previous })
	case statement.Delete:
		slot := agentkeys.Slot{User: b.User, Agent: b.Agent, Service: b.Service}
		replaced := has(rules.ParsePointer, func(p rules.Pointer) bool { return p.Version > b.Version })
		return rules.PointerKey(slot), func(v []byte) bool { return v == nil || replaced(v) }
	case statement.AskRotation:
		return rules.UserKey(b.User), has(rules.ParseUser, func(u rules.User) bool { return u.Due >= b.Due || u.Active.Epoch >= b.Due })
	}
	return nil, func([]byte) bool { return false }
}

func has[T any](parse func([]byte) (T, error), enough func(T) bool) func([]byte) bool {
	return func(v []byte) bool {
		r, ok, err := row(v, parse)
		return err == nil && ok && enough(r)
	}
}

// deleted gives the object that a Delete leaves behind.
func (s *Server) deleted(ctx context.Context, body statement.Body) (key string, held bool) {
	d, ok := body.(statement.Delete)
	if !ok {
		return "", false
	}
	slot := agentkeys.Slot{User: d.User, Agent: d.Agent, Service: d.Service}
	p, held, _, err := one(ctx, s.cfg.Chain, rules.PointerKey(slot), rules.ParsePointer)
	if err != nil || p.Version != d.Version {
		return "", false
	}
	return blobstore.Key(d.User, p.Epoch, d.Service, p.Blob), held
}
