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
	user := userOf(st.Body)
	digest, err := eip712.Digest(s.cfg.Vault, st.Body)
	if err != nil || eip712.Verify(digest, st.User, user) != nil {
		return api.Accepted{}, signatureInvalid.because("Sign it with the user's wallet, for this vault", "the statement is not signed by %s", user)
	}
	r, revoking := st.Body.(statement.RevokeAgent)
	if revoking {
		s.revoked.add(r.User, r.Agent, r.Counter)
	}
	old, held := s.deleted(ctx, st.Body)
	before, _, err := s.User(ctx, user)
	if err != nil {
		return api.Accepted{}, s.chainFailed(err)
	}
	s.step("statement.relay")
	relayed, err := s.cfg.Relay.Submit(ctx, [][]byte{in.Wire})
	if err != nil {
		s.log.Warn("relay", "error", err.Error())
		return api.Accepted{}, unknownOutcome.because("Send the same statement again: a repeat is harmless", "no block has answered yet")
	}
	code, reason := hint(relayed)
	out := api.Accepted{Code: uint32(code), Name: code.String(), Reason: reason, Height: relayed.Height}
	if !code.Done() {
		if revoking {
			s.revoked.remove(r.User, r.Agent, r.Counter)
		}
		return out, nil
	}
	if err := s.shown(ctx, st.Body, user, before, code); err != nil {
		return api.Accepted{}, err
	}
	if revoking {
		s.revoked.remove(r.User, r.Agent, r.Counter)
	}
	if held {
		s.discarded(user, old)
	}
	return out, nil
}

// shown waits until proven rows show what the statement did.
func (s *Server) shown(ctx context.Context, body statement.Body, user agentkeys.Wallet, before rules.User, code rules.Code) error {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	key, enough := rules.UserKey(user), func(v []byte) bool {
		u, ok, err := row(v, rules.ParseUser)
		return err == nil && ok && (code == rules.AlreadyApplied || u.Rev > before.Rev)
	}
	if r, ok := body.(statement.RevokeAgent); ok {
		key, enough = rules.AgentKey(r.User, r.Agent), func(v []byte) bool {
			a, ok, err := row(v, rules.ParseAgent)
			return err == nil && ok && a.Counter > r.Counter
		}
	}
	if _, _, err := s.cfg.Chain.AwaitRow(ctx, key, enough); err != nil {
		return unknownOutcome.because("Send the same statement again: a repeat is harmless", "a block has it, but its proof has not come")
	}
	return nil
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

func userOf(b statement.Body) agentkeys.Wallet {
	switch x := b.(type) {
	case statement.Enrol:
		return x.User
	case statement.AdmitAgent:
		return x.User
	case statement.RevokeAgent:
		return x.User
	case statement.Grant:
		return x.User
	case statement.Delete:
		return x.User
	case statement.AskRotation:
		return x.User
	}
	return agentkeys.Wallet{}
}
