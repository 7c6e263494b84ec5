// Package rulestest runs the vault's rules on a map, for tests: a store
// ([MapKV]), a layer over it that can be dropped ([Layer]), a vault that makes
// blocks ([Vault]) and keys that are the same in every run ([Wallet], [Process]).
// Start at [NewVault].
package rulestest

import (
	"bytes"
	"maps"
	"slices"

	"example.org/agentkeys/rules"
)

// MapKV is a store in memory. It copies what goes in and out.
type MapKV map[string][]byte

// Get returns nil, nil for an absent key.
func (m MapKV) Get(key []byte) ([]byte, error) { return bytes.Clone(m[string(key)]), nil }

// Set stores a copy of value.
func (m MapKV) Set(key, value []byte) error {
	m[string(key)] = append([]byte{}, value...)
	return nil
}

// Delete removes a key; an absent one is no error.
func (m MapKV) Delete(key []byte) error {
	delete(m, string(key))
	return nil
}

// Rows lists everything sorted by key, as an export writes it.
func (m MapKV) Rows() []rules.Row {
	rows := make([]rules.Row, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		rows = append(rows, rules.Row{Key: []byte(k), Value: bytes.Clone(m[k])})
	}
	return rows
}

// Layer holds writes back from the store below it until Flush. Dropping it drops
// them, which is what a refused statement needs.
type Layer struct {
	under  rules.KV
	writes map[string][]byte // nil = deleted
}

// NewLayer reads through to under.
func NewLayer(under rules.KV) *Layer { return &Layer{under, map[string][]byte{}} }

// Get sees the layer's own writes first.
func (l *Layer) Get(key []byte) ([]byte, error) {
	if v, ok := l.writes[string(key)]; ok {
		return bytes.Clone(v), nil
	}
	return l.under.Get(key)
}

// Set keeps a copy of value in the layer.
func (l *Layer) Set(key, value []byte) error {
	l.writes[string(key)] = append([]byte{}, value...)
	return nil
}

// Delete hides the key of the store below.
func (l *Layer) Delete(key []byte) error {
	l.writes[string(key)] = nil
	return nil
}

// Flush writes everything to the store below and empties the layer.
func (l *Layer) Flush() error {
	for k, v := range l.writes {
		write := func() error { return l.under.Set([]byte(k), v) }
		if v == nil {
			write = func() error { return l.under.Delete([]byte(k)) }
		}
		if err := write(); err != nil {
			return err
		}
	}
	clear(l.writes)
	return nil
}
