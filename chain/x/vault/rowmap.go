package vault

import (
	"maps"
	"slices"
)

// rowMap is the store of a vault that has no chain yet.
type rowMap map[string][]byte

func (m rowMap) Get(key []byte) ([]byte, error) { return m[string(key)], nil }

func (m rowMap) Set(key, value []byte) error {
	m[string(key)] = slices.Clone(value)
	return nil
}

func (m rowMap) Delete(key []byte) error {
	delete(m, string(key))
	return nil
}

// rows gives the rows in ascending order of key.
func (m rowMap) rows() []Row {
	var out []Row
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Row{Key: []byte(k), Value: m[k]})
	}
	return out
}
