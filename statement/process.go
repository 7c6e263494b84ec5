package statement

import (
	"encoding/binary"

	"example.org/agentkeys"
	"example.org/agentkeys/receipt"
)

// IdleRule says what happens to a credential that nobody read when the drain
// window of its epoch ends.
type IdleRule uint8

// Idle rules.
const (
	IdleCarry  IdleRule = 1
	IdleExpire IdleRule = 2
)

// DropReason says why a custodian removes a row.
type DropReason uint8

// Drop reasons.
const (
	DropExpired DropReason = 1
	DropLost    DropReason = 2
)

// AnchorID names an anchor: 16 bytes.
type AnchorID [16]byte

// RegisterBlob writes a pointer into the user's active epoch, by compare-and-swap
// on (PreviousVersion, PreviousHash). Presence is the SHA-256 of the owner's
// presence signature when an existing value is overwritten, else zero.
type RegisterBlob struct {
	User, Agent     agentkeys.Wallet
	Service         agentkeys.ServiceID
	Epoch           agentkeys.Epoch
	Blob            agentkeys.BlobID
	Hash            agentkeys.Hash
	PreviousVersion uint64
	PreviousHash    agentkeys.Hash
	Idle            IdleRule
	SealedName      agentkeys.SealedName
	Presence        agentkeys.Hash
	ValidUntil      uint64
}

// Drop removes a row whose credential expired or was lost.
type Drop struct {
	User, Agent agentkeys.Wallet
	Service     agentkeys.ServiceID
	Version     uint64
	Hash        agentkeys.Hash
	Reason      DropReason
	ValidUntil  uint64
}

// ReportLost says that an object is missing (or found again): 404 or wrong bytes,
// never an outage. Height is the row's as it stands: a replayed report finds it
// changed.
type ReportLost struct {
	User, Agent agentkeys.Wallet
	Service     agentkeys.ServiceID
	Version     uint64
	Hash        agentkeys.Hash
	Height      uint64
	Missing     bool
	ValidUntil  uint64
}

// OpenEpoch carries the rotator's receipt for a new data key.
type OpenEpoch struct {
	Receipt    receipt.Made
	ValidUntil uint64
}

// RotateBlobs carries one chunk of re-sealed rows.
type RotateBlobs struct {
	Receipt    receipt.Rotated
	ValidUntil uint64
}

// RewrapDEK carries a data key under a new wrapping key.
type RewrapDEK struct {
	Receipt    receipt.Rewrapped
	ValidUntil uint64
}

// DestroyEpoch says that an anchor erased the share of a drained epoch.
type DestroyEpoch struct {
	Anchor     AnchorID
	Term       uint64
	Generation uint64
	User       agentkeys.Wallet
	Epoch      agentkeys.Epoch
	ValidUntil uint64
}

// CommitTree moves an anchor to its next generation.
type CommitTree struct {
	Anchor     AnchorID
	Term       uint64
	Previous   uint64 // generation
	IndexHash  agentkeys.Hash
	ValidUntil uint64
}

// TakeKeeper takes or renews the lease on an anchor. Term is the row's term plus 1
// to take it, or the same term to renew.
type TakeKeeper struct {
	Anchor     AnchorID
	Term       uint64
	LeaseUntil uint64
	ValidUntil uint64
}

// RecordReads commits a batch of read records.
type RecordReads struct {
	First      uint64 // sequence of the first record, from 1
	Count      uint32
	Root       agentkeys.Hash // RFC 6962 tree over the records
	Previous   agentkeys.Hash // head before this batch
	Boots      uint64
	SeenHeight uint64
	ValidUntil uint64
}

// Heartbeat asks for a block, so that the head is fresh.
type Heartbeat struct {
	Previous   uint64 // beat
	Nonce      [16]byte
	SeenHeight uint64
	ValidUntil uint64
}

// Vouch registers a rotator whose evidence the custodian checked.
type Vouch struct {
	Rotator     agentkeys.ProcessKey
	Noise       [32]byte
	MLKEMHash   agentkeys.Hash
	Platform    uint8
	Measurement [48]byte
	Evidence    agentkeys.Hash
	Expiry      uint64
	ValidUntil  uint64
}

func (RegisterBlob) Kind() Kind { return KindRegisterBlob }
func (Drop) Kind() Kind         { return KindDrop }
func (ReportLost) Kind() Kind   { return KindReportLost }
func (OpenEpoch) Kind() Kind    { return KindOpenEpoch }
func (RotateBlobs) Kind() Kind  { return KindRotateBlobs }
func (RewrapDEK) Kind() Kind    { return KindRewrapDEK }
func (DestroyEpoch) Kind() Kind { return KindDestroyEpoch }
func (CommitTree) Kind() Kind   { return KindCommitTree }
func (TakeKeeper) Kind() Kind   { return KindTakeKeeper }
func (RecordReads) Kind() Kind  { return KindRecordReads }
func (Heartbeat) Kind() Kind    { return KindHeartbeat }
func (Vouch) Kind() Kind        { return KindVouch }

// Append adds user 20, agent 20, service 32, epoch 4, blob 16, hash 32, previous
// version 8, previous hash 32, idle 1, sealed name 92, presence 32, valid until 8.
func (s RegisterBlob) Append(b []byte) []byte {
	b = append(append(b, s.User[:]...), s.Agent[:]...)
	b = append(b, s.Service[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(s.Epoch))
	b = append(append(b, s.Blob[:]...), s.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, s.PreviousVersion)
	b = append(append(b, s.PreviousHash[:]...), byte(s.Idle))
	b = append(append(b, s.SealedName[:]...), s.Presence[:]...)
	return binary.BigEndian.AppendUint64(b, s.ValidUntil)
}

// Append adds user 20, agent 20, service 32, version 8, hash 32, reason 1, valid
// until 8.
func (s Drop) Append(b []byte) []byte {
	b = appendRow(b, s.User, s.Agent, s.Service, s.Version, s.Hash)
	return binary.BigEndian.AppendUint64(append(b, byte(s.Reason)), s.ValidUntil)
}

// Append adds user 20, agent 20, service 32, version 8, hash 32, height 8,
// missing 1, valid until 8.
func (s ReportLost) Append(b []byte) []byte {
	b = appendRow(b, s.User, s.Agent, s.Service, s.Version, s.Hash)
	b = binary.BigEndian.AppendUint64(b, s.Height)
	return binary.BigEndian.AppendUint64(appendBool(b, s.Missing), s.ValidUntil)
}

// Append adds the receipt and valid until 8.
func (s OpenEpoch) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(s.Receipt.Append(b), s.ValidUntil)
}

// Append adds the receipt and valid until 8.
func (s RotateBlobs) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(s.Receipt.Append(b), s.ValidUntil)
}

// Append adds the receipt and valid until 8.
func (s RewrapDEK) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(s.Receipt.Append(b), s.ValidUntil)
}

// Append adds anchor 16, term 8, generation 8, user 20, epoch 4, valid until 8.
func (s DestroyEpoch) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, s.Anchor[:]...), s.Term)
	b = binary.BigEndian.AppendUint64(b, s.Generation)
	b = binary.BigEndian.AppendUint32(append(b, s.User[:]...), uint32(s.Epoch))
	return binary.BigEndian.AppendUint64(b, s.ValidUntil)
}

// Append adds anchor 16, term 8, previous generation 8, index hash 32, valid
// until 8.
func (s CommitTree) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, s.Anchor[:]...), s.Term)
	b = binary.BigEndian.AppendUint64(b, s.Previous)
	return binary.BigEndian.AppendUint64(append(b, s.IndexHash[:]...), s.ValidUntil)
}

// Append adds anchor 16, term 8, lease until 8, valid until 8.
func (s TakeKeeper) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, s.Anchor[:]...), s.Term)
	b = binary.BigEndian.AppendUint64(b, s.LeaseUntil)
	return binary.BigEndian.AppendUint64(b, s.ValidUntil)
}

// Append adds first 8, count 4, root 32, previous head 32, boots 8, seen height 8,
// valid until 8.
func (s RecordReads) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.First)
	b = binary.BigEndian.AppendUint32(b, s.Count)
	b = append(append(b, s.Root[:]...), s.Previous[:]...)
	b = binary.BigEndian.AppendUint64(b, s.Boots)
	b = binary.BigEndian.AppendUint64(b, s.SeenHeight)
	return binary.BigEndian.AppendUint64(b, s.ValidUntil)
}

// Append adds previous beat 8, nonce 16, seen height 8, valid until 8.
func (s Heartbeat) Append(b []byte) []byte {
	b = append(binary.BigEndian.AppendUint64(b, s.Previous), s.Nonce[:]...)
	b = binary.BigEndian.AppendUint64(b, s.SeenHeight)
	return binary.BigEndian.AppendUint64(b, s.ValidUntil)
}

// Append adds rotator key 32, Noise key 32, ML-KEM key hash 32, platform 1,
// measurement 48, evidence hash 32, expiry 8, valid until 8.
func (s Vouch) Append(b []byte) []byte {
	b = append(append(b, s.Rotator[:]...), s.Noise[:]...)
	b = append(append(b, s.MLKEMHash[:]...), s.Platform)
	b = append(append(b, s.Measurement[:]...), s.Evidence[:]...)
	b = binary.BigEndian.AppendUint64(b, s.Expiry)
	return binary.BigEndian.AppendUint64(b, s.ValidUntil)
}

func appendRow(b []byte, user, agent agentkeys.Wallet, svc agentkeys.ServiceID, version uint64, hash agentkeys.Hash) []byte {
	b = append(append(b, user[:]...), agent[:]...)
	b = binary.BigEndian.AppendUint64(append(b, svc[:]...), version)
	return append(b, hash[:]...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func readRegisterBlob(r *agentkeys.Reader) (s RegisterBlob) {
	r.Copy(s.User[:])
	r.Copy(s.Agent[:])
	r.Copy(s.Service[:])
	s.Epoch = agentkeys.Epoch(r.U32())
	r.Copy(s.Blob[:])
	r.Copy(s.Hash[:])
	s.PreviousVersion = r.U64()
	r.Copy(s.PreviousHash[:])
	s.Idle = IdleRule(r.U8())
	r.Copy(s.SealedName[:])
	r.Copy(s.Presence[:])
	s.ValidUntil = r.U64()
	if s.Idle != IdleCarry && s.Idle != IdleExpire {
		r.Fail()
	}
	return s
}

func readDrop(r *agentkeys.Reader) (s Drop) {
	r.Copy(s.User[:])
	r.Copy(s.Agent[:])
	r.Copy(s.Service[:])
	s.Version = r.U64()
	r.Copy(s.Hash[:])
	s.Reason = DropReason(r.U8())
	s.ValidUntil = r.U64()
	if s.Reason != DropExpired && s.Reason != DropLost {
		r.Fail()
	}
	return s
}

func readReportLost(r *agentkeys.Reader) (s ReportLost) {
	r.Copy(s.User[:])
	r.Copy(s.Agent[:])
	r.Copy(s.Service[:])
	s.Version = r.U64()
	r.Copy(s.Hash[:])
	s.Height = r.U64()
	s.Missing = r.Bool()
	s.ValidUntil = r.U64()
	return s
}

func readDestroyEpoch(r *agentkeys.Reader) (s DestroyEpoch) {
	r.Copy(s.Anchor[:])
	s.Term = r.U64()
	s.Generation = r.U64()
	r.Copy(s.User[:])
	s.Epoch = agentkeys.Epoch(r.U32())
	s.ValidUntil = r.U64()
	return s
}

func readCommitTree(r *agentkeys.Reader) (s CommitTree) {
	r.Copy(s.Anchor[:])
	s.Term = r.U64()
	s.Previous = r.U64()
	r.Copy(s.IndexHash[:])
	s.ValidUntil = r.U64()
	return s
}

func readTakeKeeper(r *agentkeys.Reader) (s TakeKeeper) {
	r.Copy(s.Anchor[:])
	s.Term = r.U64()
	s.LeaseUntil = r.U64()
	s.ValidUntil = r.U64()
	return s
}

func readRecordReads(r *agentkeys.Reader) (s RecordReads) {
	s.First = r.U64()
	s.Count = r.U32()
	r.Copy(s.Root[:])
	r.Copy(s.Previous[:])
	s.Boots = r.U64()
	s.SeenHeight = r.U64()
	s.ValidUntil = r.U64()
	return s
}

func readHeartbeat(r *agentkeys.Reader) (s Heartbeat) {
	s.Previous = r.U64()
	r.Copy(s.Nonce[:])
	s.SeenHeight = r.U64()
	s.ValidUntil = r.U64()
	return s
}

func readVouch(r *agentkeys.Reader) (s Vouch) {
	r.Copy(s.Rotator[:])
	r.Copy(s.Noise[:])
	r.Copy(s.MLKEMHash[:])
	s.Platform = r.U8()
	r.Copy(s.Measurement[:])
	r.Copy(s.Evidence[:])
	s.Expiry = r.U64()
	s.ValidUntil = r.U64()
	return s
}
