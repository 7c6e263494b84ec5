package api

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"example.org/agentkeys"
)

// Paths of the custodian for proxies and about them.
const (
	PathUse   = "/v1/use"   // POST Use -> Used; a proxy's session, on behalf of another
	PathWatch = "/v1/watch" // POST Watch -> Watched; a proxy's session; held for up to WatchHold
	PathRules = "/v1/rules" // POST RulesRequest -> Rules; the owner, or an agent with a live grant

	PathSessions = "/v1/sessions" // POST -> Sessions; owner
	PathEnd      = "/v1/end"      // POST End -> {}; the session itself, or the owner with presence
)

// Times of a proxy. Both sides count by their monotonic clocks.
const (
	MaxLease  = time.Minute     // how long a proxy may keep a value
	WatchHold = 2 * time.Second // how long the custodian holds a watch that has nothing to tell
	WatchLife = 6 * time.Second // everything a proxy holds dies this long after it sent its last answered watch
)

// Delegation lets one proxy use, until Until, what a session may use. The session's
// key signs it: a stolen token delegates nothing.
type Delegation struct {
	Token     string `json:"token"`     // of the agent's, or the owner's, session
	Proxy     string `json:"proxy"`     // wallet
	Until     uint64 `json:"until"`     // unix seconds, at most the session's end
	Signature []byte `json:"signature"` // Ed25519, 64
}

// Use asks for a value on behalf of a session. Instance is one start of the proxy
// that watches; without a running watch nothing is given.
type Use struct {
	Delegation Delegation `json:"delegation"`
	Service    string     `json:"service"`
	Instance   string     `json:"instance"` // 16 random bytes, hex
}

// Used is a value on loan. It exists only inside attested TLS and in the proxy's
// memory, Lease seconds from when the request was sent.
type Used struct {
	Value
	ServiceID string `json:"service_id"`
	Session   string `json:"session"` // id of the session it is used for, 32 hex
	Agent     string `json:"agent"`   // whose session
	Lease     uint64 `json:"lease"`   // seconds, at most 60
}

// Watch is a proxy's long poll: it says what is done and asks what to drop.
type Watch struct {
	Instance string  `json:"instance"`
	Boot     string  `json:"boot"` // of the last Watched; another one, and the proxy drops everything
	Seen     uint64  `json:"seen"` // newest drop carried out: its values are gone and its streams cut
	Calls    []Calls `json:"calls,omitempty"`
}

// Calls are proxied calls since they were last told, for the audit trail.
type Calls struct {
	Session   string `json:"session"`
	ServiceID string `json:"service_id"`
	Version   uint64 `json:"version"`
	Count     uint32 `json:"count"`
}

// Watched tells what to drop, oldest first.
type Watched struct {
	Boot  string `json:"boot"`
	Drops []Drop `json:"drops,omitempty"`
}

// Drop ends leases and cuts streams. Empty fields stand for all; a proxy that finds its
// own wallet as Agent drops everything.
type Drop struct {
	Number    uint64 `json:"number"`
	Agent     string `json:"agent,omitempty"`
	ServiceID string `json:"service_id,omitempty"`
	Session   string `json:"session,omitempty"`
	Reason    string `json:"reason"` // agent_revoked, grant_changed, replaced, deleted, session_ended
}

// RulesRequest asks where a credential may go. The owner names the slot as in Read.
type RulesRequest struct {
	Service string `json:"service"`
	Agent   string `json:"agent,omitempty"`
}

// Rules is a credential without its secret.
type Rules struct {
	Kind    uint8  `json:"kind"` // credential.Kind
	Header  string `json:"header"`
	Hosts   []Host `json:"hosts"`
	Version uint64 `json:"version"`
}

// Host is one host rule.
type Host struct {
	Pattern string `json:"pattern"`
	Port    uint16 `json:"port"`
}

// Sessions are the live sessions of a user that this custodian has issued or heard
// since it started.
type Sessions struct {
	Since    uint64        `json:"since"`
	Sessions []SessionInfo `json:"sessions"`
}

// SessionInfo is one session.
type SessionInfo struct {
	ID      string `json:"id"` // 32 hex
	Agent   string `json:"agent"`
	Role    string `json:"role"`
	Issued  uint64 `json:"issued"`
	Expires uint64 `json:"expires"`
	Used    uint64 `json:"used"` // newest request
	Self    bool   `json:"self"` // the one that asks
}

// End ends a session before its time. Another's needs Presence over action "end".
type End struct {
	Session  string    `json:"session"`
	Presence *Presence `json:"presence,omitempty"`
}

// SessionLabel is what a wallet shows, as service, when its owner ends a session.
func SessionLabel(id string) string { return "session " + id }

// Delegate signs a delegation with a session's key: domain tag "delegation", SHA-256
// of the token 32, proxy 20, until 8.
func Delegate(key ed25519.PrivateKey, vault agentkeys.VaultID, token string, proxy agentkeys.Wallet, until uint64) Delegation {
	return Delegation{token, proxy.String(), until, ed25519.Sign(key, delegationMessage(vault, token, proxy, until))}
}

// CheckDelegation checks that the session's key let this proxy act.
func CheckDelegation(d Delegation, key ed25519.PublicKey, vault agentkeys.VaultID, proxy agentkeys.Wallet) error {
	if d.Proxy != proxy.String() || len(key) != ed25519.PublicKeySize ||
		!ed25519.Verify(key, delegationMessage(vault, d.Token, proxy, d.Until), d.Signature) {
		return errors.New("delegation: not for this proxy, or not by the session's key")
	}
	return nil
}

func delegationMessage(vault agentkeys.VaultID, token string, proxy agentkeys.Wallet, until uint64) []byte {
	h := sha256.Sum256([]byte(token))
	m := append(append(agentkeys.DomainTag("delegation", vault), h[:]...), proxy[:]...)
	return binary.BigEndian.AppendUint64(m, until)
}
