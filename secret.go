package agentkeys

import "fmt"

const redacted = "[redacted]"

// Secret holds plaintext. The bytes sit behind a closure, so no formatter,
// encoder or debugger print that walks fields can reach them; every one of them
// sees "[redacted]". Copying a Secret copies the reference, not the bytes.
type Secret struct {
	reveal func() []byte
}

// NewSecret takes ownership of b: the caller must not use it afterwards, and
// Wipe zeroes it.
func NewSecret(b []byte) Secret {
	return Secret{reveal: func() []byte { return b }}
}

// Reveal returns the plaintext itself, not a copy. Whoever calls it decides that
// a value leaves the vault.
func (s Secret) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Len is the length in bytes.
func (s Secret) Len() int { return len(s.Reveal()) }

// Wipe zeroes the bytes. The Go runtime may have made copies when a slice grew;
// build secrets in slices of their final size.
func (s Secret) Wipe() { clear(s.Reveal()) }

// String gives "[redacted]".
func (s Secret) String() string { return redacted }

// GoString gives "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format gives "[redacted]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText gives "[redacted]", which covers JSON, XML and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
