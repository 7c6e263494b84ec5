package auditor

import (
	"crypto/sha256"

	"example.org/agentkeys"
	"example.org/agentkeys/record"
)

// maxStarts bounds the boot numbers tried for one record: each start leaves a record,
// so that more of them in a row leave more than one gap.
const maxStarts = 16

// findBoot completes a batch that lacks one record with a boot record, if there is one
// that gives the batch's root. A boot record says nothing but its number and its
// second, so it can be found by trying; whatever hashes to the root is what the
// custodian committed. Without one it returns the records as they came.
func findBoot(b batch, in []record.Record, last, boots uint64) []record.Record {
	i := 0
	for i < len(in) && in[i].Sequence == b.First+uint64(i) {
		i++
	}
	until := b.block.Time
	if i < len(in) {
		until = max(until, in[i].Time)
	}
	if i > 0 {
		last = in[i-1].Time
	}
	until += clockSlack
	from := uint64(0)
	if until > maxIdle {
		from = until - maxIdle
	}
	if last > clockSlack {
		from = max(from, min(last, until)-clockSlack)
	}
	filled := append(append(append([]record.Record{}, in[:i]...), record.Record{Sequence: b.First + uint64(i), Kind: record.KindBoot}), in[i:]...)
	path := auditPath(leaves(filled), i)
	for n := boots + 1; n <= min(b.Boots, boots+maxStarts); n++ {
		for at := until; at >= from && at > 0; at-- {
			filled[i].Boot, filled[i].Time = n, at
			if climb(leaf(filled[i]), path) == b.Root {
				return filled
			}
		}
	}
	return in
}

// step is one sibling on the way from a leaf to the root (RFC 6962, section 2.1.1).
type step struct {
	hash agentkeys.Hash
	left bool // the sibling is on the left
}

func leaf(r record.Record) agentkeys.Hash { return sha256.Sum256(r.Append([]byte{0})) }

func leaves(records []record.Record) []agentkeys.Hash {
	out := make([]agentkeys.Hash, len(records))
	for i, r := range records {
		out[i] = leaf(r)
	}
	return out
}

// auditPath pairs neighbours level by level and carries an odd last node up, which is
// the tree of RFC 6962.
func auditPath(level []agentkeys.Hash, i int) (path []step) {
	for len(level) > 1 {
		if sibling := i ^ 1; sibling < len(level) {
			path = append(path, step{level[sibling], sibling < i})
		}
		var up []agentkeys.Hash
		for j := 0; j < len(level); j += 2 {
			if j+1 == len(level) {
				up = append(up, level[j])
				continue
			}
			up = append(up, inner(level[j], level[j+1]))
		}
		level, i = up, i/2
	}
	return path
}

func climb(node agentkeys.Hash, path []step) agentkeys.Hash {
	for _, s := range path {
		if s.left {
			node = inner(s.hash, node)
		} else {
			node = inner(node, s.hash)
		}
	}
	return node
}

func inner(left, right agentkeys.Hash) agentkeys.Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}
