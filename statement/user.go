package statement

import (
	"encoding/binary"

	"example.org/agentkeys"
)

// Role of an admitted agent.
type Role uint8

// Roles.
const (
	RoleAgent Role = 1
	RoleProxy Role = 2
)

// Mode says what a grant allows.
type Mode uint8

// Modes. ModeNone withdraws a grant.
const (
	ModeNone   Mode = 0
	ModeUse    Mode = 1
	ModeReveal Mode = 2
)

// SlotKind says whose slot a grant opens.
type SlotKind uint8

// Slot kinds: the agent's own, or the user's slot shared by agents with a grant.
const (
	SlotOwn    SlotKind = 1
	SlotShared SlotKind = 2
)

// Enrol makes the user known to the vault.
type Enrol struct{ User agentkeys.Wallet }

// AdmitAgent lets an agent open sessions at a user until Expires (unix seconds).
// Counter is the row's counter as it stands, 0 when there is no row.
type AdmitAgent struct {
	User, Agent agentkeys.Wallet
	Role        Role
	Counter     uint64
	Expires     uint64
}

// RevokeAgent raises the agent's counter above Counter, which kills its grants and
// sessions at this user. Agent = User kills the user's own sessions.
type RevokeAgent struct {
	User, Agent agentkeys.Wallet
	Counter     uint64
}

// Grant lets an admitted agent use a service until Expires (unix seconds).
// Previous is the grant row's version, 0 when there is none.
type Grant struct {
	User, Agent agentkeys.Wallet
	Service     agentkeys.ServiceID
	Previous    uint64
	Counter     uint64
	Mode        Mode
	Slot        SlotKind
	Expires     uint64
	SealedName  agentkeys.SealedName
}

// Delete removes a credential at exactly this version.
type Delete struct {
	User, Agent agentkeys.Wallet
	Service     agentkeys.ServiceID
	Version     uint64
}

// AskRotation makes the user's next epoch due. Due is the active epoch plus 1.
type AskRotation struct {
	User agentkeys.Wallet
	Due  agentkeys.Epoch
}

func (Enrol) Kind() Kind       { return KindEnrol }
func (AdmitAgent) Kind() Kind  { return KindAdmitAgent }
func (RevokeAgent) Kind() Kind { return KindRevokeAgent }
func (Grant) Kind() Kind       { return KindGrant }
func (Delete) Kind() Kind      { return KindDelete }
func (AskRotation) Kind() Kind { return KindAskRotation }

// Append adds user 20.
func (s Enrol) Append(b []byte) []byte { return append(b, s.User[:]...) }

// Append adds user 20, agent 20, role 1, counter 8, expires 8.
func (s AdmitAgent) Append(b []byte) []byte {
	b = append(append(b, s.User[:]...), s.Agent[:]...)
	b = append(b, byte(s.Role))
	b = binary.BigEndian.AppendUint64(b, s.Counter)
	return binary.BigEndian.AppendUint64(b, s.Expires)
}

// Append adds user 20, agent 20, counter 8.
func (s RevokeAgent) Append(b []byte) []byte {
	b = append(append(b, s.User[:]...), s.Agent[:]...)
	return binary.BigEndian.AppendUint64(b, s.Counter)
}

// Append adds user 20, agent 20, service 32, previous 8, counter 8, mode 1,
// slot 1, expires 8, sealed name 92.
func (s Grant) Append(b []byte) []byte {
	b = append(append(b, s.User[:]...), s.Agent[:]...)
	b = append(b, s.Service[:]...)
	b = binary.BigEndian.AppendUint64(b, s.Previous)
	b = binary.BigEndian.AppendUint64(b, s.Counter)
	b = append(b, byte(s.Mode), byte(s.Slot))
	b = binary.BigEndian.AppendUint64(b, s.Expires)
	return append(b, s.SealedName[:]...)
}

// Append adds user 20, agent 20, service 32, version 8.
func (s Delete) Append(b []byte) []byte {
	b = append(append(b, s.User[:]...), s.Agent[:]...)
	b = append(b, s.Service[:]...)
	return binary.BigEndian.AppendUint64(b, s.Version)
}

// Append adds user 20, due epoch 4.
func (s AskRotation) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, s.User[:]...), uint32(s.Due))
}

func readEnrol(r *agentkeys.Reader) (s Enrol) {
	r.Copy(s.User[:])
	return s
}

func readAdmitAgent(r *agentkeys.Reader) (s AdmitAgent) {
	r.Copy(s.User[:])
	r.Copy(s.Agent[:])
	s.Role = Role(r.U8())
	s.Counter = r.U64()
	s.Expires = r.U64()
	if s.Role != RoleAgent && s.Role != RoleProxy {
		r.Fail()
	}
	return s
}

func readRevokeAgent(r *agentkeys.Reader) (s RevokeAgent) {
	r.Copy(s.User[:])
	r.Copy(s.Agent[:])
	s.Counter = r.U64()
	return s
}

func readGrant(r *agentkeys.Reader) (s Grant) {
	r.Copy(s.User[:])
	r.Copy(s.Agent[:])
	r.Copy(s.Service[:])
	s.Previous = r.U64()
	s.Counter = r.U64()
	s.Mode = Mode(r.U8())
	s.Slot = SlotKind(r.U8())
	s.Expires = r.U64()
	r.Copy(s.SealedName[:])
	if s.Mode > ModeReveal || s.Slot != SlotOwn && s.Slot != SlotShared {
		r.Fail()
	}
	return s
}

func readDelete(r *agentkeys.Reader) (s Delete) {
	r.Copy(s.User[:])
	r.Copy(s.Agent[:])
	r.Copy(s.Service[:])
	s.Version = r.U64()
	return s
}

func readAskRotation(r *agentkeys.Reader) (s AskRotation) {
	r.Copy(s.User[:])
	s.Due = agentkeys.Epoch(r.U32())
	return s
}

// UserOf is the wallet that signs a user's statement; zero for any other body.
func UserOf(b Body) agentkeys.Wallet {
	switch s := b.(type) {
	case Enrol:
		return s.User
	case AdmitAgent:
		return s.User
	case RevokeAgent:
		return s.User
	case Grant:
		return s.User
	case Delete:
		return s.User
	case AskRotation:
		return s.User
	}
	return agentkeys.Wallet{}
}
