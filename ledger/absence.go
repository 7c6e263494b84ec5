package ledger

import (
	"bytes"
	"fmt"
)

// side is a neighbour of an absent key, proven present.
type side struct {
	existence
	root  [32]byte
	turns []turn
}

// absentRoot checks an ICS23 NonExistenceProof {key 1, left 2, right 3} for key and
// returns the root of the IAVL tree it is about. At the edge of the tree one neighbour
// is missing.
func absentRoot(b, key []byte) (root [32]byte, err error) {
	var proven []byte
	var left, right *side
	inner, err := parseOneof(b, oneofNonexist)
	if err != nil {
		return root, err
	}
	kinds := map[int]int{1: wireBytes, 2: wireBytes, 3: wireBytes}
	err = fields(inner, kinds, 0, func(f wireField) (err error) {
		switch f.id {
		case 1:
			proven = f.data
		case 2:
			left, err = parseSide(f.data)
		case 3:
			right, err = parseSide(f.data)
		}
		return err
	})
	if err != nil {
		return root, err
	}
	if len(key) == 0 || !bytes.Equal(proven, key) || !around(left, right, key) {
		return root, fmt.Errorf("%w: absence", ErrProof)
	}
	if left == nil {
		return right.root, nil
	}
	return left.root, nil
}

func parseSide(b []byte) (*side, error) {
	e, err := parseExist(b)
	if err != nil {
		return nil, err
	}
	root, turns, err := e.iavlRoot()
	return &side{e, root, turns}, err
}

// around reports whether left and right are neighbours in one tree with key between
// them, or the one that is there is the outermost leaf on the other side of key.
func around(left, right *side, key []byte) bool {
	switch {
	case left == nil && right == nil:
		return false
	case left == nil:
		return bytes.Compare(key, right.key) < 0 && all(right.turns, fromLeft)
	case right == nil:
		return bytes.Compare(key, left.key) > 0 && all(left.turns, fromRight)
	}
	return bytes.Compare(left.key, key) < 0 && bytes.Compare(key, right.key) < 0 &&
		left.root == right.root && neighbours(left, right)
}

// neighbours walks down from the root along the common path. Where it parts, left goes
// into the left child and from there to its rightmost leaf, right the other way round.
func neighbours(left, right *side) bool {
	l, r := len(left.path)-1, len(right.path)-1
	for l >= 0 && r >= 0 && left.path[l].equal(right.path[r]) {
		l, r = l-1, r-1
	}
	if l < 0 || r < 0 || left.turns[l] != fromLeft || right.turns[r] != fromRight {
		return false
	}
	return all(left.turns[:l], fromRight) && all(right.turns[:r], fromLeft)
}

func all(turns []turn, want turn) bool {
	for _, t := range turns {
		if t != want {
			return false
		}
	}
	return true
}
