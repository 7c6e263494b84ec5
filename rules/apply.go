// Package rules is the vault's state machine: the rows, their keys and bytes, and
// what each statement does to them (docs/spec/rules.md). The chain runs it in
// consensus, the auditor replays it, tests run it on a map: one truth. It never
// iterates, reads no clock and depends on no map order. Start at [Apply].
package rules

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
)

// KV is the store the rules run on. Get returns nil, nil for an absent key.
type KV interface {
	Get(key []byte) ([]byte, error)
	Set(key, value []byte) error
	Delete(key []byte) error
}

// Block is where a statement lands. Position counts the statements and acts
// accepted in this block before it, from 0.
type Block struct {
	Height, Time uint64
	Position     uint32
}

// Result is what became of a statement. Unless Code is [OK], the caller must
// discard every write.
type Result struct {
	Code    Code
	Reason  string             // for people; the code is the contract
	Users   []agentkeys.Wallet // whose rows changed
	Scope   uint8              // TouchedUsers, TouchedAll or TouchedSystem
	Events  []Event
	Skipped []uint16 // rows of a RotateBlobs that did not match
}

// Event is for explorers; nothing depends on it.
type Event struct {
	Name       string
	Attributes [][2]string
}

// tx is one statement being applied.
type tx struct {
	kv     KV
	b      Block
	vault  agentkeys.VaultID
	params statement.Params
	system System
	res    Result
}

// refusal carries a code out of a handler; other errors are the store's.
type refusal struct {
	code   Code
	reason string
}

func (r refusal) Error() string { return r.code.String() + ": " + r.reason }

func refuse(c Code, format string, args ...any) error {
	return refusal{c, fmt.Sprintf(format, args...)}
}

// Apply applies one signed statement. The error is the store's alone; a refused
// statement is a Result.
func Apply(kv KV, b Block, wire []byte) (Result, error) {
	s, err := statement.Parse(wire)
	if err != nil {
		return Result{Code: BadLayout, Reason: "statement: wrong layout; send the bytes as they were signed"}, nil
	}
	return run(kv, b, func(t *tx) error {
		if err := t.verify(s); err != nil {
			return err
		}
		user, err := t.apply(s)
		if err != nil {
			return err
		}
		return t.log(user, wire)
	})
}

// ApplyAuthority applies one act. That the authority sent it is checked by the
// caller.
func ApplyAuthority(kv KV, b Block, act []byte) (Result, error) {
	body, err := statement.ParseAct(act)
	if err != nil {
		return Result{Code: BadLayout, Reason: "act: wrong layout"}, nil
	}
	return run(kv, b, func(t *tx) error {
		t.res.Scope = TouchedAll
		if err := t.authority(body); err != nil {
			return err
		}
		return t.logSystem(act)
	})
}

func run(kv KV, b Block, f func(*tx) error) (Result, error) {
	t := &tx{kv: kv, b: b}
	err := t.load()
	if err == nil {
		err = f(t)
	}
	if r, ok := err.(refusal); ok {
		return Result{Code: r.code, Reason: r.reason}, nil
	}
	if err != nil {
		return Result{}, err
	}
	return t.res, nil
}

func (t *tx) load() error {
	v, err := t.kv.Get(VaultKey())
	if err != nil {
		return err
	}
	if len(v) != len(t.vault) {
		return fmt.Errorf("rules: no vault id in the store")
	}
	copy(t.vault[:], v)
	p, _, err := get(t.kv, ParamsKey(), ParseParams)
	if err != nil {
		return err
	}
	t.params = p.At(t.b.Height)
	t.system, _, err = get(t.kv, SystemKey(), ParseSystem)
	return err
}

// verify checks who signed. It comes before any look at the rows that the
// statement names.
func (t *tx) verify(s statement.Signed) error {
	if s.Body.Kind().ByUser() {
		d, err := eip712.Digest(t.vault, s.Body)
		if err != nil || eip712.Verify(d, s.User, statement.UserOf(s.Body)) != nil {
			return refuse(BadSignature, "signature: not by the user of this vault's statement")
		}
		return nil
	}
	if !s.VerifyProcess(t.vault) {
		return refuse(BadSignature, "signature: not by the process or rotator it names")
	}
	if err := t.enclave(statement.EnclaveCustodian, s.Process.Key); err != nil {
		return err
	}
	if s.Body.Kind().HasReceipt() {
		return t.enclave(statement.EnclaveRotator, s.Receipt.Key)
	}
	return nil
}

// enclave refuses processes that are not registered, not yet active, expired or
// revoked.
func (t *tx) enclave(role statement.EnclaveRole, key agentkeys.ProcessKey) error {
	e, ok, err := get(t.kv, EnclaveKey(role, key), ParseEnclave)
	switch {
	case err != nil:
		return err
	case !ok:
		return refuse(NotRegistered, "process %s is not registered for this role", key)
	case e.Revoked:
		return refuse(NotRegistered, "process %s is revoked", key)
	case t.b.Time < e.Activation:
		return refuse(NotRegistered, "process %s is active from %d on", key, e.Activation)
	case e.Expiry != 0 && t.b.Time >= e.Expiry:
		return refuse(NotRegistered, "process %s expired", key)
	}
	return nil
}

// apply runs the handler and returns the user whose log takes the statement, nil
// for the system's.
func (t *tx) apply(s statement.Signed) (*agentkeys.Wallet, error) {
	switch b := s.Body.(type) {
	case statement.Enrol:
		return &b.User, t.enrol(b)
	case statement.AdmitAgent:
		return &b.User, t.admit(b)
	case statement.RevokeAgent:
		return &b.User, t.revoke(b)
	case statement.Grant:
		return &b.User, t.grant(b)
	case statement.Delete:
		return &b.User, t.delete(b)
	case statement.AskRotation:
		return &b.User, t.askRotation(b)
	case statement.RegisterBlob:
		return &b.User, t.registerBlob(b)
	case statement.Drop:
		return &b.User, t.drop(b)
	case statement.ReportLost:
		return &b.User, t.reportLost(b)
	case statement.OpenEpoch:
		return &b.Receipt.User, t.openEpoch(b)
	case statement.RotateBlobs:
		return &b.Receipt.User, t.rotateBlobs(b)
	case statement.RewrapDEK:
		return &b.Receipt.User, t.rewrapDEK(b)
	case statement.DestroyEpoch:
		return &b.User, t.destroyEpoch(b, s.Process.Key)
	case statement.CommitTree:
		return nil, t.commitTree(b, s.Process.Key)
	case statement.TakeKeeper:
		return nil, t.takeKeeper(b, s.Process.Key)
	case statement.RecordReads:
		return nil, t.recordReads(b, s.Process.Key)
	case statement.Heartbeat:
		return nil, t.heartbeat(b, s.Process.Key)
	case statement.Vouch:
		return nil, t.vouch(b)
	}
	return nil, refuse(BadLayout, "statement: unknown kind")
}

// log chains an accepted statement to its user's log, or to the system's.
func (t *tx) log(user *agentkeys.Wallet, wire []byte) error {
	if user == nil {
		return t.logSystem(wire)
	}
	u, ok, err := get(t.kv, UserKey(*user), ParseUser)
	if err != nil || !ok {
		return fmt.Errorf("rules: user row vanished: %v", err)
	}
	u.Rev, u.Log = u.Rev+1, NextLog(u.Log, t.b, statement.Hash(wire))
	t.res.Users = append(t.res.Users, *user)
	return t.kv.Set(UserKey(*user), u.Append(nil))
}

func (t *tx) logSystem(wire []byte) error {
	t.system.Rev, t.system.Log = t.system.Rev+1, NextLog(t.system.Log, t.b, statement.Hash(wire))
	if t.res.Scope == TouchedUsers {
		t.res.Scope = TouchedSystem
	}
	return t.kv.Set(SystemKey(), t.system.Append(nil))
}

// NextLog is SHA-256(log 32, height 8, block time 8, position 4, statement hash 32).
func NextLog(log agentkeys.Hash, b Block, statementHash agentkeys.Hash) agentkeys.Hash {
	m := binary.BigEndian.AppendUint64(append([]byte(nil), log[:]...), b.Height)
	m = binary.BigEndian.AppendUint64(m, b.Time)
	m = binary.BigEndian.AppendUint32(m, b.Position)
	return sha256.Sum256(append(m, statementHash[:]...))
}

// Signatures counts the signature checks a statement costs, so that gas can be
// charged before they are made.
func Signatures(wire []byte) (secp256k1, ed25519 int) {
	if len(wire) == 0 {
		return 0, 0
	}
	switch k := statement.Kind(wire[0]); {
	case k.ByUser():
		return 1, 0
	case k.HasReceipt():
		return 0, 2
	case k.ByProcess():
		return 0, 1
	}
	return 0, 0
}

// get reads and parses a row. A row that does not parse is a broken store.
func get[T any](kv KV, key []byte, parse func([]byte) (T, error)) (row T, ok bool, err error) {
	b, err := kv.Get(key)
	if err != nil || b == nil {
		return row, false, err
	}
	row, err = parse(b)
	if err != nil {
		return row, false, fmt.Errorf("rules: broken row %x", key)
	}
	return row, true, nil
}

func (t *tx) event(name string, attrs ...[2]string) {
	t.res.Events = append(t.res.Events, Event{name, attrs})
}

func number(name string, n uint64) [2]string { return [2]string{name, strconv.FormatUint(n, 10)} }

// validUntil refuses statements that came too late, or that would stay valid for
// longer than the params allow.
func (t *tx) validUntil(v uint64) error {
	if t.b.Time > v {
		return refuse(Expired, "valid until %d, block time is %d; sign it again", v, t.b.Time)
	}
	if v-t.b.Time > t.params.MaxValidity {
		return refuse(Expired, "valid until lies more than %d s ahead", t.params.MaxValidity)
	}
	return nil
}
