package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
)

// fakeChain is a chain in memory: real headers, votes, trees and proofs, no consensus.
type fakeChain struct {
	t  testing.TB
	id string
	// signers are the keys of all validators so far.
	signers []ed25519.PrivateKey

	mu     sync.Mutex
	set    *Validators
	next   *Validators
	rows   map[string][]byte
	blocks []*LightBlock // block h at h-1
	states []map[string][]byte
	txs    [][][]byte
	trees  map[uint64]*tree // of the state after a block
	start  time.Time
}

// newFakeChain has two blocks and one row, so that a client can prove state from the
// third on.
func newFakeChain(t testing.TB, validators int) *fakeChain {
	f := &fakeChain{t: t, id: "fake-1", rows: map[string][]byte{"genesis": {1}}, start: time.Now().Add(-time.Minute),
		trees: map[uint64]*tree{}}
	f.rotate(1, validators)
	f.set = f.next
	f.block(nil)
	f.block(nil)
	f.block(nil)
	return f
}

// fakeKeys derives n validator keys; first tells chains and sets apart.
func fakeKeys(first, n int) []ed25519.PrivateKey {
	keys := make([]ed25519.PrivateKey, n)
	for i := range keys {
		seed := sha256.Sum256(fmt.Append(nil, "validator ", first+i))
		keys[i] = ed25519.NewKeyFromSeed(seed[:])
	}
	return keys
}

// rotate names the validators of the block after next.
func (f *fakeChain) rotate(first, n int) {
	keys := fakeKeys(first, n)
	f.signers = append(keys, f.signers...)
	f.next = setOf(f.t, keys)
}

func setOf(t testing.TB, keys []ed25519.PrivateKey) *Validators {
	members := make([]Validator, len(keys))
	for i, k := range keys {
		pub := k.Public().(ed25519.PublicKey)
		address := sha256.Sum256(pub)
		members[i] = Validator{address[:20], PublicKey{ed25519KeyType, pub}, 10}
	}
	set, err := NewValidators(members)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// change makes one block that sets rows of users and lists them as touched, and the
// block that proves it. It returns the height of the first.
func (f *fakeChain) change(scope uint8, rows map[string][]byte, users ...agentkeys.Wallet) uint64 {
	h := f.block(func(kv rules.KV, height uint64) {
		for k, v := range rows {
			if v == nil {
				f.check(kv.Delete([]byte(k)))
			} else {
				f.check(kv.Set([]byte(k), v))
			}
		}
		f.check(rules.Touch(kv, height, users, scope))
	})
	f.block(nil)
	return h
}

func (f *fakeChain) check(err error) {
	if err != nil {
		f.t.Error(err)
	}
}

// block appends one block and returns its height.
func (f *fakeChain) block(apply func(kv rules.KV, height uint64), txs ...[]byte) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	height := uint64(len(f.blocks) + 1)
	set := f.set
	b := f.sign(f.header(height, set, txs), set)
	f.blocks = append(f.blocks, b)
	f.set = f.next
	if apply != nil {
		apply(memKV(f.rows), height)
	}
	f.states = append(f.states, maps.Clone(f.rows))
	f.txs = append(f.txs, txs)
	return height
}

func (f *fakeChain) header(height uint64, set *Validators, txs [][]byte) Header {
	empty := sha256.Sum256(nil)
	own, next, data := set.Hash(), f.next.Hash(), TxsHash(txs)
	h := Header{
		Version: Version{Block: blockProtocol}, ChainID: f.id, Height: height,
		Time:           f.start.Add(time.Duration(height) * time.Millisecond).UTC(),
		LastCommitHash: empty[:], DataHash: data[:], ValidatorsHash: own[:], NextValidatorsHash: next[:],
		ConsensusHash: empty[:], AppHash: empty[:], LastResultsHash: empty[:], EvidenceHash: empty[:],
		ProposerAddress: set.members[0].Address,
	}
	if height > 1 {
		h.LastBlockID = f.blocks[height-2].Commit.BlockID
		h.AppHash = storesRoot(f.tree(height - 1).hash)
	}
	return h
}

// sign makes the commit of a header by all validators whose keys the chain knows.
func (f *fakeChain) sign(h Header, set *Validators) *LightBlock {
	hash := h.Hash()
	parts := sha256.Sum256(hash[:])
	c := Commit{Height: h.Height, BlockID: BlockID{hash[:], PartsHeader{1, parts[:]}}}
	return f.vote(&LightBlock{h, c, set})
}

// vote signs what stands in the commit.
func (f *fakeChain) vote(b *LightBlock) *LightBlock {
	c := &b.Commit
	c.Signatures = nil
	for _, m := range b.Validators.members {
		s := CommitSig{Flag: flagCommit, Address: m.Address, Time: b.Header.Time}
		s.Signature = ed25519.Sign(f.keyOf(m), s.signBytes(c.signPrefix(), c.BlockID, f.id))
		c.Signatures = append(c.Signatures, s)
	}
	return b
}

func (f *fakeChain) keyOf(m Validator) ed25519.PrivateKey {
	for _, k := range f.signers {
		if k.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(m.Key.Value)) {
			return k
		}
	}
	panic("no key for a validator")
}

func (f *fakeChain) height() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(len(f.blocks))
}

func (f *fakeChain) at(height uint64) *LightBlock {
	f.mu.Lock()
	defer f.mu.Unlock()
	if height == 0 {
		height = uint64(len(f.blocks))
	}
	if height > uint64(len(f.blocks)) {
		return nil
	}
	return f.blocks[height-1]
}

func (f *fakeChain) trust() Trust { return Trust{1, f.at(1).Header.Hash()} }

// query answers like the application: value and proof at a height.
func (f *fakeChain) query(key []byte, height uint64) Answer {
	f.mu.Lock()
	state, tree := f.states[height-1], f.tree(height)
	f.mu.Unlock()
	p := &Proof{[]ProofOp{
		{opIAVL, key, tree.prove(key)},
		{opSimple, []byte("vault"), storesProof(tree.hash)},
	}}
	return Answer{Height: height, Key: key, Value: state[string(key)], Proof: p}
}

type memKV map[string][]byte

func (m memKV) Get(key []byte) ([]byte, error) { return m[string(key)], nil }
func (m memKV) Set(key, value []byte) error    { m[string(key)] = slices.Clone(value); return nil }
func (m memKV) Delete(key []byte) error        { delete(m, string(key)); return nil }

// tree is a balanced IAVL tree of version 1.
type tree struct {
	key, value  []byte
	left, right *tree
	height      int64
	size        int64
	hash        [32]byte
}

// tree is that of the state after block height; the caller holds the lock.
func (f *fakeChain) tree(height uint64) *tree {
	if f.trees[height] == nil {
		rows := f.states[height-1]
		f.trees[height] = subtree(rows, slices.Sorted(maps.Keys(rows)))
	}
	return f.trees[height]
}

func subtree(rows map[string][]byte, keys []string) *tree {
	if len(keys) == 1 {
		n := &tree{key: []byte(keys[0]), value: rows[keys[0]], size: 1}
		n.hash = (&existence{key: n.key, value: n.value, leafPrefix: n.prefix()}).leafHash()
		return n
	}
	half := len(keys) / 2
	n := &tree{left: subtree(rows, keys[:half]), right: subtree(rows, keys[half:]), size: int64(len(keys))}
	n.height = 1 + max(n.left.height, n.right.height)
	n.hash = n.fromLeft().hash(n.left.hash)
	return n
}

func (n *tree) prefix() []byte {
	b := binary.AppendVarint(nil, n.height)
	return binary.AppendVarint(binary.AppendVarint(b, n.size), 1)
}

func (n *tree) fromLeft() innerOp {
	return innerOp{append(n.prefix(), 32), append([]byte{32}, n.right.hash[:]...)}
}

func (n *tree) fromRight() innerOp {
	b := append(append(n.prefix(), 32), n.left.hash[:]...)
	return innerOp{append(b, 32), nil}
}

// leaf encodes the ExistenceProof of the i-th leaf.
func (n *tree) leaf(i int64) []byte {
	var path []innerOp
	for n.left != nil {
		if i < n.left.size {
			path = append(path, n.fromLeft())
			n = n.left
		} else {
			path = append(path, n.fromRight())
			i, n = i-n.left.size, n.right
		}
	}
	slices.Reverse(path)
	return encodeExist(n.key, n.value, n.prefix(), path)
}

func (n *tree) find(i int64) []byte {
	for n.left != nil {
		if i < n.left.size {
			n = n.left
		} else {
			i, n = i-n.left.size, n.right
		}
	}
	return n.key
}

// prove encodes the CommitmentProof that key is there or not.
func (n *tree) prove(key []byte) []byte {
	var i int64
	for i < n.size && string(n.find(i)) < string(key) {
		i++
	}
	if i < n.size && string(n.find(i)) == string(key) {
		return appendMessage(nil, oneofExist, n.leaf(i))
	}
	var left, right []byte
	if i > 0 {
		left = n.leaf(i - 1)
	}
	if i < n.size {
		right = n.leaf(i)
	}
	return absence(key, left, right)
}

func encodeExist(key, value, leafPrefix []byte, path []innerOp) []byte {
	b := appendBytes(appendBytes(nil, 1, key), 2, value)
	leaf := appendUint(appendUint(appendUint(nil, 1, hashSHA256), 3, hashSHA256), 4, lengthVarProto)
	b = appendMessage(b, 3, appendBytes(leaf, 5, leafPrefix))
	for _, op := range path {
		inner := appendBytes(appendUint(nil, 1, hashSHA256), 2, op.prefix)
		b = appendMessage(b, 4, appendBytes(inner, 3, op.suffix))
	}
	return b
}

// The tree of stores holds "bank" and "vault".
func bankLeaf() [32]byte {
	return (&existence{key: []byte("bank"), value: []byte("root"), leafPrefix: []byte{0}}).leafHash()
}

func storesRoot(vault [32]byte) []byte {
	leaf := (&existence{key: []byte("vault"), value: vault[:], leafPrefix: []byte{0}}).leafHash()
	root := merkleInner(bankLeaf(), leaf)
	return root[:]
}

func storesProof(vault [32]byte) []byte {
	bank := bankLeaf()
	path := []innerOp{{append([]byte{1}, bank[:]...), nil}}
	return appendMessage(nil, oneofExist, encodeExist([]byte("vault"), vault[:], []byte{0}, path))
}
