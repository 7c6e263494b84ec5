package rules

import (
	"encoding/binary"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// EpochRow is one of the two epoch places of a user. 114 bytes; epoch 0 = empty.
type EpochRow struct {
	Epoch     agentkeys.Epoch
	Opened    uint64 // block time, seconds
	LiveCount uint32 // pointers that name this epoch
	DEKID     agentkeys.DEKID
	Wrapped   agentkeys.WrappedDEK
	Eager     bool  // draining: re-seal everything now
	Erased    uint8 // draining: bit i = anchor i erased the share
}

// User is the row of a user.
type User struct {
	Rev      uint64 // accepted statements
	Log      agentkeys.Hash
	Floor    uint64 // highest version ever deleted
	Due      agentkeys.Epoch
	Active   EpochRow
	Draining EpochRow
}

// Pointer is the row of a slot that holds a credential.
type Pointer struct {
	Version      uint64
	Epoch        agentkeys.Epoch
	Blob         agentkeys.BlobID
	Hash         agentkeys.Hash
	Height       uint64 // of the last change
	Idle         statement.IdleRule
	MissingSince uint64 // block time, 0 = not missing
	SealedName   agentkeys.SealedName
}

// Agent is the row of an agent at a user. It stays for good.
type Agent struct {
	Role    statement.Role
	Counter uint64
	Expires uint64 // block time; 0 = not admitted
}

// NeverExpires is the Expires of a user at itself.
const NeverExpires = ^uint64(0)

// Grant is the row of a grant. It stays for good.
type Grant struct {
	Counter    uint64
	Version    uint64
	Mode       statement.Mode
	Slot       statement.SlotKind
	Expires    uint64
	SealedName agentkeys.SealedName
}

// Enclave is the row of a registered process.
type Enclave struct {
	Platform    uint8
	Measurement [48]byte
	Evidence    agentkeys.Hash
	Noise       [32]byte
	MLKEMHash   agentkeys.Hash
	Activation  uint64
	Expiry      uint64 // 0 = none
	Revoked     bool
}

// Reads is the row of a custodian's audit trail and heartbeat.
type Reads struct {
	Next       uint64 // sequence of the next record, from 1
	Head       agentkeys.Hash
	Beat       uint64
	Nonce      [16]byte
	SeenHeight uint64
	Boots      uint64
}

// AnchorState of an anchor.
type AnchorState uint8

// Anchor states.
const (
	AnchorJoining AnchorState = 1
	AnchorLive    AnchorState = 2
	AnchorRetired AnchorState = 3
	AnchorEvicted AnchorState = 4
)

// Anchor is the row of an anchor.
type Anchor struct {
	Type       uint8
	Keeper     agentkeys.ProcessKey
	Term       uint64
	LeaseUntil uint64
	State      AnchorState
	Generation uint64
	IndexHash  agentkeys.Hash
}

// MaxAnchors is the number of anchors a vault may ever have had.
const MaxAnchors = 8

// Anchors lists the anchors in the order they were added; the position is the bit
// in [EpochRow].Erased.
type Anchors []statement.AnchorID

// Measurement is the row of an allowed measurement.
type Measurement struct{ Activation uint64 }

// ParamsRow holds the params and at most one pending change.
type ParamsRow struct {
	Current    statement.Params
	Pending    statement.Params
	Activation uint64 // height; 0 = nothing pending
}

// System is the row of the whole vault.
type System struct {
	Rev          uint64
	Log          agentkeys.Hash
	Users        uint64
	LiveEpochs   uint64
	RotateBefore uint64 // block time: epochs opened earlier are due
}

// How far a [Touched] row reaches.
const (
	TouchedUsers  = 0 // only the users listed
	TouchedAll    = 1 // everything
	TouchedSystem = 2 // the users listed, and rows without a user
)

// Touched says what a block changed.
type Touched struct {
	Height   uint64
	Previous uint64 // height of the Touched row before, 0 = none
	Scope    uint8
	Users    []agentkeys.Wallet
}

func (e EpochRow) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(e.Epoch))
	b = binary.BigEndian.AppendUint64(b, e.Opened)
	b = binary.BigEndian.AppendUint32(b, e.LiveCount)
	b = append(append(b, e.DEKID[:]...), e.Wrapped[:]...)
	return append(b, boolByte(e.Eager), e.Erased)
}

func readEpochRow(r *agentkeys.Reader) (e EpochRow) {
	e.Epoch = agentkeys.Epoch(r.U32())
	e.Opened, e.LiveCount = r.U64(), r.U32()
	r.Copy(e.DEKID[:])
	r.Copy(e.Wrapped[:])
	e.Eager, e.Erased = r.Bool(), r.U8()
	return e
}

// Append adds rev 8, log 32, floor 8, due 4, active, draining.
func (u User) Append(b []byte) []byte {
	b = append(binary.BigEndian.AppendUint64(b, u.Rev), u.Log[:]...)
	b = binary.BigEndian.AppendUint64(b, u.Floor)
	b = binary.BigEndian.AppendUint32(b, uint32(u.Due))
	return u.Draining.append(u.Active.append(b))
}

// ParseUser reads what Append wrote.
func ParseUser(b []byte) (u User, err error) {
	r := agentkeys.NewReader(b)
	u.Rev = r.U64()
	r.Copy(u.Log[:])
	u.Floor, u.Due = r.U64(), agentkeys.Epoch(r.U32())
	u.Active, u.Draining = readEpochRow(r), readEpochRow(r)
	return u, r.Close()
}

// Append adds version 8, epoch 4, blob 16, hash 32, height 8, idle 1, missing 8,
// sealed name 92.
func (p Pointer) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.Version)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Epoch))
	b = append(append(b, p.Blob[:]...), p.Hash[:]...)
	b = append(binary.BigEndian.AppendUint64(b, p.Height), byte(p.Idle))
	return append(binary.BigEndian.AppendUint64(b, p.MissingSince), p.SealedName[:]...)
}

// ParsePointer reads what Append wrote.
func ParsePointer(b []byte) (p Pointer, err error) {
	r := agentkeys.NewReader(b)
	p.Version, p.Epoch = r.U64(), agentkeys.Epoch(r.U32())
	r.Copy(p.Blob[:])
	r.Copy(p.Hash[:])
	p.Height, p.Idle, p.MissingSince = r.U64(), statement.IdleRule(r.U8()), r.U64()
	r.Copy(p.SealedName[:])
	if p.Version == 0 || p.Epoch == 0 || p.Idle != statement.IdleCarry && p.Idle != statement.IdleExpire {
		r.Fail()
	}
	return p, r.Close()
}

// Append adds role 1, counter 8, expires 8.
func (a Agent) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, byte(a.Role)), a.Counter)
	return binary.BigEndian.AppendUint64(b, a.Expires)
}

// ParseAgent reads what Append wrote.
func ParseAgent(b []byte) (a Agent, err error) {
	r := agentkeys.NewReader(b)
	a = Agent{statement.Role(r.U8()), r.U64(), r.U64()}
	if a.Role != statement.RoleAgent && a.Role != statement.RoleProxy || a.Counter == 0 {
		r.Fail()
	}
	return a, r.Close()
}

// Append adds counter 8, version 8, mode 1, slot 1, expires 8, sealed name 92.
func (g Grant) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, g.Counter)
	b = append(binary.BigEndian.AppendUint64(b, g.Version), byte(g.Mode), byte(g.Slot))
	return append(binary.BigEndian.AppendUint64(b, g.Expires), g.SealedName[:]...)
}

// ParseGrant reads what Append wrote.
func ParseGrant(b []byte) (g Grant, err error) {
	r := agentkeys.NewReader(b)
	g.Counter, g.Version = r.U64(), r.U64()
	g.Mode, g.Slot = statement.Mode(r.U8()), statement.SlotKind(r.U8())
	g.Expires = r.U64()
	r.Copy(g.SealedName[:])
	if g.Version == 0 || g.Mode > statement.ModeReveal || g.Slot != statement.SlotOwn && g.Slot != statement.SlotShared {
		r.Fail()
	}
	return g, r.Close()
}

// Append adds platform 1, measurement 48, evidence 32, Noise key 32, ML-KEM key
// hash 32, activation 8, expiry 8, revoked 1.
func (e Enclave) Append(b []byte) []byte {
	b = append(append(b, e.Platform), e.Measurement[:]...)
	b = append(append(append(b, e.Evidence[:]...), e.Noise[:]...), e.MLKEMHash[:]...)
	b = binary.BigEndian.AppendUint64(b, e.Activation)
	return append(binary.BigEndian.AppendUint64(b, e.Expiry), boolByte(e.Revoked))
}

// ParseEnclave reads what Append wrote.
func ParseEnclave(b []byte) (e Enclave, err error) {
	r := agentkeys.NewReader(b)
	e.Platform = r.U8()
	r.Copy(e.Measurement[:])
	r.Copy(e.Evidence[:])
	r.Copy(e.Noise[:])
	r.Copy(e.MLKEMHash[:])
	e.Activation, e.Expiry, e.Revoked = r.U64(), r.U64(), r.Bool()
	return e, r.Close()
}

// Append adds next 8, head 32, beat 8, nonce 16, seen height 8, boots 8.
func (c Reads) Append(b []byte) []byte {
	b = append(binary.BigEndian.AppendUint64(b, c.Next), c.Head[:]...)
	b = append(binary.BigEndian.AppendUint64(b, c.Beat), c.Nonce[:]...)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, c.SeenHeight), c.Boots)
}

// ParseReads reads what Append wrote.
func ParseReads(b []byte) (c Reads, err error) {
	r := agentkeys.NewReader(b)
	c.Next = r.U64()
	r.Copy(c.Head[:])
	c.Beat = r.U64()
	r.Copy(c.Nonce[:])
	c.SeenHeight, c.Boots = r.U64(), r.U64()
	return c, r.Close()
}

// Append adds type 1, keeper 32, term 8, lease until 8, state 1, generation 8,
// index hash 32.
func (a Anchor) Append(b []byte) []byte {
	b = append(append(b, a.Type), a.Keeper[:]...)
	b = binary.BigEndian.AppendUint64(b, a.Term)
	b = append(binary.BigEndian.AppendUint64(b, a.LeaseUntil), byte(a.State))
	return append(binary.BigEndian.AppendUint64(b, a.Generation), a.IndexHash[:]...)
}

// ParseAnchor reads what Append wrote.
func ParseAnchor(b []byte) (a Anchor, err error) {
	r := agentkeys.NewReader(b)
	a.Type = r.U8()
	r.Copy(a.Keeper[:])
	a.Term, a.LeaseUntil, a.State, a.Generation = r.U64(), r.U64(), AnchorState(r.U8()), r.U64()
	r.Copy(a.IndexHash[:])
	if a.State < AnchorJoining || a.State > AnchorEvicted {
		r.Fail()
	}
	return a, r.Close()
}

// Append adds the ids, 16 bytes each.
func (a Anchors) Append(b []byte) []byte {
	for _, id := range a {
		b = append(b, id[:]...)
	}
	return b
}

// ParseAnchors reads what Append wrote.
func ParseAnchors(b []byte) (Anchors, error) {
	if len(b)%16 != 0 || len(b) > 16*MaxAnchors {
		return nil, agentkeys.ErrLayout
	}
	var a Anchors
	for ; len(b) > 0; b = b[16:] {
		a = append(a, statement.AnchorID(b[:16]))
	}
	return a, nil
}

// Append adds activation 8.
func (m Measurement) Append(b []byte) []byte { return binary.BigEndian.AppendUint64(b, m.Activation) }

// ParseMeasurement reads what Append wrote.
func ParseMeasurement(b []byte) (m Measurement, err error) {
	r := agentkeys.NewReader(b)
	m.Activation = r.U64()
	return m, r.Close()
}

// Append adds current 48, pending 48, activation height 8.
func (p ParamsRow) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(p.Pending.Append(p.Current.Append(b)), p.Activation)
}

// ParseParams reads what Append wrote.
func ParseParams(b []byte) (p ParamsRow, err error) {
	r := agentkeys.NewReader(b)
	p = ParamsRow{statement.ReadParams(r), statement.ReadParams(r), r.U64()}
	return p, r.Close()
}

// At gives the params in force at a height.
func (p ParamsRow) At(height uint64) statement.Params {
	if p.Activation != 0 && height >= p.Activation {
		return p.Pending
	}
	return p.Current
}

// Append adds rev 8, log 32, users 8, live epochs 8, rotate before 8.
func (s System) Append(b []byte) []byte {
	b = append(binary.BigEndian.AppendUint64(b, s.Rev), s.Log[:]...)
	b = binary.BigEndian.AppendUint64(b, s.Users)
	b = binary.BigEndian.AppendUint64(b, s.LiveEpochs)
	return binary.BigEndian.AppendUint64(b, s.RotateBefore)
}

// ParseSystem reads what Append wrote.
func ParseSystem(b []byte) (s System, err error) {
	r := agentkeys.NewReader(b)
	s.Rev = r.U64()
	r.Copy(s.Log[:])
	s.Users, s.LiveEpochs, s.RotateBefore = r.U64(), r.U64(), r.U64()
	return s, r.Close()
}

// Append adds height 8, previous 8, scope 1, count 4, users of 20.
func (t Touched) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, t.Height), t.Previous)
	b = binary.BigEndian.AppendUint32(append(b, t.Scope), uint32(len(t.Users)))
	for _, u := range t.Users {
		b = append(b, u[:]...)
	}
	return b
}

// ParseTouched reads what Append wrote.
func ParseTouched(b []byte) (t Touched, err error) {
	r := agentkeys.NewReader(b)
	t.Height, t.Previous, t.Scope = r.U64(), r.U64(), r.U8()
	n := int(r.U32())
	if t.Scope > TouchedSystem || n > MaxTouched || r.Len() != 20*n {
		return t, agentkeys.ErrLayout
	}
	t.Users = make([]agentkeys.Wallet, n)
	for i := range t.Users {
		r.Copy(t.Users[i][:])
	}
	return t, r.Close()
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}
