package auditor_test

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
)

// node is a balanced IAVL tree of version 1 over all rows of a state.
type node struct {
	key, value  []byte
	left, right *node
	height      int64
	size        int64
	hash        [32]byte
}

func tree(rows map[string][]byte) *node { return subtree(rows, slices.Sorted(maps.Keys(rows))) }

func subtree(rows map[string][]byte, keys []string) *node {
	if len(keys) == 1 {
		n := &node{key: []byte(keys[0]), value: rows[keys[0]], size: 1}
		n.hash = leafHash(n.prefix(), n.key, n.value)
		return n
	}
	half := len(keys) / 2
	n := &node{left: subtree(rows, keys[:half]), right: subtree(rows, keys[half:]), size: int64(len(keys))}
	n.height = 1 + max(n.left.height, n.right.height)
	prefix, suffix := n.inner(true)
	n.hash = sha256.Sum256(slices.Concat(prefix, n.left.hash[:], suffix))
	return n
}

func leafHash(prefix, key, value []byte) [32]byte {
	v := sha256.Sum256(value)
	b := append(binary.AppendUvarint(slices.Clone(prefix), uint64(len(key))), key...)
	return sha256.Sum256(append(append(b, 32), v[:]...))
}

func (n *node) prefix() []byte {
	b := binary.AppendVarint(nil, n.height)
	return binary.AppendVarint(binary.AppendVarint(b, n.size), 1)
}

// inner is what stands around a child's hash.
func (n *node) inner(left bool) (prefix, suffix []byte) {
	if left {
		return append(n.prefix(), 32), append([]byte{32}, n.right.hash[:]...)
	}
	return append(append(append(n.prefix(), 32), n.left.hash[:]...), 32), nil
}

// prove encodes that key is there.
func (n *node) prove(key []byte) []byte {
	var steps [][2][]byte
	for n.left != nil {
		left := string(key) < string(n.right.first())
		prefix, suffix := n.inner(left)
		steps = append(steps, [2][]byte{prefix, suffix})
		if left {
			n = n.left
		} else {
			n = n.right
		}
	}
	return exist(n.key, n.value, n.prefix(), steps)
}

func (n *node) first() []byte {
	for n.left != nil {
		n = n.left
	}
	return n.key
}

func exist(key, value, leafPrefix []byte, steps [][2][]byte) []byte {
	b := field(field(nil, 1, key), 2, value)
	b = field(b, 3, field(number(number(number(nil, 1, 1), 3, 1), 4, 1), 5, leafPrefix))
	for _, s := range slices.Backward(steps) {
		op := field(number(nil, 1, 1), 2, s[0])
		if len(s[1]) > 0 {
			op = field(op, 3, s[1])
		}
		b = field(b, 4, op)
	}
	return field(nil, 1, b)
}

// The tree of stores holds "bank" and "vault".
func storesRoot(vault [32]byte) []byte {
	bank, leaf := leafHash([]byte{0}, []byte("bank"), []byte("root")), leafHash([]byte{0}, []byte("vault"), vault[:])
	root := sha256.Sum256(slices.Concat([]byte{1}, bank[:], leaf[:]))
	return root[:]
}

func storesProof(vault [32]byte) []byte {
	bank := leafHash([]byte{0}, []byte("bank"), []byte("root"))
	return exist([]byte("vault"), vault[:], []byte{0}, [][2][]byte{{append([]byte{1}, bank[:]...), nil}})
}
