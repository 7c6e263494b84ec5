package rules

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"example.org/agentkeys"
)

// MaxTouched is the most users one Touched row lists; above it the row says all.
const MaxTouched = 4096

// How far a [Touched] row reaches.
const (
	TouchedUsers  = 0 // only the users listed
	TouchedAll    = 1 // everything
	TouchedSystem = 2 // the users listed, and rows without a user
)

// Touched says what a block changed.
type Touched struct {
	Height   uint64
	Previous uint64 // height of the Touched row before, 0 = none
	Scope    uint8
	Users    []agentkeys.Wallet
}

// Touch writes the Touched row of a block. Call it at the end of a block in which
// something changed, and only then: a row in every block would keep an idle chain
// busy.
func Touch(kv KV, height uint64, users []agentkeys.Wallet, scope uint8) error {
	last, _, err := get(kv, TouchedHeadKey(), ParseTouched)
	if err != nil {
		return err
	}
	if height <= last.Height {
		return fmt.Errorf("rules: block %d is not after %d, the last with a touched row", height, last.Height)
	}
	users = slices.Clone(users)
	slices.SortFunc(users, func(a, b agentkeys.Wallet) int { return bytes.Compare(a[:], b[:]) })
	users = slices.Compact(users)
	if len(users) > MaxTouched {
		scope = TouchedAll
	}
	if scope == TouchedAll {
		users = nil
	}
	row := Touched{Height: height, Previous: last.Height, Scope: scope, Users: users}.Append(nil)
	if err := kv.Set(TouchedKey(height), row); err != nil {
		return err
	}
	return kv.Set(TouchedHeadKey(), row)
}

// Append adds height 8, previous 8, scope 1, count 4, users of 20.
func (t Touched) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, t.Height), t.Previous)
	b = binary.BigEndian.AppendUint32(append(b, t.Scope), uint32(len(t.Users)))
	for _, u := range t.Users {
		b = append(b, u[:]...)
	}
	return b
}

// ParseTouched reads what Append wrote.
func ParseTouched(b []byte) (t Touched, err error) {
	r := agentkeys.NewReader(b)
	t.Height, t.Previous, t.Scope = r.U64(), r.U64(), r.U8()
	n := int(r.U32())
	if t.Scope > TouchedSystem || n > MaxTouched || r.Len() != 20*n {
		return t, agentkeys.ErrLayout
	}
	t.Users = make([]agentkeys.Wallet, n)
	for i := range t.Users {
		r.Copy(t.Users[i][:])
	}
	return t, r.Close()
}
