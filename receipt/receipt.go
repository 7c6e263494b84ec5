// Package receipt holds the job receipts a rotator signs: what it did, bound to
// vault, job, user, epochs and data keys. Layouts: docs/spec/statements.md.
package receipt

import (
	"crypto/ed25519"
	"encoding/binary"

	"example.org/agentkeys"
)

// MaxRows is the largest number of rows one rewrap receipt may carry.
const MaxRows = 256

// Made says that the rotator made the data key of an epoch. 136 bytes.
type Made struct {
	Job     agentkeys.JobID
	User    agentkeys.Wallet
	Epoch   agentkeys.Epoch
	DEKID   agentkeys.DEKID
	Wrapped agentkeys.WrappedDEK // its first 4 bytes are the wrap version
}

// Rewrapped says that a data key went from one wrapping key under another, for a
// new shielding key. The data key, and so its id, stays.
type Rewrapped struct {
	Job     agentkeys.JobID
	User    agentkeys.Wallet
	Epoch   agentkeys.Epoch
	DEKID   agentkeys.DEKID
	From    uint32 // old wrap version
	Wrapped agentkeys.WrappedDEK
}

// Rotated is one chunk of a re-seal job: at most [MaxRows] blobs moved from one
// epoch to the next.
type Rotated struct {
	Job       agentkeys.JobID
	User      agentkeys.Wallet
	From, To  agentkeys.Epoch
	FromDEKID agentkeys.DEKID
	ToDEKID   agentkeys.DEKID
	Chunk     uint32 // from 0
	Rows      []Row
}

// Row is one re-sealed blob. 140 bytes.
type Row struct {
	Agent   agentkeys.Wallet
	Service agentkeys.ServiceID
	Version uint64
	OldHash agentkeys.Hash
	NewBlob agentkeys.BlobID
	NewHash agentkeys.Hash
}

const rowSize = 20 + 32 + 8 + 32 + 16 + 32

// Append adds the fixed layout: job 16, user 20, epoch 4, DEK id 32, wrapped 64.
func (m Made) Append(b []byte) []byte {
	b = append(append(b, m.Job[:]...), m.User[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(m.Epoch))
	return append(append(b, m.DEKID[:]...), m.Wrapped[:]...)
}

// ReadMade reads what Append wrote.
func ReadMade(r *agentkeys.Reader) (m Made) {
	r.Copy(m.Job[:], m.User[:])
	m.Epoch = agentkeys.Epoch(r.U32())
	r.Copy(m.DEKID[:], m.Wrapped[:])
	return m
}

// Append adds the fixed layout: job 16, user 20, epoch 4, DEK id 32, from 4,
// wrapped 64.
func (w Rewrapped) Append(b []byte) []byte {
	b = append(append(b, w.Job[:]...), w.User[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(w.Epoch))
	b = append(b, w.DEKID[:]...)
	b = binary.BigEndian.AppendUint32(b, w.From)
	return append(b, w.Wrapped[:]...)
}

// ReadRewrapped reads what Append wrote.
func ReadRewrapped(r *agentkeys.Reader) (w Rewrapped) {
	r.Copy(w.Job[:], w.User[:])
	w.Epoch = agentkeys.Epoch(r.U32())
	r.Copy(w.DEKID[:])
	w.From = r.U32()
	r.Copy(w.Wrapped[:])
	return w
}

// Append adds the layout: job 16, user 20, from 4, to 4, DEK ids 64, chunk 4,
// count 2, rows of 140 bytes.
func (c Rotated) Append(b []byte) []byte {
	b = append(append(b, c.Job[:]...), c.User[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(c.From))
	b = binary.BigEndian.AppendUint32(b, uint32(c.To))
	b = append(append(b, c.FromDEKID[:]...), c.ToDEKID[:]...)
	b = binary.BigEndian.AppendUint32(b, c.Chunk)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Rows)))
	for _, row := range c.Rows {
		b = row.append(b)
	}
	return b
}

// ReadRotated reads what Append wrote and refuses empty and oversized chunks.
func ReadRotated(r *agentkeys.Reader) (c Rotated) {
	r.Copy(c.Job[:], c.User[:])
	c.From = agentkeys.Epoch(r.U32())
	c.To = agentkeys.Epoch(r.U32())
	r.Copy(c.FromDEKID[:], c.ToDEKID[:])
	c.Chunk = r.U32()
	n := int(r.U16())
	if n == 0 || n > MaxRows || r.Len() < n*rowSize {
		r.Fail()
		return Rotated{}
	}
	c.Rows = make([]Row, n)
	for i := range c.Rows {
		c.Rows[i] = readRow(r)
	}
	return c
}

func (w Row) append(b []byte) []byte {
	b = append(append(b, w.Agent[:]...), w.Service[:]...)
	b = binary.BigEndian.AppendUint64(b, w.Version)
	b = append(append(b, w.OldHash[:]...), w.NewBlob[:]...)
	return append(b, w.NewHash[:]...)
}

func readRow(r *agentkeys.Reader) (w Row) {
	r.Copy(w.Agent[:], w.Service[:])
	w.Version = r.U64()
	r.Copy(w.OldHash[:], w.NewBlob[:], w.NewHash[:])
	return w
}

// Signature is a rotator's Ed25519 signature with the key that made it. 96 bytes.
type Signature struct {
	Key agentkeys.ProcessKey
	Sig [64]byte
}

// Append adds key 32, signature 64.
func (s Signature) Append(b []byte) []byte {
	return append(append(b, s.Key[:]...), s.Sig[:]...)
}

// ReadSignature reads what Append wrote.
func ReadSignature(r *agentkeys.Reader) (s Signature) {
	r.Copy(s.Key[:], s.Sig[:])
	return s
}

// Receipt kinds keep the three layouts apart under one key.
const (
	KindMade      = 1
	KindRotated   = 2
	KindRewrapped = 3
)

// Sign signs domain tag "receipt", kind 1, body.
func Sign(key ed25519.PrivateKey, vault agentkeys.VaultID, kind uint8, body []byte) (s Signature) {
	copy(s.Key[:], key.Public().(ed25519.PublicKey))
	copy(s.Sig[:], ed25519.Sign(key, message(vault, kind, body)))
	return s
}

// Verify checks a receipt signature. The zero key is refused: it encodes a point of
// order 4, for which a signature of zeros verifies every fourth message.
func (s Signature) Verify(vault agentkeys.VaultID, kind uint8, body []byte) bool {
	return s.Key != agentkeys.ProcessKey{} && ed25519.Verify(s.Key[:], message(vault, kind, body), s.Sig[:])
}

func message(vault agentkeys.VaultID, kind uint8, body []byte) []byte {
	return append(append(agentkeys.DomainTag("receipt", vault), kind), body...)
}
