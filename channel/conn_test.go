package channel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// frames seals n one-byte frames, the last of them final if asked.
func frames(t testing.TB, c *Conn, n int, final bool) [][]byte {
	t.Helper()
	out := make([][]byte, n)
	for i := range out {
		frame, err := c.Seal([]byte{byte(i)}, final && i == n-1)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = frame
	}
	return out
}

// sealRaw seals a whole frame plaintext, as a broken or hostile peer could.
func sealRaw(c *Conn, plain []byte) []byte {
	frame := c.tx.aead.Seal(nil, nonce(c.tx.n), plain, nil)
	c.tx.n++
	return frame
}

func mustBreak(t *testing.T, c *Conn, frame []byte) {
	t.Helper()
	if data, _, err := c.Open(frame); err != ErrBroken || data != nil {
		t.Errorf("opened: %v", err)
	}
	if _, err := c.Seal([]byte("x"), false); err != ErrBroken {
		t.Errorf("the other direction lives on: %v", err)
	}
}

func TestFramesHaveOneSize(t *testing.T) {
	a, b := pair(t)
	for _, n := range []int{1, 2, MaxData - 1, MaxData} {
		frame, err := a.Seal(bytes.Repeat([]byte{7}, n), false)
		if err != nil || len(frame) != FrameSize {
			t.Fatalf("%d bytes: frame of %d, %v", n, len(frame), err)
		}
		if data, final, err := b.Open(frame); err != nil || final || !bytes.Equal(data, bytes.Repeat([]byte{7}, n)) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestReplayReorderReflect(t *testing.T) {
	for name, f := range map[string]func(a, b *Conn) (*Conn, []byte){
		"replay": func(a, b *Conn) (*Conn, []byte) {
			sent := frames(t, a, 1, false)[0]
			if _, _, err := b.Open(bytes.Clone(sent)); err != nil {
				t.Fatal(err)
			}
			return b, sent
		},
		"reorder": func(a, b *Conn) (*Conn, []byte) { return b, frames(t, a, 2, false)[1] },
		"reflect": func(a, b *Conn) (*Conn, []byte) { return a, frames(t, a, 1, false)[0] },
		"short":   func(a, b *Conn) (*Conn, []byte) { return b, frames(t, a, 1, false)[0][:FrameSize-1] },
		"long":    func(a, b *Conn) (*Conn, []byte) { return b, append(frames(t, a, 1, false)[0], 0) },
		"empty":   func(a, b *Conn) (*Conn, []byte) { return b, nil },
		"after final": func(a, b *Conn) (*Conn, []byte) {
			if _, _, err := b.Open(frames(t, a, 1, true)[0]); err != nil {
				t.Fatal(err)
			}
			return b, sealRaw(a, append([]byte{0, 0, 1, 9}, make([]byte, plainSize-4)...))
		},
		"of another connection": func(_, b *Conn) (*Conn, []byte) {
			other, _ := pair(t)
			return b, frames(t, other, 1, false)[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, frame := f(pair(t))
			mustBreak(t, c, frame)
		})
	}
}

func TestBrokenForGood(t *testing.T) {
	a, b := pair(t)
	good := frames(t, a, 2, false)
	bad := bytes.Clone(good[0])
	bad[9] ^= 1
	mustBreak(t, b, bad)
	mustBreak(t, b, good[0])
	mustBreak(t, b, good[1])
}

func TestFrameBitFlips(t *testing.T) {
	a, b := pair(t)
	good := frames(t, a, 1, false)[0]
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x80
		fresh := &Conn{tx: half{aead: b.tx.aead}, rx: half{aead: b.rx.aead}}
		if _, _, err := fresh.Open(bad); err != ErrBroken {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, _, err := b.Open(good); err != nil {
		t.Error(err)
	}
}

func TestBadPlaintexts(t *testing.T) {
	plain := func(f func(p []byte)) []byte {
		p := make([]byte, plainSize)
		p[2], p[3] = 1, 'x'
		f(p)
		return p
	}
	for name, p := range map[string][]byte{
		"final 2":         plain(func(p []byte) { p[0] = 2 }),
		"no data":         plain(func(p []byte) { p[2], p[3] = 0, 0 }),
		"length past end": plain(func(p []byte) { binary.BigEndian.PutUint16(p[1:], MaxData+1) }),
		"padding":         plain(func(p []byte) { p[plainSize-1] = 1 }),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			mustBreak(t, b, sealRaw(a, p))
		})
	}
	a, b := pair(t)
	if _, _, err := b.Open(sealRaw(a, plain(func([]byte) {}))); err != nil {
		t.Errorf("the unchanged plaintext does not open: %v", err)
	}
}

func TestSealMisuse(t *testing.T) {
	for name, data := range map[string][]byte{"no data": nil, "too much data": make([]byte, MaxData+1)} {
		a, _ := pair(t)
		if _, err := a.Seal(data, true); err != ErrBroken {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := a.Seal([]byte("x"), false); err != ErrBroken {
			t.Errorf("after %s: %v", name, err)
		}
	}
	a, _ := pair(t)
	frames(t, a, 1, true)
	if _, err := a.Seal([]byte("x"), false); err != ErrBroken {
		t.Errorf("after the final frame: %v", err)
	}
}

func TestFrameNumbersEnd(t *testing.T) {
	a, b := pair(t)
	a.tx.n, b.rx.n = maxFrames-1, maxFrames-1
	if _, _, err := b.Open(frames(t, a, 1, false)[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Seal([]byte("x"), false); err != ErrBroken {
		t.Errorf("frame past the last number: %v", err)
	}
	mustBreak(t, b, sealRaw(a, append([]byte{0, 0, 1, 9}, make([]byte, plainSize-4)...)))
}

func TestMessages(t *testing.T) {
	a, b := pair(t)
	sizes := []int{0, 1, MaxData - 5, MaxData - 4, MaxData - 3, 2*MaxData - 4, 100_000, MaxMessage}
	var wire bytes.Buffer
	for i, n := range sizes {
		if err := a.WriteMessage(&wire, bytes.Repeat([]byte{byte(i + 1)}, n), i == len(sizes)-1); err != nil {
			t.Fatal(err)
		}
	}
	if wire.Len()%FrameSize != 0 {
		t.Errorf("%d bytes on the wire", wire.Len())
	}
	for i, n := range sizes {
		m, last, err := b.ReadMessage(&wire, MaxMessage)
		if err != nil || last != (i == len(sizes)-1) || !bytes.Equal(m, bytes.Repeat([]byte{byte(i + 1)}, n)) {
			t.Fatalf("message %d: %d bytes, last %v, %v", i, len(m), last, err)
		}
	}
	if wire.Len() != 0 {
		t.Errorf("%d bytes left", wire.Len())
	}
	if _, _, err := b.ReadMessage(&wire, MaxMessage); err != ErrBroken {
		t.Errorf("a message after the last: %v", err)
	}
}

func TestCutStream(t *testing.T) {
	for _, cut := range []int{0, 1, FrameSize - 1, FrameSize, 2*FrameSize - 1} {
		a, b := pair(t)
		var wire bytes.Buffer
		if err := a.WriteMessage(&wire, make([]byte, MaxData+10), true); err != nil {
			t.Fatal(err)
		}
		m, _, err := b.ReadMessage(bytes.NewReader(wire.Bytes()[:cut]), MaxMessage)
		if err != ErrBroken || m != nil {
			t.Errorf("cut at %d: %v", cut, err)
		}
		if _, err := b.Seal([]byte("x"), false); err != ErrBroken {
			t.Errorf("cut at %d: lives on", cut)
		}
	}
}

func TestBadMessages(t *testing.T) {
	length := func(n uint32, rest int) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), make([]byte, rest)...)
	}
	for name, f := range map[string]func(a *Conn) [][]byte{
		"over the limit":        func(a *Conn) [][]byte { return sealAll(t, a, length(101, 101)) },
		"length 4294967295":     func(a *Conn) [][]byte { return sealAll(t, a, length(1<<32-1, 8)) },
		"no room for a length":  func(a *Conn) [][]byte { return sealAll(t, a, []byte{0, 0, 0}) },
		"more data than length": func(a *Conn) [][]byte { return sealAll(t, a, length(4, 5)) },
		"more in frame two":     func(a *Conn) [][]byte { return sealAll(t, a, length(4, 3), []byte{1, 2}) },
		"final inside": func(a *Conn) [][]byte {
			frame, err := a.Seal(length(100, 10), true)
			if err != nil {
				t.Fatal(err)
			}
			return [][]byte{frame}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			m, _, err := b.ReadMessage(bytes.NewReader(bytes.Join(f(a), nil)), 100)
			if err != ErrBroken || m != nil {
				t.Errorf("read %d bytes: %v", len(m), err)
			}
		})
	}
	a, b := pair(t)
	wire := bytes.Join(sealAll(t, a, length(100, 60), make([]byte, 40)), nil)
	if m, last, err := b.ReadMessage(bytes.NewReader(wire), 100); err != nil || last || len(m) != 100 {
		t.Errorf("a message at the limit: %d bytes, %v", len(m), err)
	}
}

func sealAll(t *testing.T, c *Conn, data ...[]byte) (out [][]byte) {
	t.Helper()
	for _, d := range data {
		frame, err := c.Seal(d, false)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, frame)
	}
	return out
}

// A final frame inside a message is refused at once, not after waiting for a frame
// that will never come.
func TestFinalInsideDoesNotWait(t *testing.T) {
	a, b := pair(t)
	frame, err := a.Seal([]byte{0, 0, 0, 100, 'x'}, true)
	if err != nil {
		t.Fatal(err)
	}
	more := &countingReader{}
	if _, _, err := b.ReadMessage(io.MultiReader(bytes.NewReader(frame), more), 100); err != ErrBroken || more.reads != 0 {
		t.Errorf("%d reads after the final frame, %v", more.reads, err)
	}
}

type countingReader struct{ reads int }

func (r *countingReader) Read([]byte) (int, error) { r.reads++; return 0, io.EOF }

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("pipe: gone") }

func TestWriteFailures(t *testing.T) {
	a, _ := pair(t)
	if err := a.WriteMessage(failingWriter{}, []byte("x"), false); err != ErrBroken {
		t.Errorf("failed write: %v", err)
	}
	if err := a.WriteMessage(io.Discard, []byte("x"), false); err != ErrBroken {
		t.Errorf("after a failed write: %v", err)
	}
	a, _ = pair(t)
	if err := a.WriteMessage(io.Discard, make([]byte, MaxMessage+1), false); err != ErrBroken {
		t.Errorf("message too long: %v", err)
	}
}

func TestFullDuplex(t *testing.T) {
	a, b := pair(t)
	ar, bw := io.Pipe()
	br, aw := io.Pipe()
	echo := make(chan error, 1)
	go func() {
		for {
			m, last, err := b.ReadMessage(br, MaxMessage)
			if err == nil {
				err = b.WriteMessage(bw, m, last)
			}
			if err != nil || last {
				echo <- err
				return
			}
		}
	}()
	const rounds = 20
	sent := make(chan error, 1)
	go func() {
		for i := range rounds {
			if err := a.WriteMessage(aw, make([]byte, i*700), i == rounds-1); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for i := range rounds {
		if m, last, err := a.ReadMessage(ar, MaxMessage); err != nil || len(m) != i*700 || last != (i == rounds-1) {
			t.Fatalf("message %d: %d bytes, last %v, %v", i, len(m), last, err)
		}
	}
	if err := errors.Join(<-sent, <-echo); err != nil {
		t.Error(err)
	}
}

// Every frame plaintext that opens is the one that Seal makes of its data.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{0, 0, 1, 'x'})
	f.Add([]byte{1, 0, 0})
	f.Add([]byte{2, 0xff, 0xff})
	a, b := pair(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		plain := make([]byte, plainSize)
		copy(plain, in)
		from := &Conn{tx: half{aead: a.tx.aead}}
		to := &Conn{rx: half{aead: b.rx.aead}}
		sealed := sealRaw(from, plain)
		data, final, err := to.Open(bytes.Clone(sealed))
		if err != nil {
			return
		}
		again, err := (&Conn{tx: half{aead: a.tx.aead}}).Seal(data, final)
		if err != nil || !bytes.Equal(again, sealed) {
			t.Fatalf("two frames for %x", data)
		}
	})
}

// Whatever arrives in valid frames, reading neither panics nor exceeds the limit.
func FuzzReadMessage(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'x'}, uint16(5), true)
	f.Add([]byte{0, 0, 1, 0, 'x', 'y'}, uint16(3), false)
	a, b := pair(f)
	f.Fuzz(func(t *testing.T, in []byte, size uint16, final bool) {
		from := &Conn{tx: half{aead: a.tx.aead}}
		to := &Conn{rx: half{aead: b.rx.aead}}
		var wire bytes.Buffer
		for rest := in; len(rest) > 0; {
			n := min(len(rest), int(size)%MaxData+1)
			frame, err := from.Seal(rest[:n], final && n == len(rest))
			if err != nil {
				t.Fatal(err)
			}
			wire.Write(frame)
			rest = rest[n:]
		}
		for range len(in) + 1 {
			m, last, err := to.ReadMessage(&wire, 1000)
			if len(m) > 1000 || err != nil && m != nil {
				t.Fatalf("%d bytes, %v", len(m), err)
			}
			if last || err != nil {
				return
			}
		}
		t.Fatal("more messages than bytes")
	})
}

func BenchmarkFrame(b *testing.B) {
	from, to := pair(b)
	data := make([]byte, MaxData)
	b.SetBytes(MaxData)
	b.ReportAllocs()
	for b.Loop() {
		frame, err := from.Seal(data, false)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := to.Open(frame); err != nil {
			b.Fatal(err)
		}
	}
}
