package erasure

import (
	"encoding/binary"
	"fmt"

	"example.org/agentkeys"
)

const (
	shardCount   = 256
	indexSize    = 8 + 8 + 8 + 4 + 2
	shardRefSize = 1 + 4 + 32 + 32
)

// index is the plaintext of an index object: generation 8, term 8, verified
// height 8, wrap version 4, count 2, then per shard that is not empty, ascending:
// number 1, shares 4, key 32, SHA-256 of the shard object 32.
type index struct {
	generation uint64
	term       uint64
	height     uint64
	version    uint32
	shards     [shardCount]shardRef
}

// shardRef is zero for an empty shard.
type shardRef struct {
	shares uint32
	key    [32]byte
	hash   agentkeys.Hash
}

// append gives a slice of exactly the final size, so that no copy of the keys is
// left behind by growth.
func (x *index) append() []byte {
	count := 0
	for i := range x.shards {
		if x.shards[i].shares != 0 {
			count++
		}
	}
	b := make([]byte, 0, indexSize+count*shardRefSize)
	b = binary.BigEndian.AppendUint64(b, x.generation)
	b = binary.BigEndian.AppendUint64(b, x.term)
	b = binary.BigEndian.AppendUint64(b, x.height)
	b = binary.BigEndian.AppendUint32(b, x.version)
	b = binary.BigEndian.AppendUint16(b, uint16(count))
	for i := range x.shards {
		if s := &x.shards[i]; s.shares != 0 {
			b = append(b, byte(i))
			b = binary.BigEndian.AppendUint32(b, s.shares)
			b = append(append(b, s.key[:]...), s.hash[:]...)
		}
	}
	return b
}

func (x *index) parse(b []byte) error {
	r := agentkeys.NewReader(b)
	x.generation, x.term, x.height, x.version = r.U64(), r.U64(), r.U64(), r.U32()
	count, last := int(r.U16()), -1
	if x.generation == 0 || x.version == 0 || r.Len() != count*shardRefSize {
		r.Fail()
		count = 0
	}
	for range count {
		number := int(r.U8())
		s := &x.shards[number]
		s.shares = r.U32()
		r.Copy(s.key[:])
		r.Copy(s.hash[:])
		if number <= last || s.shares == 0 {
			r.Fail()
		}
		last = number
	}
	if err := r.Close(); err != nil {
		*x = index{}
		return fmt.Errorf("share index: %w", err)
	}
	return nil
}

// appendShard encodes the plaintext of a shard object: count 4, entries of 60
// bytes strictly ascending by user, epoch, wrap version.
func appendShard(entries []entry) []byte {
	b := make([]byte, 0, 4+len(entries)*entrySize)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	for i := range entries {
		b = entries[i].append(b)
	}
	return b
}

func parseShard(number byte, b []byte) ([]entry, error) {
	r := agentkeys.NewReader(b)
	count := uint64(r.U32())
	if count == 0 || uint64(r.Len()) != count*entrySize {
		return nil, fmt.Errorf("share shard: %w", agentkeys.ErrLayout)
	}
	entries := make([]entry, count)
	for i := range entries {
		e := &entries[i]
		e.read(r)
		if e.id.shard() != number || i > 0 && entries[i-1].id.compare(e.id) >= 0 {
			r.Fail()
		}
	}
	if err := r.Close(); err != nil {
		clear(entries)
		return nil, fmt.Errorf("share shard: %w", err)
	}
	return entries, nil
}
