package rules

import (
	"encoding/binary"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// The rows of one user. Those of the whole vault are in system.go, [Touched] in
// touched.go.

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

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}
