package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// turn says on which side of an inner node the path comes up.
type turn bool

const (
	fromLeft  turn = false
	fromRight turn = true
)

// iavlRoot folds the path of an IAVL leaf. An IAVL node hashes height, size and version
// as zig-zag varints, then key and value hash (leaf) or two length-prefixed children.
func (e *existence) iavlRoot() ([32]byte, []turn, error) {
	if !iavlLeaf(e.leafPrefix) {
		return [32]byte{}, nil, fmt.Errorf("%w: leaf prefix", ErrProof)
	}
	node := e.leafHash()
	turns := make([]turn, len(e.path))
	for i, op := range e.path {
		side, ok := iavlInner(op, int64(i+1))
		if !ok {
			return [32]byte{}, nil, fmt.Errorf("%w: inner node", ErrProof)
		}
		turns[i] = side
		node = op.hash(node)
	}
	return node, turns, nil
}

// iavlLeaf wants height 0, size 1 and a version, and nothing after them.
func iavlLeaf(prefix []byte) bool {
	nums, rest, ok := iavlNums(prefix)
	return ok && len(rest) == 0 && nums[0] == 0 && nums[1] == 1
}

// iavlInner wants a height of at least the level above the leaf (a leaf's encoding,
// height 0, can never pass as an inner node), and then either 0x20 before the child
// and 0x20 and the right sibling after it, or 0x20, the left sibling and 0x20 before.
func iavlInner(op innerOp, level int64) (turn, bool) {
	nums, rest, ok := iavlNums(op.prefix)
	numsLen := len(op.prefix) - len(rest)
	if !ok || nums[0] < level || numsLen+1 < 4 || numsLen+1 > 12 {
		return false, false
	}
	switch {
	case len(rest) == 1 && rest[0] == 32 && len(op.suffix) == 33 && op.suffix[0] == 32:
		return fromLeft, true
	case len(rest) == 34 && rest[0] == 32 && rest[33] == 32 && len(op.suffix) == 0:
		return fromRight, true
	}
	return false, false
}

// iavlNums reads three non-negative minimal zig-zag varints.
func iavlNums(b []byte) (nums [3]int64, rest []byte, ok bool) {
	for i := range nums {
		v, n := binary.Varint(b)
		if n <= 0 || v < 0 || n > 1 && b[n-1] == 0 {
			return nums, nil, false
		}
		nums[i], b = v, b[n:]
	}
	return nums, b, true
}

// simpleRoot folds the path in the tree of stores: RFC 6962 nodes, so the leaf prefix
// is 0x00 and an inner node is 0x01 and two children of 32 bytes.
func (e *existence) simpleRoot() ([32]byte, error) {
	if !bytes.Equal(e.leafPrefix, []byte{0}) {
		return [32]byte{}, fmt.Errorf("%w: store leaf prefix", ErrProof)
	}
	node := e.leafHash()
	for _, op := range e.path {
		left := len(op.prefix) == 1 && len(op.suffix) == 32
		right := len(op.prefix) == 33 && len(op.suffix) == 0
		if !left && !right || op.prefix[0] != 1 {
			return [32]byte{}, fmt.Errorf("%w: store inner node", ErrProof)
		}
		node = op.hash(node)
	}
	return node, nil
}

// leafHash hashes prefix, key with its length, hash of the value with its length.
func (e *existence) leafHash() [32]byte {
	value := sha256.Sum256(e.value)
	b := append(make([]byte, 0, 160), e.leafPrefix...)
	b = appendDelimited(b, e.key)
	return sha256.Sum256(appendDelimited(b, value[:]))
}

func (op innerOp) hash(child [32]byte) [32]byte {
	b := append(make([]byte, 0, 128), op.prefix...)
	b = append(b, child[:]...)
	return sha256.Sum256(append(b, op.suffix...))
}

func (op innerOp) equal(other innerOp) bool {
	return bytes.Equal(op.prefix, other.prefix) && bytes.Equal(op.suffix, other.suffix)
}
