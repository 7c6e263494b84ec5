// Package api is the HTTP contract of the custodian and of the operator's relay:
// JSON as transport around fixed bytes, strict and size-limited
// (docs/spec/api.md). Byte fields travel as standard base64, identifiers as text.
package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// Limits of request bodies in bytes.
const (
	MaxRequest  = 256 << 10
	MaxFrames   = 64 << 20 // sealed job frames and chunks
	MaxResponse = 64 << 20
)

// Paths of the custodian for clients.
const (
	PathVault      = "/v1/vault"      // GET -> Vault, no session
	PathChallenge  = "/v1/challenge"  // POST -> Challenge, no session
	PathLogin      = "/v1/login"      // POST Login -> Session
	PathWhoAmI     = "/v1/whoami"     // POST -> WhoAmI
	PathTagKey     = "/v1/tagkey"     // POST -> TagKey, owner only
	PathRead       = "/v1/read"       // POST Read -> Value
	PathWrite      = "/v1/write"      // POST Write -> Written
	PathList       = "/v1/list"       // POST -> Listing, owner; an agent sees what it may use
	PathStatement  = "/v1/statement"  // POST Statement -> Accepted; a user's signed statement, no session
	PathReads      = "/v1/reads"      // POST ReadsRequest -> Reads, owner only: the audit trail of this user
	PathEvidence   = "/v1/evidence"   // GET -> Evidence, no session
	PathCheckpoint = "/v1/checkpoint" // GET -> Checkpoint, no session
)

// Paths of the custodian for the operator, who shows the operator token. Nothing
// that travels here opens anything.
const (
	PathVouch     = "/v1/operator/vouch"     // POST RotatorHello -> Accepted
	PathJob       = "/v1/operator/job"       // POST JobRequest -> Job
	PathHandshake = "/v1/operator/handshake" // POST Handshake -> JobFrames
	PathReceipt   = "/v1/operator/receipt"   // POST JobReceipt -> Accepted
	PathWrap      = "/v1/operator/wrap"      // POST WrapRequest -> Job
	PathWrapped   = "/v1/operator/wrapped"   // POST JobReceipts -> Accepted
	PathShielding = "/v1/operator/shielding" // POST ShieldingRequest -> Shielding
	PathHints     = "/v1/operator/hints"     // POST -> Hints: users worth a look
	PathHealth    = "/healthz"
	PathReady     = "/readyz"
)

// PathRelay is the operator's relay: POST Relay -> Relayed.
const PathRelay = "/v1/relay"

// ProofHeader carries a request's proof that the caller holds the session's key:
// base64url of time 8, nonce 16, Ed25519 signature 64 over domain tag "request",
// SHA-256 of the token, time, nonce, SHA-256(method, 0, path, 0, body).
const ProofHeader = "AgentKeys-Proof"

// Vault describes the vault to a client.
type Vault struct {
	VaultID   string `json:"vault_id"`
	ChainID   string `json:"chain_id"`
	Custodian string `json:"custodian"` // process key, hex
	Height    uint64 `json:"height"`    // newest verified header
	Hash      string `json:"hash"`      // its hash, hex
	Protected string `json:"protected"` // one sentence: what this deployment does not protect from
}

// Challenge is a nonce for one login or one presence signature, valid 5 minutes.
type Challenge struct {
	Nonce []byte `json:"nonce"` // 32
}

// Login asks for a session. The wallet Agent signs eip712.Login over these
// fields; ClientKey there is SHA-256(SessionKey, SealKey).
type Login struct {
	User       string `json:"user"`
	Agent      string `json:"agent"`
	Nonce      []byte `json:"nonce"`
	IssuedAt   uint64 `json:"issued_at"`
	SessionKey []byte `json:"session_key"` // Ed25519 public key, 32
	SealKey    []byte `json:"seal_key"`    // X25519 public key, 32
	TTL        uint64 `json:"ttl"`         // seconds, 0 = one hour
	Signature  []byte `json:"signature"`   // 65
}

// Session is the answer to a login: the token, sealed to SealKey by HPKE
// (RFC 9180, DHKEM X25519, HKDF-SHA256, AES-256-GCM; info = domain tag "session").
type Session struct {
	Encapsulated []byte `json:"encapsulated"` // 32
	Sealed       []byte `json:"sealed"`
	Expires      uint64 `json:"expires"`
}

// WhoAmI says what the session is.
type WhoAmI struct {
	User    string `json:"user"`
	Agent   string `json:"agent"`
	Role    string `json:"role"` // owner, agent, proxy
	Counter uint64 `json:"counter"`
	Expires uint64 `json:"expires"`
	Session string `json:"session"` // its id, 32 hex
}

// TagKey is the user's viewing key: names and labels, nothing else.
type TagKey struct {
	Key []byte `json:"key"` // 32
}

// Presence is the owner's fresh consent, signed by the user's wallet.
type Presence struct {
	Nonce     []byte `json:"nonce"`     // 32, from a challenge
	Signature []byte `json:"signature"` // 65, eip712.Presence
}

// Read asks for a value. The owner names the slot by Agent (empty = shared) and
// brings Presence over action "reveal"; an agent reads its own slot or the shared
// one, as its grant says.
type Read struct {
	Service  string    `json:"service"`
	Agent    string    `json:"agent,omitempty"`
	Presence *Presence `json:"presence,omitempty"`
}

// Value is a credential in the open. It exists only inside attested TLS.
type Value struct {
	Credential []byte `json:"credential"` // package credential
	Version    uint64 `json:"version"`
	Epoch      uint32 `json:"epoch"`
	Receipt    []byte `json:"receipt"` // record.ReadReceipt
}

// Write stores a credential. Previous is the version it replaces, 0 for a slot
// that holds none; overwriting needs Presence over action "overwrite" and the
// version replaced. A retry after "unknown" repeats BlobID.
type Write struct {
	Service    string    `json:"service"`
	Agent      string    `json:"agent,omitempty"` // slot of this agent, empty = shared
	Credential []byte    `json:"credential"`
	Idle       uint8     `json:"idle"` // statement.IdleRule; 0 = as it was, or the vault's default
	Previous   uint64    `json:"previous"`
	BlobID     []byte    `json:"blob_id,omitempty"` // 16
	Presence   *Presence `json:"presence,omitempty"`
}

// Written acknowledges a write: the pointer is in a verified block.
type Written struct {
	Version uint64 `json:"version"`
	Epoch   uint32 `json:"epoch"`
	BlobID  []byte `json:"blob_id"`
	Height  uint64 `json:"height"`
}

// Listing is what a session may see, proven complete for an owner.
type Listing struct {
	Credentials []Item  `json:"credentials"`
	Grants      []Grant `json:"grants"`
	Agents      []Agent `json:"agents"`
	Epochs      []Epoch `json:"epochs"`
	Complete    bool    `json:"complete"` // pointers equal the proven live counts
	Floor       uint64  `json:"floor"`
	Due         uint32  `json:"due"`
	Height      uint64  `json:"height"`
	Time        uint64  `json:"time"` // of the header that proves it
}

// Item is one credential, without its value.
type Item struct {
	Service   string `json:"service"`
	ServiceID string `json:"service_id"`
	Agent     string `json:"agent"` // slot owner
	Version   uint64 `json:"version"`
	Epoch     uint32 `json:"epoch"`
	Idle      uint8  `json:"idle"`
	Expires   uint64 `json:"expires,omitempty"` // when it is dropped unless it is read before; 0 = not on its way out
	Missing   uint64 `json:"missing_since"`
	Hash      string `json:"hash"`
	LastRead  uint64 `json:"last_read"` // 0 = never, as far as this custodian knows
}

// Grant is one grant row.
type Grant struct {
	Agent     string `json:"agent"`
	Service   string `json:"service"`
	ServiceID string `json:"service_id"`
	Counter   uint64 `json:"counter"`
	Version   uint64 `json:"version"`
	Mode      string `json:"mode"` // none, use, reveal
	Slot      string `json:"slot"` // own, shared
	Expires   uint64 `json:"expires"`
	Live      bool   `json:"live"` // counter and expiry hold
}

// Agent is one agent row.
type Agent struct {
	Agent   string `json:"agent"`
	Role    string `json:"role"`
	Counter uint64 `json:"counter"`
	Expires uint64 `json:"expires"`
}

// Epoch is one live epoch.
type Epoch struct {
	Epoch  uint32 `json:"epoch"`
	State  string `json:"state"` // active, draining
	Opened uint64 `json:"opened"`
	Live   uint32 `json:"live"`
	Eager  bool   `json:"eager"`
}

// Statement carries a user's signed statement.
type Statement struct {
	Wire []byte `json:"wire"`
}

// Accepted says what became of a statement, after the verified block.
type Accepted struct {
	Code   uint32 `json:"code"`
	Name   string `json:"name"`
	Reason string `json:"reason,omitempty"`
	Height uint64 `json:"height"`
}

// ReadsRequest asks for read records of this user from a sequence on.
type ReadsRequest struct {
	From  uint64 `json:"from"`
	Limit int    `json:"limit"`
}

// Reads are read records of one user, oldest first.
type Reads struct {
	Records [][]byte `json:"records"` // record.Record
	Next    uint64   `json:"next"`    // 0 = no more
}

// Evidence of the custodian.
type Evidence struct {
	Platform uint8  `json:"platform"`
	Evidence []byte `json:"evidence"`
}

// Checkpoint is a verified header to trust from.
type Checkpoint struct {
	ChainID string `json:"chain_id"`
	Height  uint64 `json:"height"`
	Hash    string `json:"hash"`
}

// RotatorHello is what a rotator says of itself at start.
type RotatorHello struct {
	Key      []byte `json:"key"`   // Ed25519
	Noise    []byte `json:"noise"` // X25519
	MLKEM    []byte `json:"mlkem"` // ML-KEM-768 encapsulation key, 1184
	Platform uint8  `json:"platform"`
	Evidence []byte `json:"evidence"`
}

// JobRequest asks what is next for a user. Missing names objects that the courier
// could not get or that have other bytes; the custodian looks for itself.
type JobRequest struct {
	User    string   `json:"user"`
	Rotator string   `json:"rotator"` // process key, hex
	Missing []string `json:"missing,omitempty"`
	Height  uint64   `json:"height,omitempty"` // decide on state no older than this block's
}

// MaxWrapUsers is the most users of one WrapRequest.
const MaxWrapUsers = 256

// WrapRequest asks for one job with the data keys of these users that are under an older
// shielding key; JobNone where there is none.
type WrapRequest struct {
	Users   []string `json:"users"`
	Rotator string   `json:"rotator"`          // process key, hex
	Height  uint64   `json:"height,omitempty"` // as in JobRequest
}

// Job kinds.
const (
	JobNone = "none" // nothing due
	JobWait = "wait" // something is under way; ask again after Wait
	JobMake = "make"
	JobMove = "move" // re-seal draining credentials
	JobWrap = "wrap" // data keys under a new shielding key; its receipts go to PathWrapped
)

// Job opens a sealed channel to the rotator.
type Job struct {
	Kind      string `json:"kind"`
	ID        string `json:"id,omitempty"`        // job id, hex
	Handshake []byte `json:"handshake,omitempty"` // first message, to the rotator
	WaitMS    int    `json:"wait_ms,omitempty"`
	Detail    string `json:"detail,omitempty"`
}

// Handshake brings the rotator's answer.
type Handshake struct {
	ID      string `json:"id"`
	Message []byte `json:"message"`
}

// JobFrames is the job itself, sealed to the rotator, and what the courier needs
// to carry envelopes.
type JobFrames struct {
	Frames  []byte   `json:"frames"`
	Entries []Move   `json:"entries,omitempty"`
	Store   *Courier `json:"store,omitempty"`
}

// Move is one envelope to carry: from the old object, whose bytes have this
// SHA-256, to the new one.
type Move struct {
	From string `json:"from"`
	Hash string `json:"hash"`
	To   string `json:"to"`
}

// Courier is a store session of one user: GET and PUT, nothing else.
type Courier struct {
	Endpoint     string `json:"endpoint"`
	Bucket       string `json:"bucket"`
	Region       string `json:"region"`
	AccessKey    string `json:"access_key"`
	SecretKey    string `json:"secret_key"`
	SessionToken string `json:"session_token"`
	Expires      int64  `json:"expires"`
}

// JobReceipt brings a rotator's receipt.
type JobReceipt struct {
	ID        string `json:"id"`
	Kind      uint8  `json:"kind"` // receipt.KindMade, KindRotated, KindRewrapped
	Body      []byte `json:"body"`
	Signature []byte `json:"signature"` // receipt.Signature, 96
}

// JobReceipts brings all receipts of a wrap job, in the order the rotator gave them.
type JobReceipts struct {
	Receipts []JobReceipt `json:"receipts"`
}

// Hints are users whose rows are worth a look. They authorise nothing.
type Hints struct {
	Users   []string `json:"users"`
	Version uint32   `json:"version"` // wrap version in use; epochs below it are to be wrapped anew
}

// ShieldingRequest asks how many epochs are under the newest shielding key, and with
// Begin for the next key once all are.
type ShieldingRequest struct {
	Begin bool `json:"begin,omitempty"`
}

// Shielding is the wrap version in use, how many epochs are live, and how many of them
// are under an older key.
type Shielding struct {
	Version       uint32  `json:"version"`
	Live          int     `json:"live"`
	Behind        int     `json:"behind"`
	CryptoSeconds float64 `json:"crypto_seconds"` // CPU that jobs' cryptography took this process so far
}

// Relay queues signed statements for the chain.
type Relay struct {
	Wires [][]byte `json:"wires"`
}

// Relayed says what the block said of each. It is a hint: rows are read with
// proofs.
type Relayed struct {
	Height  uint64     `json:"height"`
	Results []Accepted `json:"results"`
}

// Error is what every refusal looks like. Code is the contract; Next says what to
// do; Retry whether trying again may help.
type Error struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
	Retry   bool   `json:"retry"`
	BlobID  []byte `json:"blob_id,omitempty"` // of a write whose outcome is unknown: repeat it with this
}

func (e *Error) Error() string {
	s := e.Code + ": " + e.Message
	if e.Next != "" {
		s += ". " + e.Next
	}
	return s
}

// Passing says that an error is of the vault's state at the moment, and may be gone when
// the same is asked again.
func Passing(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Retry
}

// CodeOf gives the code of an [Error], or "".
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Decode reads one JSON value of at most limit bytes and refuses unknown fields
// and trailing data.
func Decode(r io.Reader, limit int64, v any) error {
	d := json.NewDecoder(io.LimitReader(r, limit))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.New("request: not the JSON that this path takes, or too large")
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("request: trailing data")
	}
	return nil
}

// Reply writes v as JSON.
func Reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v)
}

// Fail writes an error: an [Error] as it is, anything else as "internal" without
// its text, which belongs in the log.
func Fail(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Status: http.StatusInternalServerError, Code: "internal",
			Message: "the server failed; its log says why", Retry: true}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e)
}
