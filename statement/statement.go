// Package statement holds the canonical bytes that wallets and enclave processes
// sign and the chain verifies: docs/spec/statements.md. A signed statement on the
// wire is kind 1, body, then its signatures; the wire bytes are what the log of a
// user hashes.
package statement

import (
	"crypto/ed25519"
	"crypto/sha256"

	"example.org/agentkeys"
	"example.org/agentkeys/receipt"
)

// Kind is the first byte of a statement or act.
type Kind uint8

// Statements of users.
const (
	KindEnrol       Kind = 1
	KindAdmitAgent  Kind = 2
	KindRevokeAgent Kind = 3
	KindGrant       Kind = 4
	KindDelete      Kind = 5
	KindAskRotation Kind = 6
)

// Statements of processes.
const (
	KindRegisterBlob Kind = 16
	KindDrop         Kind = 17
	KindReportLost   Kind = 18
	KindOpenEpoch    Kind = 19
	KindRotateBlobs  Kind = 20
	KindRewrapDEK    Kind = 21
	KindDestroyEpoch Kind = 22
	KindCommitTree   Kind = 23
	KindTakeKeeper   Kind = 24
	KindRecordReads  Kind = 25
	KindHeartbeat    Kind = 26
	KindVouch        Kind = 27
)

// Acts of the authority. They travel in an SDK message that the authority's
// account signs, and carry no signature of their own.
const (
	KindSetParams         Kind = 64
	KindAllowMeasurement  Kind = 65
	KindRemoveMeasurement Kind = 66
	KindRegisterEnclave   Kind = 67
	KindRevokeEnclave     Kind = 68
	KindSetOidcKey        Kind = 69
	KindAddAnchor         Kind = 70
	KindRetireAnchor      Kind = 71
	KindEvictAnchor       Kind = 72
	KindRotateUser        Kind = 73
	KindRotateAll         Kind = 74
)

// MaxSize is the largest statement on the wire: a full RotateBlobs.
const MaxSize = 64 << 10

// Body is one statement or act without its signatures.
type Body interface {
	Kind() Kind
	Append([]byte) []byte
}

// Signed is a statement with its signatures. Which ones are set follows from the
// kind: a user's statement has User; a process's has Process, and Receipt too when
// a rotator's job receipt belongs to it.
type Signed struct {
	Body    Body
	User    [65]byte          // r 32, s 32, v 1 (27 or 28), low s
	Receipt receipt.Signature // rotator over the job receipt
	Process receipt.Signature // custodian or keeper over the statement
}

// ByUser reports whether statements of this kind are signed by a wallet.
func (k Kind) ByUser() bool { return k >= KindEnrol && k <= KindAskRotation }

// ByProcess reports whether statements of this kind are signed by a process.
func (k Kind) ByProcess() bool { return k >= KindRegisterBlob && k <= KindVouch }

// ByAuthority reports whether this kind is an act of the authority.
func (k Kind) ByAuthority() bool { return k >= KindSetParams && k <= KindRotateAll }

// HasReceipt reports whether a rotator's job receipt is part of the statement.
func (k Kind) HasReceipt() bool { return k >= KindOpenEpoch && k <= KindRewrapDEK }

// Append adds the wire form.
func (s Signed) Append(b []byte) []byte {
	k := s.Body.Kind()
	b = s.Body.Append(append(b, byte(k)))
	if k.ByUser() {
		return append(b, s.User[:]...)
	}
	if k.HasReceipt() {
		b = s.Receipt.Append(b)
	}
	return s.Process.Append(b)
}

// Parse reads the wire form and refuses trailing bytes and unknown kinds.
func Parse(wire []byte) (Signed, error) {
	if len(wire) == 0 || len(wire) > MaxSize {
		return Signed{}, agentkeys.ErrLayout
	}
	k := Kind(wire[0])
	if !k.ByUser() && !k.ByProcess() {
		return Signed{}, agentkeys.ErrLayout
	}
	r := agentkeys.NewReader(wire[1:])
	s := Signed{Body: readBody(k, r)}
	if k.ByUser() {
		r.Copy(s.User[:])
	} else {
		if k.HasReceipt() {
			s.Receipt = receipt.ReadSignature(r)
		}
		s.Process = receipt.ReadSignature(r)
	}
	if err := r.Close(); err != nil || s.Body == nil {
		return Signed{}, agentkeys.ErrLayout
	}
	return s, nil
}

// AppendAct adds an act of the authority: kind 1, body.
func AppendAct(b []byte, act Body) []byte { return act.Append(append(b, byte(act.Kind()))) }

// ParseAct reads what AppendAct wrote.
func ParseAct(b []byte) (Body, error) {
	if len(b) == 0 || len(b) > MaxSize || !Kind(b[0]).ByAuthority() {
		return nil, agentkeys.ErrLayout
	}
	r := agentkeys.NewReader(b[1:])
	body := readBody(Kind(b[0]), r)
	if err := r.Close(); err != nil || body == nil {
		return nil, agentkeys.ErrLayout
	}
	return body, nil
}

// SignProcess signs a process's statement and returns the wire form. A statement
// with a job receipt gets the rotator's signature in rcpt; others pass nil.
func SignProcess(key ed25519.PrivateKey, vault agentkeys.VaultID, body Body, rcpt *receipt.Signature) []byte {
	s := Signed{Body: body}
	if rcpt != nil {
		s.Receipt = *rcpt
	}
	copy(s.Process.Key[:], key.Public().(ed25519.PublicKey))
	copy(s.Process.Sig[:], ed25519.Sign(key, s.processMessage(vault)))
	return s.Append(nil)
}

// VerifyProcess checks the process's signature and, where there is one, the
// rotator's receipt. Whether the keys may sign this is the chain's to decide.
func (s Signed) VerifyProcess(vault agentkeys.VaultID) bool {
	if !s.Body.Kind().ByProcess() || s.Process.Key == (agentkeys.ProcessKey{}) {
		return false
	}
	if !ed25519.Verify(s.Process.Key[:], s.processMessage(vault), s.Process.Sig[:]) {
		return false
	}
	switch b := s.Body.(type) {
	case OpenEpoch:
		return s.Receipt.Verify(vault, receipt.KindMade, b.Receipt.Append(nil))
	case RotateBlobs:
		return s.Receipt.Verify(vault, receipt.KindRotated, b.Receipt.Append(nil))
	case RewrapDEK:
		return s.Receipt.Verify(vault, receipt.KindRewrapped, b.Receipt.Append(nil))
	}
	return true
}

// processMessage is domain tag "statement", kind 1, body, receipt signature 96 if
// the kind has one.
func (s Signed) processMessage(vault agentkeys.VaultID) []byte {
	m := append(agentkeys.DomainTag("statement", vault), byte(s.Body.Kind()))
	m = s.Body.Append(m)
	if s.Body.Kind().HasReceipt() {
		m = s.Receipt.Append(m)
	}
	return m
}

// Hash is SHA-256 of a statement's wire bytes or an act's bytes.
func Hash(wire []byte) agentkeys.Hash { return sha256.Sum256(wire) }
