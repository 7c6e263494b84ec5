package custodian

import (
	"context"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

// action is what a request wants to do.
type action string

const (
	actSession action = "session" // anything that a live session may: whoami, list
	actOwner   action = "owner"   // the owner's alone: tag key, audit trail
	actReveal  action = "reveal"
	actUse     action = "use"       // a proxy's, on behalf of the session
	actRules   action = "rules"     // where a credential may go, never its value
	actEnd     action = "end"       // the owner ends another session
	actWrite   action = "overwrite" // presence says overwrite; a first write needs none
)

// want is one request to be authorised. Its presence, if any, has a nonce that was
// taken for this request.
type want struct {
	action   action
	service  agentkeys.Service
	agent    agentkeys.Wallet // owner: whose slot, zero = shared
	presence *api.Presence
	replaces uint64 // write: the version to be replaced
	first    bool   // write: into a slot that holds nothing, or the chain refuses it
}

// verdict is the rows, all at one head, that decided a request.
type verdict struct {
	head    ledger.Head
	user    rules.User
	agent   rules.Agent
	slot    agentkeys.Slot
	pointer rules.Pointer
	held    bool   // slot holds a credential
	grant   uint64 // version of the grant that allows this, 0 for an owner
	ends    uint64 // when what allows this ends: session, or the grant if that is sooner
}

// authorise decides every request, from proven rows at the newest verified head and
// the revocations obeyed before their block. It has no effect, so a flow asks again
// right before it answers.
func (s *Server) authorise(ctx context.Context, c token.Claims, w want) (verdict, error) {
	v, grant, granted, err := s.evidence(ctx, c, w)
	if err != nil {
		return v, err
	}
	if err := s.allowSession(c, v); err != nil {
		return v, err
	}
	v.ends = min(c.Expires, v.agent.Expires)
	owner := c.Agent == c.User
	switch {
	case w.action == actSession:
		return v, nil
	case c.Role == token.RoleProxy:
		return v, useOnly.because("Ask for it on behalf of a session", "a proxy gets nothing for itself")
	case !owner && w.action != actReveal && w.action != actUse && w.action != actRules:
		return v, ownerOnly.because("Ask the owner to do it", "only the owner may do this, and this is a session of agent %s", c.Agent)
	case w.action == actOwner:
		return v, nil
	case !owner:
		if err := allowGrant(c, w, v, grant, granted); err != nil {
			return v, err
		}
		v.grant, v.ends = grant.Version, min(v.ends, grant.Expires)
	}
	if w.action != actWrite && !v.held {
		return v, notFound.because("See what there is: agentkeys list", "there is no credential %s", w.service)
	}
	if owner && (w.action == actReveal || w.action == actWrite) {
		return v, s.allowPresence(c, w, v)
	}
	return v, nil
}

// evidence reads the rows that a decision needs, as they stand at one head. Which
// slot an agent means is for its grant to say, so that is read first.
func (s *Server) evidence(ctx context.Context, c token.Claims, w want) (v verdict, g rules.Grant, granted bool, err error) {
	keys := [][]byte{rules.UserKey(c.User), rules.AgentKey(c.User, c.Agent)}
	if w.service != "" {
		svc, err := s.serviceID(c.User, w.service)
		if err != nil {
			return v, g, false, err
		}
		v.slot = agentkeys.Slot{User: c.User, Agent: c.User, Service: svc}
		if c.Agent == c.User && !w.agent.IsZero() {
			v.slot.Agent = w.agent
		}
		if c.Agent != c.User {
			key := rules.GrantKey(agentkeys.Slot{User: c.User, Agent: c.Agent, Service: svc})
			if g, granted, _, err = one(ctx, s.cfg.Chain, key, rules.ParseGrant); err != nil {
				return v, g, false, s.chainFailed(err)
			}
			if g.Slot == statement.SlotOwn {
				v.slot.Agent = c.Agent
			}
			keys = append(keys, key)
		}
		if (c.Agent == c.User || granted) && !w.first {
			keys = append(keys, rules.PointerKey(v.slot))
		}
	}
	values, head, err := s.cfg.Chain.Rows(ctx, keys...)
	if err != nil {
		return v, g, false, s.chainFailed(err)
	}
	v.head = head
	g, granted, err = v.parse(keys, values, g)
	if err != nil {
		return v, g, false, s.chainFailed(err)
	}
	return v, g, granted, nil
}

// parse fills the verdict. A grant that moved to another slot between the two reads
// is answered as missing rather than with the wrong slot's pointer.
func (v *verdict) parse(keys, values [][]byte, first rules.Grant) (g rules.Grant, granted bool, err error) {
	for i, key := range keys {
		if err != nil {
			return g, false, err
		}
		if _, is := rules.ParseGrantKey(key); is {
			if g, granted, err = row(values[i], rules.ParseGrant); g.Slot != first.Slot {
				granted = false
			}
		} else if _, is := rules.ParsePointerKey(key); is {
			v.pointer, v.held, err = row(values[i], rules.ParsePointer)
		} else if _, _, is := rules.ParseAgentKey(key); is {
			v.agent, _, err = row(values[i], rules.ParseAgent)
		} else {
			v.user, _, err = row(values[i], rules.ParseUser)
		}
	}
	return g, granted, err
}

// allowSession decides whether the session lives. A clock that the host sets ahead
// can only end it early.
func (s *Server) allowSession(c token.Claims, v verdict) error {
	owner := c.Agent == c.User
	switch {
	case v.agent.Counter == 0:
		return agentNotAdmitted.because("Ask the owner to run: agentkeys agent add", "%s is not admitted", who(c))
	case c.Check(max(blockTime(v.head), uint64(time.Now().Unix()))) != nil:
		return sessionExpired.because(loginAgain, "this session ended")
	case v.agent.Counter != c.Counter || s.revoked.covers(c.User, c.Agent, c.Counter):
		next := "Do not retry. The owner can admit it again: agentkeys agent add"
		if owner {
			next = loginAgain
		}
		return agentRevoked.because(next, "the sessions of %s were revoked", who(c))
	case s.ended.has(c.ID):
		return sessionExpired.because(loginAgain, "this session was ended")
	case v.agent.Expires <= blockTime(v.head):
		return agentNotAdmitted.because("Ask the owner to run: agentkeys agent add", "the admission of %s ended", who(c))
	case c.Role == token.RoleProxy && v.agent.Role != statement.RoleProxy:
		return sessionInvalid.because(loginAgain, "%s is no proxy any more", who(c))
	}
	return nil
}

func allowGrant(c token.Claims, w want, v verdict, g rules.Grant, granted bool) error {
	ask := "Ask the owner to run: agentkeys grant " + string(w.service) + " --to " + c.Agent.String()
	switch {
	case !granted:
		return grantMissing.because(ask+". Do not retry", "%s may not use %s", who(c), w.service)
	case g.Mode == statement.ModeNone || g.Counter != v.agent.Counter:
		return grantRevoked.because(ask+". Do not retry", "the grant of %s to %s was withdrawn", w.service, who(c))
	case g.Expires <= blockTime(v.head):
		return grantExpired.because(ask, "the grant of %s to %s ended", w.service, who(c))
	case g.Mode != statement.ModeReveal && w.action == actReveal:
		return useOnly.because("Ask the owner to run: agentkeys grant "+string(w.service)+" --to "+c.Agent.String()+" --reveal. Do not retry",
			"%s may use %s but not see it", who(c), w.service)
	}
	return nil
}

// allowPresence asks for the owner's wallet over exactly this action, slot and
// version: a signature for another one is worth nothing.
func (s *Server) allowPresence(c token.Claims, w want, v verdict) error {
	version := v.pointer.Version
	if w.action == actWrite {
		version = w.replaces
	}
	if version == 0 {
		return nil // a first write; authorise has refused to reveal nothing
	}
	if w.presence == nil {
		return presenceRequired.because("Sign with the owner's wallet and try again",
			"to %s %s v%d the owner must be present", w.action, w.service, version)
	}
	p := eip712.Presence{User: c.User, Action: string(w.action), Service: v.slot.Service, Agent: v.slot.Agent, Version: version}
	if len(w.presence.Nonce) == 32 && len(w.presence.Signature) == 65 {
		p.Nonce = [32]byte(w.presence.Nonce)
		if eip712.Verify(p.Digest(s.cfg.Vault), eip712.Signature(w.presence.Signature), c.User) == nil {
			return nil
		}
	}
	return presenceInvalid.because("Sign again with the owner's wallet; the version is in: agentkeys list",
		"this presence is not the owner's for %s of %s v%d", w.action, w.service, version)
}

// takeNonce uses up a presence's nonce, before anything else looks at it.
func (s *Server) takeNonce(p *api.Presence) error {
	if p == nil || s.nonces.take(p.Nonce) {
		return nil
	}
	return presenceInvalid.because("Sign again, with a new challenge", "the challenge of this presence is unknown, used or older than %s", nonceLife)
}

// serviceID is what the chain calls a user's service.
func (s *Server) serviceID(user agentkeys.Wallet, name agentkeys.Service) (agentkeys.ServiceID, error) {
	key, err := s.tagKey(user)
	if err != nil {
		return agentkeys.ServiceID{}, err
	}
	defer key.Wipe()
	label, err := key.Label(name)
	return eip712.ServiceID(label), err
}

// parseService refuses what is no service name.
func parseService(name string) (agentkeys.Service, error) {
	svc, err := agentkeys.ParseService(name)
	if err != nil {
		return "", badRequest.because("Choose another name", "%v", err)
	}
	return svc, nil
}

// parseSlotAgent reads the owner's choice of slot; empty means shared.
func parseSlotAgent(text string) (w agentkeys.Wallet, err error) {
	if text == "" {
		return w, nil
	}
	if w, err = agentkeys.ParseWallet(text); err != nil {
		return w, badRequest.because("Name the agent by its address", "%v", err)
	}
	return w, nil
}

func who(c token.Claims) string {
	if c.Agent == c.User {
		return "the owner"
	}
	return c.Agent.String()
}
