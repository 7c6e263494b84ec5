package rules

import (
	"bytes"
	"fmt"
	"slices"

	"example.org/agentkeys"
)

// MaxTouched is the most users one Touched row lists; above it the row says all.
const MaxTouched = 4096

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
