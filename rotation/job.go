// Package rotation holds the jobs that a custodian seals to a rotator and the
// messages that a courier exchanges with it over one descriptor: docs/spec/rotation.md.
package rotation

import (
	"encoding/binary"
	"slices"

	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
)

// Kinds of jobs.
const (
	Make = 1 // a new data key under To
	Move = 2 // re-seal chunks of blobs from one epoch to the next
	Wrap = 3 // data keys from one wrapping key under another, a message for each
)

// Job is the first message of a channel. Which fields count follows from Kind:
// Make has To; Move all; Wrap all but Rows, with From and To of the same epoch, and
// more jobs of its kind after it, each of another epoch.
type Job struct {
	Kind       uint8
	From, To   envelope.WrappingKey
	FromID     agentkeys.DEKID
	ToID       agentkeys.DEKID
	FromSealed agentkeys.WrappedDEK
	ToSealed   agentkeys.WrappedDEK
	Rows       uint32 // Move: rows in all chunks
}

// JobSize is the length of a job's layout: kind 1, two wrapping keys of 60 (user
// 20, epoch 4, wrap version 4, key 32), DEK ids 64, wrapped data keys 128, rows 4.
const JobSize = 1 + 2*60 + 2*32 + 2*64 + 4

// Entry is one blob to move. Entries ascend by (agent, service), so none repeats.
type Entry struct {
	Agent   agentkeys.Wallet
	Service agentkeys.ServiceID
	Version uint64
	Hash    agentkeys.Hash // of the envelope as it lies
	OldBlob agentkeys.BlobID
	NewBlob agentkeys.BlobID
}

const entrySize = 20 + 32 + 8 + 32 + 16 + 16

// MaxMessage is the largest message of a channel: a full chunk.
const MaxMessage = 2 + receipt.MaxRows*entrySize

// Append adds the fixed layout. It grows b once, so no copy of a key stays in an
// abandoned array; the caller clears the result.
func (j Job) Append(b []byte) []byte {
	b = appendKey(appendKey(append(slices.Grow(b, JobSize), j.Kind), j.From), j.To)
	b = append(append(b, j.FromID[:]...), j.ToID[:]...)
	b = append(append(b, j.FromSealed[:]...), j.ToSealed[:]...)
	return binary.BigEndian.AppendUint32(b, j.Rows)
}

// ParseJob reads what Append wrote. Its keys are copies; the caller clears b and
// wipes them.
func ParseJob(b []byte) (Job, error) {
	r := agentkeys.NewReader(b)
	j := Job{Kind: r.U8(), From: readKey(r), To: readKey(r)}
	r.Copy(j.FromID[:], j.ToID[:], j.FromSealed[:], j.ToSealed[:])
	j.Rows = r.U32()
	return j, r.Close()
}

func appendKey(b []byte, k envelope.WrappingKey) []byte {
	b = binary.BigEndian.AppendUint32(append(b, k.User[:]...), uint32(k.Epoch))
	b = binary.BigEndian.AppendUint32(b, k.Version)
	b = append(b, make([]byte, 32)...)
	copy(b[len(b)-32:], k.Reveal())
	return b
}

func readKey(r *agentkeys.Reader) (k envelope.WrappingKey) {
	r.Copy(k.User[:])
	k.Epoch, k.Version = agentkeys.Epoch(r.U32()), r.U32()
	key := make([]byte, 32)
	r.Copy(key)
	k.Secret = agentkeys.NewSecret(key)
	return k
}

// AppendChunk adds count 2 and the entries.
func AppendChunk(b []byte, entries []Entry) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(entries)))
	for _, e := range entries {
		b = append(append(b, e.Agent[:]...), e.Service[:]...)
		b = append(binary.BigEndian.AppendUint64(b, e.Version), e.Hash[:]...)
		b = append(append(b, e.OldBlob[:]...), e.NewBlob[:]...)
	}
	return b
}

// ParseChunk reads 1 to receipt.MaxRows entries.
func ParseChunk(b []byte) ([]Entry, error) {
	r := agentkeys.NewReader(b)
	n := int(r.U16())
	if n == 0 || n > receipt.MaxRows || r.Len() != n*entrySize {
		return nil, agentkeys.ErrLayout
	}
	entries := make([]Entry, n)
	for i := range entries {
		e := &entries[i]
		r.Copy(e.Agent[:], e.Service[:])
		e.Version = r.U64()
		r.Copy(e.Hash[:], e.OldBlob[:], e.NewBlob[:])
	}
	return entries, r.Close()
}
