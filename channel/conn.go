package channel

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"

	"example.org/agentkeys"
)

// A frame has one size whatever it carries: final 1, data length 2, data, zeros to
// 4096, tag 16. A message is a length 4 and its bytes, and begins a frame.
const (
	plainSize  = 4096
	MaxData    = plainSize - 3
	FrameSize  = plainSize + tagSize
	MaxMessage = 1 << 20
	maxFrames  = 1 << 32 // in each direction
)

// ErrBroken is what a channel returns after any failure or misuse, for good.
var ErrBroken = errors.New("channel: broken, start the job again")

// Conn is one end of a channel for one job. Frames open in the order in which they
// were sealed, once. Any failure ends both directions for good. One goroutine may
// seal while another opens.
type Conn struct {
	job    agentkeys.JobID
	tx, rx half
	dead   atomic.Bool
}

// half is one direction: key, number of the next frame, whether the final one has
// passed.
type half struct {
	aead  cipher.AEAD
	n     uint64
	final bool
}

// Job is the job both sides agreed on.
func (c *Conn) Job() agentkeys.JobID { return c.job }

// Close ends both directions. It returns [ErrBroken], for the caller to return.
func (c *Conn) Close() error {
	c.dead.Store(true)
	return ErrBroken
}

func (c *Conn) closed(h *half) bool { return c.dead.Load() || h.final || h.n == maxFrames }

// Seal makes one frame of 1 to [MaxData] bytes. Nothing follows the final frame.
func (c *Conn) Seal(data []byte, final bool) ([]byte, error) {
	if len(data) == 0 || len(data) > MaxData || c.closed(&c.tx) {
		return nil, c.Close()
	}
	frame := make([]byte, plainSize, FrameSize)
	if final {
		frame[0] = 1
	}
	binary.BigEndian.PutUint16(frame[1:], uint16(len(data)))
	copy(frame[3:], data)
	frame = c.tx.aead.Seal(frame[:0], nonce(c.tx.n), frame, nil)
	c.tx.n, c.tx.final = c.tx.n+1, final
	return frame, nil
}

// Open opens the next frame where it lies: data is a part of frame, which the
// caller clears.
func (c *Conn) Open(frame []byte) (data []byte, final bool, err error) {
	if len(frame) != FrameSize || c.closed(&c.rx) {
		return nil, false, c.Close()
	}
	plain, err := c.rx.aead.Open(frame[:0], nonce(c.rx.n), frame, nil)
	r := agentkeys.NewReader(plain)
	final, data = r.Bool(), r.Take(int(r.U16()))
	padding := r.Take(r.Len())
	if err != nil || r.Close() != nil || len(data) == 0 || len(bytes.TrimLeft(padding, "\x00")) > 0 {
		clear(plain)
		return nil, false, c.Close()
	}
	c.rx.n, c.rx.final = c.rx.n+1, final
	return data, final, nil
}

// WriteMessage sends up to [MaxMessage] bytes in as many frames as it takes. Last
// marks the end of this direction.
func (c *Conn) WriteMessage(w io.Writer, m []byte, last bool) error {
	if len(m) > MaxMessage {
		return c.Close()
	}
	rest := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(m)), uint32(len(m))), m...)
	defer clear(rest)
	for len(rest) > 0 {
		n := min(len(rest), MaxData)
		frame, err := c.Seal(rest[:n], last && n == len(rest))
		if err != nil {
			return err
		}
		if _, err := w.Write(frame); err != nil {
			return c.Close()
		}
		rest = rest[n:]
	}
	return nil
}

// ReadMessage returns the next message, at most limit bytes, in a slice of its own
// that the caller clears. Last is true for the message that ends this direction: a
// stream that stops before it was cut, which is an error like any other.
func (c *Conn) ReadMessage(r io.Reader, limit int) (m []byte, last bool, err error) {
	frame := make([]byte, FrameSize)
	defer clear(frame)
	for m == nil || len(m) < cap(m) {
		_, readErr := io.ReadFull(r, frame)
		data, final, err := c.Open(frame)
		if m == nil && len(data) >= 4 && binary.BigEndian.Uint32(data) <= uint32(limit) {
			m, data = make([]byte, 0, binary.BigEndian.Uint32(data)), data[4:]
		}
		// A message has room for its data, and the final frame ends where one does.
		if room := cap(m) - len(m) - len(data); readErr != nil || err != nil || m == nil || room < 0 || final && room > 0 {
			clear(m)
			return nil, false, c.Close()
		}
		m, last = append(m, data...), final
	}
	return m, last, nil
}
