package agentkeys

import (
	"encoding/binary"
	"errors"
)

// ErrLayout is what Parse functions return for bytes that are short, long or out
// of range.
var ErrLayout = errors.New("layout: wrong length or value")

// Reader is a cursor over a fixed big-endian layout. The first read past the end
// makes every later one fail; Close reports that and trailing bytes.
type Reader struct {
	b      []byte
	failed bool
}

// NewReader reads from b without copying it.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Take returns the next n bytes of the input, or nil after a failure.
func (r *Reader) Take(n int) []byte {
	if r.failed || n < 0 || len(r.b) < n {
		r.failed = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// Copy fills one slice after another with the next bytes.
func (r *Reader) Copy(into ...[]byte) {
	for _, dst := range into {
		copy(dst, r.Take(len(dst)))
	}
}

// U8 reads one byte.
func (r *Reader) U8() uint8 {
	b := r.Take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

// U16 reads a big-endian 16-bit number.
func (r *Reader) U16() uint16 {
	b := r.Take(2)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

// U32 reads a big-endian 32-bit number.
func (r *Reader) U32() uint32 {
	b := r.Take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// U64 reads a big-endian 64-bit number.
func (r *Reader) U64() uint64 {
	b := r.Take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Bool reads one byte that must be 0 or 1.
func (r *Reader) Bool() bool {
	b := r.U8()
	if b > 1 {
		r.failed = true
	}
	return b == 1
}

// Fail marks the input as bad; use it for values out of range.
func (r *Reader) Fail() { r.failed = true }

// Len is the number of bytes left.
func (r *Reader) Len() int { return len(r.b) }

// Close returns [ErrLayout] if any read failed or bytes are left over.
func (r *Reader) Close() error {
	if r.failed || len(r.b) != 0 {
		return ErrLayout
	}
	return nil
}
