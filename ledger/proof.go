package ledger

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrProof means that an answer of the node does not follow from the verified header.
var ErrProof = errors.New("proof: the answer does not follow from the header")

// Proof ties a key of one store to an app hash: an ICS23 proof in the store's IAVL
// tree and one in the tree of stores.
type Proof struct {
	Ops []ProofOp `json:"ops"`
}

// ProofOp is one ICS23 CommitmentProof and the key it is about.
type ProofOp struct {
	Type string `json:"type"`
	Key  []byte `json:"key"`
	Data []byte `json:"data"`
}

// maxProofOp bounds one op. A row is at most some kilobytes, a path at most 128 steps
// of about 90 bytes, and an absence proof has two of each.
const maxProofOp = 1 << 20

const (
	opIAVL   = "ics23:iavl"
	opSimple = "ics23:simple"
)

// VerifyRow checks that the store holds exactly value under key in the state that
// appHash commits to. An empty value cannot be proven present.
func VerifyRow(appHash []byte, store string, key, value []byte, p Proof) error {
	row, stores, err := p.open(store, key)
	if err != nil {
		return err
	}
	e, err := parseExistence(row, oneofExist)
	if err != nil {
		return err
	}
	if !bytes.Equal(e.key, key) || !bytes.Equal(e.value, value) {
		return fmt.Errorf("%w: another key or value is proven", ErrProof)
	}
	root, _, err := e.iavlRoot()
	if err != nil {
		return err
	}
	return verifyStore(appHash, store, root, stores)
}

// VerifyAbsent checks that the store holds nothing under key in the state that appHash
// commits to.
func VerifyAbsent(appHash []byte, store string, key []byte, p Proof) error {
	row, stores, err := p.open(store, key)
	if err != nil {
		return err
	}
	root, err := absentRoot(row, key)
	if err != nil {
		return err
	}
	return verifyStore(appHash, store, root, stores)
}

func (p Proof) open(store string, key []byte) (row, stores []byte, err error) {
	if len(p.Ops) != 2 || len(p.Ops[0].Data) > maxProofOp || len(p.Ops[1].Data) > maxProofOp {
		return nil, nil, fmt.Errorf("%w: want two ops", ErrProof)
	}
	if p.Ops[0].Type != opIAVL || !bytes.Equal(p.Ops[0].Key, key) ||
		p.Ops[1].Type != opSimple || string(p.Ops[1].Key) != store {
		return nil, nil, fmt.Errorf("%w: ops of another kind or key", ErrProof)
	}
	return p.Ops[0].Data, p.Ops[1].Data, nil
}

// verifyStore checks that the tree of stores with root appHash holds the store's root.
func verifyStore(appHash []byte, store string, storeRoot [32]byte, data []byte) error {
	e, err := parseExistence(data, oneofExist)
	if err != nil {
		return err
	}
	if string(e.key) != store || !bytes.Equal(e.value, storeRoot[:]) {
		return fmt.Errorf("%w: another store or root is proven", ErrProof)
	}
	root, err := e.simpleRoot()
	if err != nil {
		return err
	}
	if !bytes.Equal(root[:], appHash) {
		return fmt.Errorf("%w: app hash differs", ErrProof)
	}
	return nil
}

// Fields of CommitmentProof.
const (
	oneofExist    = 1
	oneofNonexist = 2
)

// existence is an ICS23 ExistenceProof; path runs from the leaf to the root.
type existence struct {
	key, value []byte
	leafPrefix []byte
	path       []innerOp
}

// innerOp hashes prefix, child, suffix.
type innerOp struct {
	prefix, suffix []byte
}

// maxPath is the depth limit of ICS23.
const maxPath = 128

// parseExistence unwraps the member of a CommitmentProof that must be an existence
// proof.
func parseExistence(b []byte, member int) (e existence, err error) {
	inner, err := parseOneof(b, member)
	if err != nil {
		return e, err
	}
	return parseExist(inner)
}

func parseOneof(b []byte, member int) (inner []byte, err error) {
	err = fields(b, map[int]int{member: wireBytes}, 0, func(f wireField) error {
		inner = f.data
		return nil
	})
	return inner, err
}

func parseExist(b []byte) (e existence, err error) {
	kinds := map[int]int{1: wireBytes, 2: wireBytes, 3: wireBytes, 4: wireBytes}
	err = fields(b, kinds, 4, func(f wireField) (err error) {
		switch f.id {
		case 1:
			e.key = f.data
		case 2:
			e.value = f.data
		case 3:
			e.leafPrefix, err = parseLeaf(f.data)
		case 4:
			var op innerOp
			if op, err = parseInner(f.data); err == nil && len(e.path) == maxPath {
				err = errWire
			}
			e.path = append(e.path, op)
		}
		return err
	})
	if err == nil && (len(e.key) == 0 || len(e.value) == 0 || len(e.leafPrefix) == 0) {
		err = errWire
	}
	return e, err
}

// Leaf and inner ops name their hash functions; only those of the two specs are taken:
// SHA-256 over the node, keys as they are, values hashed first, lengths as varints.
const (
	hashSHA256     = 1
	lengthVarProto = 1
)

func parseLeaf(b []byte) (prefix []byte, err error) {
	var hash, prehashValue, length uint64
	kinds := map[int]int{1: wireVarint, 3: wireVarint, 4: wireVarint, 5: wireBytes}
	err = fields(b, kinds, 0, func(f wireField) error {
		switch f.id {
		case 1:
			hash = f.num
		case 3:
			prehashValue = f.num
		case 4:
			length = f.num
		case 5:
			prefix = f.data
		}
		return nil
	})
	if err == nil && (hash != hashSHA256 || prehashValue != hashSHA256 || length != lengthVarProto) {
		err = errWire
	}
	return prefix, err
}

func parseInner(b []byte) (op innerOp, err error) {
	var hash uint64
	kinds := map[int]int{1: wireVarint, 2: wireBytes, 3: wireBytes}
	err = fields(b, kinds, 0, func(f wireField) error {
		switch f.id {
		case 1:
			hash = f.num
		case 2:
			op.prefix = f.data
		case 3:
			op.suffix = f.data
		}
		return nil
	})
	if err == nil && hash != hashSHA256 {
		err = errWire
	}
	return op, err
}
