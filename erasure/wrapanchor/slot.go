package wrapanchor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"example.org/agentkeys"
	"example.org/agentkeys/erasure"
)

// state of a slot on disk.
type state byte

const (
	free       state = 0 // no file
	making     state = 1 // the key may exist, no root was wrapped for good
	holding    state = 2
	destroying state = 3 // the chain has moved on: the key must go
)

const (
	magic   = "AKw1"
	maxName = 512
	maxBlob = 8192
)

// slot is one file and what it opens.
type slot struct {
	file  string
	state state
	name  string
	blob  []byte
	root  erasure.Root // if opens
	opens bool
}

// append gives the bytes of docs/spec/anchors.md, "Wrapped roots".
func (s *slot) append() []byte {
	b := append([]byte(magic), byte(s.state))
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.name)))
	b = append(b, s.name...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.blob)))
	return append(b, s.blob...)
}

var errDamaged = errors.New("slot file is damaged: restore it or evict the anchor")

// parse is the inverse of append and refuses everything else.
func (s *slot) parse(b []byte) error {
	r := agentkeys.NewReader(b)
	header, st := r.Take(len(magic)), state(r.U8())
	name := r.Take(int(r.U16()))
	blob := r.Take(int(r.U16()))
	if r.Close() != nil || string(header) != magic || st < making || st > destroying ||
		len(name) == 0 || len(name) > maxName || len(blob) > maxBlob || (st == making) != (len(blob) == 0) {
		return errDamaged
	}
	s.state, s.name, s.blob = st, string(name), append([]byte(nil), blob...)
	return nil
}

// slots is both files while the directory is locked.
type slots struct {
	slots  [2]slot
	unlock func()
}

func (h *slots) end() {
	for i := range h.slots {
		clear(h.slots[i].root[:])
	}
	h.unlock()
}

// find gives the slot that opens a root, or -1.
func (h *slots) find(root erasure.Root) int {
	for i := range h.slots {
		if h.slots[i].opens && h.slots[i].root == root {
			return i
		}
	}
	return -1
}

// free gives a slot that holds no root, an empty one first, or -1.
func (h *slots) free() int {
	at := -1
	for i := range h.slots {
		switch h.slots[i].state {
		case free:
			return i
		case making:
			at = i
		}
	}
	return at
}

// begin locks the directory, reads both files and opens what they hold.
func (a *Anchor) begin(ctx context.Context) (*slots, error) {
	unlock, err := a.lock()
	if err != nil {
		return nil, err
	}
	h := &slots{unlock: unlock}
	for i, file := range [2]string{"slot-a", "slot-b"} {
		s := &h.slots[i]
		s.file = file
		if err = a.read(s); err == nil {
			err = a.open(ctx, s)
		}
		if err != nil {
			h.end()
			return nil, err
		}
	}
	return h, nil
}

// open unwraps the root of a slot. A slot that should open and does not stops
// everything: with another device attached nothing may be written over.
func (a *Anchor) open(ctx context.Context, s *slot) (err error) {
	if s.state == free || s.state == making {
		return nil
	}
	if s.state == destroying && a.drop(ctx, s) == nil {
		return nil
	}
	s.root, err = a.keys.Open(ctx, s.name, s.blob)
	switch {
	case errors.Is(err, ErrGone):
		return fmt.Errorf("%s: %s: %w: wrong device or old files; connect the right one or evict the anchor", a.kind, s.file, err)
	case err != nil:
		return fmt.Errorf("%s: %s: unwrap root: %w", a.kind, s.file, err)
	case s.root == (erasure.Root{}):
		return fmt.Errorf("%s: %s: %w", a.kind, s.file, errDamaged)
	}
	s.opens = true
	return nil
}
