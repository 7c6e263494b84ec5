package ledger

import (
	"encoding/hex"
	"errors"
	"strings"
)

// Hex is bytes that the node's JSON writes as upper-case hex. Other spellings are
// refused.
type Hex []byte

// MarshalText writes upper-case hex.
func (h Hex) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// String gives upper-case hex.
func (h Hex) String() string { return strings.ToUpper(hex.EncodeToString(h)) }

// UnmarshalText reads upper-case hex; an empty string gives nil.
func (h *Hex) UnmarshalText(text []byte) error {
	*h = nil
	if len(text) == 0 {
		return nil
	}
	b, err := hex.DecodeString(string(text))
	if err != nil || strings.ToUpper(string(text)) != string(text) {
		return errors.New("hex: want upper-case hex digits")
	}
	*h = b
	return nil
}
