// Package record holds read records: what the custodian writes down before it
// answers a read, the segments they travel in, and the hash chain whose head the
// vault's chain keeps. Layout: docs/spec/records.md.
package record

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"

	"example.org/agentkeys"
)

// Kind of a record.
type Kind uint8

// Kinds. A boot record marks each start of a custodian. Calls are what a proxy tells
// of a value that it has on loan: how often it used it since it last told.
const (
	KindBoot  Kind = 1
	KindRead  Kind = 2
	KindCalls Kind = 3
)

// Record is one audited event: Size bytes.
type Record struct {
	Sequence uint64 // from 1, no gaps, per custodian
	Time     uint64 // unix seconds, the custodian's view
	Kind     Kind
	Mode     uint8 // statement.Mode: use or reveal; 0 for boot
	User     agentkeys.Wallet
	Agent    agentkeys.Wallet // who read
	Owner    agentkeys.Wallet // agent part of the slot that was read
	Service  agentkeys.ServiceID
	Version  uint64
	Epoch    agentkeys.Epoch
	Session  [16]byte // id of the session, zero for boot
	Height   uint64   // of the verified state that allowed it
	Boot     uint64   // which start of the custodian
	Calls    uint32   // of KindCalls, at least 1; else 0
}

// Size of a record in bytes.
const Size = 8 + 8 + 1 + 1 + 20 + 20 + 20 + 32 + 8 + 4 + 16 + 8 + 8 + 4

// Append adds the fixed layout in the order of the fields.
func (c Record) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, c.Sequence)
	b = binary.BigEndian.AppendUint64(b, c.Time)
	b = append(b, byte(c.Kind), c.Mode)
	b = append(append(append(b, c.User[:]...), c.Agent[:]...), c.Owner[:]...)
	b = binary.BigEndian.AppendUint64(append(b, c.Service[:]...), c.Version)
	b = binary.BigEndian.AppendUint32(b, uint32(c.Epoch))
	b = append(b, c.Session[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Height)
	b = binary.BigEndian.AppendUint64(b, c.Boot)
	return binary.BigEndian.AppendUint32(b, c.Calls)
}

// Parse reads exactly one record.
func Parse(b []byte) (Record, error) {
	r := agentkeys.NewReader(b)
	c := read(r)
	return c, r.Close()
}

func read(r *agentkeys.Reader) (c Record) {
	c.Sequence, c.Time = r.U64(), r.U64()
	c.Kind, c.Mode = Kind(r.U8()), r.U8()
	r.Copy(c.User[:])
	r.Copy(c.Agent[:])
	r.Copy(c.Owner[:])
	r.Copy(c.Service[:])
	c.Version = r.U64()
	c.Epoch = agentkeys.Epoch(r.U32())
	r.Copy(c.Session[:])
	c.Height, c.Boot, c.Calls = r.U64(), r.U64(), r.U32()
	boot := c.Kind == KindBoot && c.Mode == 0 && c.Calls == 0
	reading := c.Kind == KindRead && (c.Mode == 1 || c.Mode == 2) && c.Calls == 0
	calls := c.Kind == KindCalls && c.Mode == 1 && c.Calls > 0
	if !boot && !reading && !calls || c.Sequence == 0 {
		r.Fail()
	}
	return c
}

// MaxSegment is the largest number of records in one segment.
const MaxSegment = 65536

// Segment is a run of records of one custodian, as it lies (sealed) in the store.
type Segment struct {
	Custodian agentkeys.ProcessKey
	Records   []Record // consecutive sequences
}

// Append adds "AKs1" 4, custodian 32, count 4, records.
func (s Segment) Append(b []byte) []byte {
	b = append(append(b, "AKs1"...), s.Custodian[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.Records)))
	for _, c := range s.Records {
		b = c.Append(b)
	}
	return b
}

// ParseSegment refuses empty segments, gaps and trailing bytes.
func ParseSegment(b []byte) (s Segment, err error) {
	r := agentkeys.NewReader(b)
	if string(r.Take(4)) != "AKs1" {
		return s, agentkeys.ErrLayout
	}
	r.Copy(s.Custodian[:])
	n := int(r.U32())
	if n == 0 || n > MaxSegment || r.Len() != n*Size {
		return s, agentkeys.ErrLayout
	}
	s.Records = make([]Record, n)
	for i := range s.Records {
		s.Records[i] = read(r)
		if s.Records[i].Sequence != s.Records[0].Sequence+uint64(i) {
			r.Fail()
		}
	}
	return s, r.Close()
}

// Root is the RFC 6962 tree hash over the records' bytes.
func Root(records []Record) agentkeys.Hash {
	leaves := make([]agentkeys.Hash, len(records))
	for i, c := range records {
		leaves[i] = sha256.Sum256(c.Append([]byte{0}))
	}
	return treeHash(leaves)
}

// treeHash splits at the largest power of two below n (RFC 6962, section 2.1).
func treeHash(leaves []agentkeys.Hash) agentkeys.Hash {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		l, r := treeHash(leaves[:k]), treeHash(leaves[k:])
		return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
	}
}

// NextHead chains a batch to the head before it: SHA-256(domain tag "reads",
// previous head, first 8, count 4, root).
func NextHead(vault agentkeys.VaultID, previous agentkeys.Hash, first uint64, count uint32, root agentkeys.Hash) agentkeys.Hash {
	b := append(agentkeys.DomainTag("reads", vault), previous[:]...)
	b = binary.BigEndian.AppendUint64(b, first)
	b = binary.BigEndian.AppendUint32(b, count)
	return sha256.Sum256(append(b, root[:]...))
}

// ReadReceipt is what a custodian signs over one answered read: the record's
// leaf hash. Whoever got the value can later ask that the record be shown.
type ReadReceipt struct {
	Custodian agentkeys.ProcessKey
	Record    Record
	Signature [64]byte
}

// SignReceipt signs domain tag "read-receipt" and the record.
func SignReceipt(key ed25519.PrivateKey, vault agentkeys.VaultID, c Record) (r ReadReceipt) {
	r.Record = c
	copy(r.Custodian[:], key.Public().(ed25519.PublicKey))
	copy(r.Signature[:], ed25519.Sign(key, c.Append(agentkeys.DomainTag("read-receipt", vault))))
	return r
}

// Verify checks the custodian's signature; the zero key signs nothing.
func (r ReadReceipt) Verify(vault agentkeys.VaultID) bool {
	return r.Custodian != agentkeys.ProcessKey{} && ed25519.Verify(r.Custodian[:], r.Record.Append(agentkeys.DomainTag("read-receipt", vault)), r.Signature[:])
}

// Append adds custodian 32, record, signature 64.
func (r ReadReceipt) Append(b []byte) []byte {
	return append(r.Record.Append(append(b, r.Custodian[:]...)), r.Signature[:]...)
}

// ParseReceipt reads what Append wrote.
func ParseReceipt(b []byte) (v ReadReceipt, err error) {
	r := agentkeys.NewReader(b)
	r.Copy(v.Custodian[:])
	v.Record = read(r)
	r.Copy(v.Signature[:])
	return v, r.Close()
}
