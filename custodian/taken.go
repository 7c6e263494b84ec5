package custodian

import (
	"encoding/hex"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/statement"
)

// taken is what a statement, a write or the end of a session takes from the proxies of
// a user: what they are told to drop, and which leases that is about. A lease given by
// a later row is not among them, so old statements, which anybody can read off the
// chain and send again, cut nothing.
type taken struct {
	api.Drop
	from func(loan, loaned) bool
}

// takes says what a statement takes away; ok is false for one that takes nothing. A
// proxy that is revoked itself finds its own wallet there.
func takes(body statement.Body) (t taken, ok bool) {
	switch b := body.(type) {
	case statement.RevokeAgent:
		return taken{api.Drop{Agent: b.Agent.String(), Reason: "agent_revoked"}, func(_ loan, w loaned) bool {
			return w.agent == b.Agent && w.counter <= b.Counter || w.proxy == b.Agent && w.admitted <= b.Counter
		}}, true
	case statement.Grant:
		return taken{api.Drop{Agent: b.Agent.String(), ServiceID: b.Service.String(), Reason: "grant_changed"}, func(l loan, w loaned) bool {
			return l.service == b.Service && w.agent == b.Agent && w.grant <= b.Previous
		}}, b.Previous > 0
	case statement.Delete:
		slot := agentkeys.Slot{User: b.User, Agent: b.Agent, Service: b.Service}
		return takesVersion(slot, b.Version, "deleted"), true
	}
	return t, false
}

// takesVersion takes a slot's value, and those before it.
func takesVersion(slot agentkeys.Slot, version uint64, reason string) taken {
	return taken{api.Drop{ServiceID: slot.Service.String(), Reason: reason}, func(l loan, w loaned) bool {
		return l.service == slot.Service && w.owner == slot.Agent && l.version <= version
	}}
}

// takesSession takes what was lent for a session.
func takesSession(id [16]byte) taken {
	return taken{api.Drop{Session: hex.EncodeToString(id[:]), Reason: "session_ended"}, func(l loan, _ loaned) bool { return l.session == id }}
}
