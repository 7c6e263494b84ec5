package rules

import (
	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// The handlers of users' statements. Each is safe to repeat: a statement that was
// accepted once never changes anything again.

func (t *tx) enrol(s statement.Enrol) error {
	_, ok, err := get(t.kv, UserKey(s.User), ParseUser)
	if err != nil {
		return err
	}
	if ok {
		return refuse(AlreadyApplied, "user %s is enrolled", s.User)
	}
	t.system.Users++
	if err := t.kv.Set(SystemKey(), t.system.Append(nil)); err != nil {
		return err
	}
	t.res.Scope = TouchedSystem
	own := Agent{Role: statement.RoleAgent, Counter: 1, Expires: NeverExpires}
	if err := t.kv.Set(AgentKey(s.User, s.User), own.Append(nil)); err != nil {
		return err
	}
	return t.kv.Set(UserKey(s.User), User{}.Append(nil))
}

// maxNumber bounds versions and counters, so that none wraps and every counter an
// agent can be admitted at can still be raised.
const maxNumber = 1 << 62

// admit only ever extends an admission at a counter: a replayed older statement
// cannot bring back a role or an expiry. To shorten one, revoke and admit again.
func (t *tx) admit(s statement.AdmitAgent) error {
	if s.User == s.Agent || s.Agent.IsZero() {
		return refuse(Refused, "agent: a user is its own agent already")
	}
	if _, err := t.user(s.User); err != nil {
		return err
	}
	a, ok, err := get(t.kv, AgentKey(s.User, s.Agent), ParseAgent)
	if err != nil {
		return err
	}
	switch {
	case !ok && s.Counter == 0 && s.Expires > t.b.Time:
		a.Counter = 1
	case !ok:
		return refuse(Stale, "agent has no row here: sign counter 0 and an expiry that lies ahead")
	case a.Expires != 0 && s.Expires == a.Expires && s.Role == a.Role && (s.Counter == a.Counter || s.Counter == 0 && a.Counter == 1):
		return refuse(AlreadyApplied, "agent is admitted until %d", a.Expires)
	case s.Counter != a.Counter:
		return refuse(Stale, "agent's counter is %d, signed was %d", a.Counter, s.Counter)
	case a.Expires != 0 && s.Expires <= a.Expires:
		return refuse(Stale, "agent is admitted until %d; to shorten that or change its role, revoke and admit again", a.Expires)
	case s.Counter >= maxNumber:
		return refuse(Refused, "counter: out of range")
	case s.Expires <= t.b.Time:
		return refuse(Expired, "expires at %d, block time is %d", s.Expires, t.b.Time)
	}
	a.Role, a.Expires = s.Role, s.Expires
	return t.kv.Set(AgentKey(s.User, s.Agent), a.Append(nil))
}

// revoke needs no order and never expires: it creates the row if absent, so that
// an admission held back by the relay cannot come after it. An admission signed
// while there was no row makes counter 1, so a revocation signed then covers 1.
func (t *tx) revoke(s statement.RevokeAgent) error {
	u, err := t.user(s.User)
	if err != nil {
		return err
	}
	a, ok, err := get(t.kv, AgentKey(s.User, s.Agent), ParseAgent)
	if err != nil {
		return err
	}
	if s.Counter >= maxNumber {
		return refuse(Refused, "counter: out of range")
	}
	c := max(s.Counter, 1)
	if ok && a.Counter > c {
		return refuse(AlreadyApplied, "agent's counter is %d", a.Counter)
	}
	if !ok {
		a.Role = statement.RoleAgent
	}
	a.Counter = c + 1
	if s.User != s.Agent {
		a.Expires = 0
	}
	if err := t.kv.Set(AgentKey(s.User, s.Agent), a.Append(nil)); err != nil {
		return err
	}
	t.due(&u)
	t.event("AgentRevoked", attr("user", s.User), attr("agent", s.Agent))
	return t.kv.Set(UserKey(s.User), u.Append(nil))
}

// due asks for the next epoch, and for the draining one to end first.
func (t *tx) due(u *User) {
	if u.Active.Epoch == 0 || u.Active.Epoch == ^agentkeys.Epoch(0) {
		return
	}
	u.Due = u.Active.Epoch + 1
	if u.Draining.Epoch != 0 {
		u.Draining.Eager = true
	}
}

func (t *tx) grant(s statement.Grant) error {
	if _, err := t.user(s.User); err != nil {
		return err
	}
	a, ok, err := get(t.kv, AgentKey(s.User, s.Agent), ParseAgent)
	if err != nil {
		return err
	}
	if s.Mode != statement.ModeNone {
		if !ok || a.Expires <= t.b.Time || s.User == s.Agent {
			return refuse(NotAdmitted, "agent is not admitted; admit it first")
		}
		if s.Counter != a.Counter {
			return refuse(Stale, "agent's counter is %d, signed was %d", a.Counter, s.Counter)
		}
		if s.Expires <= t.b.Time {
			return refuse(Expired, "grant ends at %d, block time is %d", s.Expires, t.b.Time)
		}
	}
	key := GrantKey(agentkeys.Slot{User: s.User, Agent: s.Agent, Service: s.Service})
	g, _, err := get(t.kv, key, ParseGrant)
	if err != nil {
		return err
	}
	next := Grant{s.Counter, s.Previous + 1, s.Mode, s.Slot, s.Expires, s.SealedName}
	if g == next {
		return refuse(AlreadyApplied, "grant has version %d", g.Version)
	}
	if g.Version != s.Previous {
		return refuse(Stale, "grant has version %d, signed was %d", g.Version, s.Previous)
	}
	t.event("Granted", attr("user", s.User), attr("agent", s.Agent), attr("service", s.Service),
		number("mode", uint64(s.Mode)))
	return t.kv.Set(key, next.Append(nil))
}

func (t *tx) delete(s statement.Delete) error {
	u, err := t.user(s.User)
	if err != nil {
		return err
	}
	slot := agentkeys.Slot{User: s.User, Agent: s.Agent, Service: s.Service}
	p, ok, err := get(t.kv, PointerKey(slot), ParsePointer)
	switch {
	case err != nil:
		return err
	case !ok && s.Version <= u.Floor:
		return refuse(AlreadyApplied, "credential is deleted")
	case !ok:
		return refuse(NotFound, "no credential in this slot")
	case p.Version != s.Version:
		return refuse(Stale, "credential has version %d, signed was %d", p.Version, s.Version)
	}
	return t.removePointer(slot, u, p, "user")
}

func (t *tx) askRotation(s statement.AskRotation) error {
	u, err := t.user(s.User)
	if err != nil {
		return err
	}
	switch {
	case s.Due <= u.Due || s.Due <= u.Active.Epoch:
		return refuse(AlreadyApplied, "epoch %d is due or open", s.Due)
	case u.Active.Epoch == 0 || s.Due != u.Active.Epoch+1:
		return refuse(WrongEpoch, "the active epoch is %d; ask for the next", u.Active.Epoch)
	}
	t.due(&u)
	return t.kv.Set(UserKey(s.User), u.Append(nil))
}

func (t *tx) user(w agentkeys.Wallet) (User, error) {
	u, ok, err := get(t.kv, UserKey(w), ParseUser)
	if err == nil && !ok {
		err = refuse(NotFound, "user %s is not enrolled", w)
	}
	return u, err
}

func attr(name string, v interface{ String() string }) [2]string { return [2]string{name, v.String()} }
