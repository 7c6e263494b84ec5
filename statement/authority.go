package statement

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"example.org/agentkeys"
)

// Params are the numbers of a vault that the authority may change. Seconds unless
// named otherwise.
type Params struct {
	Cadence         uint64 // age at which an active epoch is due; 604800
	DrainWindow     uint64 // how long a draining epoch may wait for reads; at most Cadence
	MaxHeadAge      uint64 // age at which a custodian refuses to read without a new block; 6
	MaxValidity     uint64 // how far ahead valid until may lie; 600
	LostAfter       uint64 // how long an object must be missing before its row may be dropped; 259200
	MeasurementWait uint64 // delay before an allowed measurement counts
}

// DefaultParams are the numbers of docs/spec/chain.md.
func DefaultParams() Params {
	return Params{Cadence: 7 * 86400, DrainWindow: 72 * 3600, MaxHeadAge: 6, MaxValidity: 600, LostAfter: 72 * 3600}
}

// EnclaveRole is what a registered process may sign.
type EnclaveRole uint8

// Enclave roles.
const (
	EnclaveCustodian EnclaveRole = 1
	EnclaveRotator   EnclaveRole = 2
)

// Platforms of attestation. Software attestation is for development: root can
// forge it.
const (
	PlatformSoftware = 1
	PlatformNitro    = 2
	PlatformSNP      = 3
	PlatformTDX      = 4
)

// Anchor kinds.
const (
	AnchorFile   = 1 // development only
	AnchorTPM    = 2
	AnchorPKCS11 = 3
	AnchorKMS    = 4
)

var anchorKinds = map[uint8]string{AnchorFile: "file", AnchorTPM: "tpm", AnchorPKCS11: "pkcs11", AnchorKMS: "kms"}

// AnchorKindName is "file", "tpm", "pkcs11" or "kms", and "unknown" for any other.
func AnchorKindName(t uint8) string { return cmp.Or(anchorKinds[t], "unknown") }

// ParseAnchorKind is the inverse of [AnchorKindName] for the kinds there are.
func ParseAnchorKind(name string) (uint8, error) {
	for t, n := range anchorKinds {
		if n == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("anchor kind %q: want file, tpm, pkcs11 or kms", name)
}

// SetParams replaces the params from the block at Activation (height) on.
type SetParams struct {
	Params     Params
	Activation uint64
}

// AllowMeasurement lets enclaves with this measurement be registered.
type AllowMeasurement struct {
	Role        EnclaveRole
	Platform    uint8
	Measurement [48]byte
}

// RemoveMeasurement takes it back, at once.
type RemoveMeasurement struct {
	Role        EnclaveRole
	Platform    uint8
	Measurement [48]byte
}

// RegisterEnclave registers a custodian with the hash of the evidence that binds
// its key.
type RegisterEnclave struct {
	Role        EnclaveRole
	Key         agentkeys.ProcessKey
	Platform    uint8
	Measurement [48]byte
	Evidence    agentkeys.Hash
	Expiry      uint64 // seconds; 0 = none
}

// RevokeEnclave makes a process's signatures worthless from this block on.
type RevokeEnclave struct {
	Role EnclaveRole
	Key  agentkeys.ProcessKey
}

// SetOidcKey publishes or withdraws a key of the vault's OIDC issuer.
type SetOidcKey struct {
	KeyHash agentkeys.Hash
	Active  bool
}

// AddAnchor makes an anchor known, in state joining.
type AddAnchor struct {
	Anchor AnchorID
	Type   uint8
}

// RetireAnchor takes an anchor out of use; what it held is not proven erased.
type RetireAnchor struct{ Anchor AnchorID }

// EvictAnchor removes a dead anchor so that destruction can go on.
type EvictAnchor struct{ Anchor AnchorID }

// RotateUser makes a user's next epoch due.
type RotateUser struct{ User agentkeys.Wallet }

// RotateAll makes every epoch opened before this block due.
type RotateAll struct{}

func (SetParams) Kind() Kind         { return KindSetParams }
func (AllowMeasurement) Kind() Kind  { return KindAllowMeasurement }
func (RemoveMeasurement) Kind() Kind { return KindRemoveMeasurement }
func (RegisterEnclave) Kind() Kind   { return KindRegisterEnclave }
func (RevokeEnclave) Kind() Kind     { return KindRevokeEnclave }
func (SetOidcKey) Kind() Kind        { return KindSetOidcKey }
func (AddAnchor) Kind() Kind         { return KindAddAnchor }
func (RetireAnchor) Kind() Kind      { return KindRetireAnchor }
func (EvictAnchor) Kind() Kind       { return KindEvictAnchor }
func (RotateUser) Kind() Kind        { return KindRotateUser }
func (RotateAll) Kind() Kind         { return KindRotateAll }

// Append adds six numbers of 8.
func (p Params) Append(b []byte) []byte {
	for _, n := range []uint64{p.Cadence, p.DrainWindow, p.MaxHeadAge, p.MaxValidity, p.LostAfter, p.MeasurementWait} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// ReadParams reads what Append wrote.
func ReadParams(r *agentkeys.Reader) Params {
	return Params{r.U64(), r.U64(), r.U64(), r.U64(), r.U64(), r.U64()}
}

// Append adds params 48, activation height 8.
func (s SetParams) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(s.Params.Append(b), s.Activation)
}

// Append adds role 1, platform 1, measurement 48.
func (s AllowMeasurement) Append(b []byte) []byte {
	return append(append(b, byte(s.Role), s.Platform), s.Measurement[:]...)
}

// Append adds role 1, platform 1, measurement 48.
func (s RemoveMeasurement) Append(b []byte) []byte {
	return append(append(b, byte(s.Role), s.Platform), s.Measurement[:]...)
}

// Append adds role 1, key 32, platform 1, measurement 48, evidence 32, expiry 8.
func (s RegisterEnclave) Append(b []byte) []byte {
	b = append(append(b, byte(s.Role)), s.Key[:]...)
	b = append(append(b, s.Platform), s.Measurement[:]...)
	return binary.BigEndian.AppendUint64(append(b, s.Evidence[:]...), s.Expiry)
}

// Append adds role 1, key 32.
func (s RevokeEnclave) Append(b []byte) []byte { return append(append(b, byte(s.Role)), s.Key[:]...) }

// Append adds key hash 32, active 1.
func (s SetOidcKey) Append(b []byte) []byte { return appendBool(append(b, s.KeyHash[:]...), s.Active) }

// Append adds anchor 16, type 1.
func (s AddAnchor) Append(b []byte) []byte { return append(append(b, s.Anchor[:]...), s.Type) }

// Append adds anchor 16.
func (s RetireAnchor) Append(b []byte) []byte { return append(b, s.Anchor[:]...) }

// Append adds anchor 16.
func (s EvictAnchor) Append(b []byte) []byte { return append(b, s.Anchor[:]...) }

// Append adds user 20.
func (s RotateUser) Append(b []byte) []byte { return append(b, s.User[:]...) }

// Append adds nothing.
func (s RotateAll) Append(b []byte) []byte { return b }

func readMeasurement(r *agentkeys.Reader) (role EnclaveRole, platform uint8, m [48]byte) {
	role, platform = readRole(r), r.U8()
	r.Copy(m[:])
	return role, platform, m
}

func readRole(r *agentkeys.Reader) EnclaveRole {
	role := EnclaveRole(r.U8())
	if role != EnclaveCustodian && role != EnclaveRotator {
		r.Fail()
	}
	return role
}

func readRegisterEnclave(r *agentkeys.Reader) (s RegisterEnclave) {
	s.Role = readRole(r)
	r.Copy(s.Key[:])
	s.Platform = r.U8()
	r.Copy(s.Measurement[:])
	r.Copy(s.Evidence[:])
	s.Expiry = r.U64()
	return s
}

func readRevokeEnclave(r *agentkeys.Reader) (s RevokeEnclave) {
	s.Role = readRole(r)
	r.Copy(s.Key[:])
	return s
}

func readAnchorID(r *agentkeys.Reader) (id AnchorID) {
	r.Copy(id[:])
	return id
}
