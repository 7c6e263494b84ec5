package rules

import (
	"encoding/binary"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// The rows that belong to no user.

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
