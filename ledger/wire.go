package ledger

import (
	"encoding/binary"
	"errors"
)

// errWire is returned for protobuf bytes that are cut short, overlong or not in the
// form that the encoder of the chain writes.
var errWire = errors.New("protobuf: wrong field, length or value")

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

func appendTag(b []byte, field, wire int) []byte {
	return binary.AppendUvarint(b, uint64(field)<<3|uint64(wire))
}

// appendUint writes a varint field; like every proto3 encoder it leaves out zero.
func appendUint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(appendTag(b, field, wireVarint), v)
}

// appendFixed64 writes an sfixed64 field, little-endian; zero is left out.
func appendFixed64(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.LittleEndian.AppendUint64(appendTag(b, field, wireFixed64), v)
}

// appendBytes writes a bytes or string field; an empty one is left out.
func appendBytes[T []byte | Hex | string](b []byte, field int, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return appendMessage(b, field, v)
}

// appendMessage writes a length-delimited field even when it is empty, as proto3
// does for a message that is present.
func appendMessage[T []byte | Hex | string](b []byte, field int, v T) []byte {
	b = binary.AppendUvarint(appendTag(b, field, wireBytes), uint64(len(v)))
	return append(b, v...)
}

// wireField is one decoded field: num holds varints and fixed numbers, data the
// length-delimited ones. Data aliases the input.
type wireField struct {
	id   int
	wire int
	num  uint64
	data []byte
}

// wireReader walks the fields of one protobuf message. Varints must be minimal.
type wireReader struct {
	b   []byte
	err error
}

// next returns false at the end and after an error.
func (r *wireReader) next() (wireField, bool) {
	if len(r.b) == 0 || r.err != nil {
		return wireField{}, false
	}
	tag := r.uvarint()
	f := wireField{id: int(tag >> 3), wire: int(tag & 7)}
	if tag>>3 == 0 || tag>>3 > 1<<29-1 {
		r.err = errWire
	}
	switch f.wire {
	case wireVarint:
		f.num = r.uvarint()
	case wireFixed64:
		if b := r.take(8); b != nil {
			f.num = binary.LittleEndian.Uint64(b)
		}
	case wireFixed32:
		if b := r.take(4); b != nil {
			f.num = uint64(binary.LittleEndian.Uint32(b))
		}
	case wireBytes:
		f.data = r.take(r.uvarint())
	default:
		r.err = errWire
	}
	return f, r.err == nil
}

func (r *wireReader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)) {
		r.err = errWire
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *wireReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.err = errWire
		return 0
	}
	r.b = r.b[n:]
	return v
}

// fields walks a message whose fields stand in ascending order, each with the wire
// type that kinds gives for it; a field may repeat only where repeat says so. That is
// the one spelling a deterministic encoder produces, so nothing can be hidden in
// another.
func fields(b []byte, kinds map[int]int, repeat int, each func(wireField) error) error {
	r := wireReader{b: b}
	last := 0
	for f, ok := r.next(); ok; f, ok = r.next() {
		kind, known := kinds[f.id]
		if !known || kind != f.wire || f.id < last || f.id == last && f.id != repeat {
			return errWire
		}
		last = f.id
		if err := each(f); err != nil {
			return err
		}
	}
	return r.err
}
