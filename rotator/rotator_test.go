package rotator_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rotation"
	"example.org/agentkeys/rotator"
)

// courier drives a real rotator over a pipe, as the operator does.
type courier struct {
	t     testing.TB
	vault agentkeys.VaultID
	conn  net.Conn
	pub   channel.PublicKeys
	done  chan error
}

func start(t testing.TB) *courier {
	t.Helper()
	c := &courier{t: t, done: make(chan error, 1)}
	random(c.vault[:])
	near, far := net.Pipe()
	c.conn = near
	r, err := rotator.New(c.vault, far)
	if err != nil {
		t.Fatal(err)
	}
	go func() { c.done <- r.Serve([]byte("evidence")); far.Close() }()
	t.Cleanup(func() { near.Close() })
	_, hello := c.ask(rotation.Hello, nil)
	if c.pub, err = channel.ParsePublicKeys(hello[32 : len(hello)-len("evidence")]); err != nil {
		t.Fatal(err)
	}
	return c
}

func random(b []byte) { _, _ = rand.Read(b) }

// ask sends one message and reads one answer; type 0 means that the rotator died.
func (c *courier) ask(typ uint8, body []byte) (uint8, []byte) {
	c.t.Helper()
	if err := rotation.WriteMessage(c.conn, typ, body); err != nil {
		return 0, nil
	}
	return c.read()
}

func (c *courier) read() (uint8, []byte) {
	typ, body, err := rotation.ReadMessage(c.conn)
	if err != nil {
		return 0, nil
	}
	return typ, body
}

// seal opens a channel and seals the messages of a job into frames.
func (c *courier) seal(messages ...[]byte) [][]byte {
	c.t.Helper()
	var id agentkeys.JobID
	random(id[:])
	i, hello, err := channel.Initiate(c.vault, id, c.pub)
	if err != nil {
		c.t.Fatal(err)
	}
	typ, reply := c.ask(rotation.Handshake, hello)
	if typ != rotation.Handshake {
		c.t.Fatal("no answer to the handshake")
	}
	conn, err := i.Finish(reply)
	if err != nil {
		c.t.Fatal(err)
	}
	var out bytes.Buffer
	for n, m := range messages {
		if err := conn.WriteMessage(&out, m, n == len(messages)-1); err != nil {
			c.t.Fatal(err)
		}
	}
	var frames [][]byte
	for b := out.Bytes(); len(b) > 0; b = b[channel.FrameSize:] {
		frames = append(frames, b[:channel.FrameSize])
	}
	return frames
}

// run feeds frames until the rotator answers something else than More.
func (c *courier) run(frames *[][]byte) (typ uint8, body []byte) {
	c.t.Helper()
	for {
		typ, body = c.ask(rotation.Frame, (*frames)[0])
		*frames = (*frames)[1:]
		if typ != rotation.More {
			return typ, body
		}
	}
}

func wrappingKey(user agentkeys.Wallet, epoch agentkeys.Epoch, version uint32) envelope.WrappingKey {
	k := make([]byte, 32)
	random(k)
	return envelope.WrappingKey{Secret: agentkeys.NewSecret(k), User: user, Epoch: epoch, Version: version}
}

func parseReceipt(t testing.TB, c *courier, body []byte) (uint8, *agentkeys.Reader) {
	t.Helper()
	r := agentkeys.NewReader(body[len(body)-96:])
	s := receipt.ReadSignature(r)
	if !s.Verify(c.vault, body[0], body[1:len(body)-96]) {
		t.Fatal("receipt signature does not verify")
	}
	return body[0], agentkeys.NewReader(body[1 : len(body)-96])
}

func TestMake(t *testing.T) { makeJob(t, start(t)) }

// makeJob plays a job of kind make.
func makeJob(t *testing.T, c *courier) {
	t.Helper()
	to := wrappingKey(agentkeys.Wallet{1}, 1, 1)
	frames := c.seal(rotation.Job{Kind: rotation.Make, To: to}.Append(nil))
	typ, body := c.run(&frames)
	if typ != rotation.Receipt {
		t.Fatalf("answer has type %d", typ)
	}
	_, r := parseReceipt(t, c, body)
	m := receipt.ReadMade(r)
	if _, err := to.Unwrap(c.vault, m.DEKID, m.Wrapped); err != nil || m.User != to.User || m.Epoch != 1 {
		t.Fatalf("receipt does not open: %v", err)
	}
}

// moveJob makes a job of n rows and the envelopes it moves.
type moveJob struct {
	job      rotation.Job
	entries  []rotation.Entry
	old      [][]byte
	from, to envelope.DEK
}

func newMove(t testing.TB, c *courier, n int) *moveJob {
	t.Helper()
	user := agentkeys.Wallet{1}
	m := &moveJob{from: envelope.NewDEK(), to: envelope.NewDEK()}
	m.job = rotation.Job{Kind: rotation.Move, From: wrappingKey(user, 1, 1), To: wrappingKey(user, 2, 1),
		FromID: m.from.ID(c.vault), ToID: m.to.ID(c.vault), Rows: uint32(n)}
	var err error
	if m.job.FromSealed, err = m.job.From.Wrap(c.vault, m.from); err != nil {
		t.Fatal(err)
	}
	if m.job.ToSealed, err = m.job.To.Wrap(c.vault, m.to); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		e := rotation.Entry{Agent: user, Service: agentkeys.ServiceID{byte(i >> 8), byte(i)}, Version: 3}
		random(e.OldBlob[:])
		random(e.NewBlob[:])
		at := envelope.Place{User: user, Service: e.Service, Agent: user, Epoch: 1, Blob: e.OldBlob, Version: 3}
		b, err := envelope.Seal(c.vault, m.from, at, credential(i))
		if err != nil {
			t.Fatal(err)
		}
		e.Hash = envelope.HashOf(b)
		m.entries, m.old = append(m.entries, e), append(m.old, b)
	}
	return m
}

// wrapAgain wraps both data keys as the job now says, where that can be done: a job
// must be refused for what it is, not because its keys do not open.
func (m *moveJob) wrapAgain(c *courier) {
	if w, err := m.job.From.Wrap(c.vault, m.from); err == nil {
		m.job.FromSealed = w
	}
	if w, err := m.job.To.Wrap(c.vault, m.to); err == nil {
		m.job.ToSealed = w
	}
}

// marker is in every credential of the tests.
const marker = "what nobody may find"

func credential(i int) []byte { return append([]byte{byte(i), 7}, marker...) }

func (m *moveJob) messages() [][]byte {
	out := [][]byte{m.job.Append(nil)}
	for at := 0; at < len(m.entries); at += receipt.MaxRows {
		out = append(out, rotation.AppendChunk(nil, m.entries[at:min(at+receipt.MaxRows, len(m.entries))]))
	}
	return out
}

// move plays a whole job and returns the rows of its receipts and the envelopes;
// ok is false when the rotator died.
func (m *moveJob) play(t testing.TB, c *courier) (rows []receipt.Row, sealed [][]byte, ok bool) {
	t.Helper()
	frames := c.seal(m.messages()...)
	for len(rows) < len(m.entries) {
		typ, body := c.run(&frames)
		if typ != rotation.Feed {
			return rows, sealed, false
		}
		for range int(body[0])<<8 | int(body[1]) {
			typ, body := c.ask(rotation.Envelope, m.old[len(sealed)])
			if typ != rotation.Resealed {
				return rows, sealed, false
			}
			sealed = append(sealed, body)
		}
		typ, body = c.read()
		if typ != rotation.Receipt {
			return rows, sealed, false
		}
		_, r := parseReceipt(t, c, body)
		rows = append(rows, receipt.ReadRotated(r).Rows...)
	}
	return rows, sealed, true
}

func TestMove(t *testing.T) {
	for _, n := range []int{1, receipt.MaxRows, receipt.MaxRows + 1, 3 * receipt.MaxRows} {
		moveAndCheck(t, start(t), n)
	}
}

// moveAndCheck plays a job that moves n entries, and opens what comes.
func moveAndCheck(t *testing.T, c *courier, n int) {
	t.Helper()
	m := newMove(t, c, n)
	rows, sealed, ok := m.play(t, c)
	if !ok || len(rows) != n {
		t.Fatalf("%d rows: moved %d", n, len(rows))
	}
	for i, row := range rows {
		at := envelope.Place{User: m.job.To.User, Service: row.Service, Agent: row.Agent, Epoch: 2, Blob: row.NewBlob, Version: 3}
		plain, err := envelope.Open(c.vault, m.to, m.job.ToID, at, sealed[i])
		if err != nil || !bytes.Equal(plain, credential(i)) || envelope.HashOf(sealed[i]) != row.NewHash {
			t.Fatalf("row %d does not open: %v", i, err)
		}
	}
	if typ, _ := c.ask(rotation.Hello, nil); typ != rotation.Hello {
		t.Fatal("rotator died after a good job")
	}
}

// Every refusal kills the rotator: no answer comes, and Serve returns.
func TestMoveRefuses(t *testing.T) {
	cases := map[string]func(*moveJob){
		"skipped epoch":         func(m *moveJob) { m.job.To.Epoch = 3 },
		"second user":           func(m *moveJob) { m.job.To.User = agentkeys.Wallet{2} },
		"zero wrapping key":     func(m *moveJob) { m.job.To.Secret = zeroKey() },
		"equal wrapping keys":   func(m *moveJob) { m.job.To.Secret = m.job.From.Secret },
		"foreign data key id":   func(m *moveJob) { m.job.FromID[0] ^= 1 },
		"repeated row":          func(m *moveJob) { m.entries[1], m.old[1] = m.entries[0], m.old[0] },
		"descending rows":       func(m *moveJob) { m.entries[0], m.entries[1] = m.entries[1], m.entries[0] },
		"other bytes":           func(m *moveJob) { m.old[1][100] ^= 1 },
		"wrong hash":            func(m *moveJob) { m.entries[0].Hash[0] ^= 1 },
		"too few rows":          func(m *moveJob) { m.job.Rows++ },
		"too many rows":         func(m *moveJob) { m.job.Rows-- },
		"another version":       func(m *moveJob) { m.entries[0].Version++ },
		"zero old wrapping key": func(m *moveJob) { m.job.From.Secret = zeroKey() },
		"epoch 0":               func(m *moveJob) { m.job.From.Epoch, m.job.To.Epoch = 0, 1 },
		"same epoch":            func(m *moveJob) { m.job.To.Epoch = 1 },
		"foreign new key id":    func(m *moveJob) { m.job.ToID[0] ^= 1 },
		"one data key":          func(m *moveJob) { m.to, m.job.ToID = m.from, m.job.FromID },
		"no rows":               func(m *moveJob) { m.job.Rows = 0 },
		"envelope of another":   func(m *moveJob) { m.old[1] = m.old[0] },
		"empty envelope":        func(m *moveJob) { m.old[1] = nil },
		"same blob id":          func(m *moveJob) { m.entries[0].NewBlob = m.entries[0].OldBlob },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			m := newMove(t, c, 2)
			spoil(m)
			m.wrapAgain(c)
			if _, _, ok := m.play(t, c); ok {
				t.Fatal("the job went through")
			}
			dead(t, c)
		})
	}
}

func TestWrap(t *testing.T) {
	for name, tc := range map[string]struct {
		to agentkeys.Epoch
		v  uint32
		ok bool
	}{"next version": {1, 2, true}, "same version": {1, 1, false}, "another epoch": {2, 2, false}} {
		t.Run(name, func(t *testing.T) { wrapJob(t, start(t), tc.to, tc.v, tc.ok) })
	}
}

// wrapJob plays a job that wraps a data key again, which ok says goes through.
func wrapJob(t *testing.T, c *courier, to agentkeys.Epoch, version uint32, ok bool) {
	t.Helper()
	dek, user := envelope.NewDEK(), agentkeys.Wallet{1}
	j := rotation.Job{Kind: rotation.Wrap, From: wrappingKey(user, 1, 1), To: wrappingKey(user, to, version), FromID: dek.ID(c.vault)}
	var err error
	if j.FromSealed, err = j.From.Wrap(c.vault, dek); err != nil {
		t.Fatal(err)
	}
	frames := c.seal(j.Append(nil))
	typ, body := c.run(&frames)
	if (typ == rotation.Receipt) != ok {
		t.Fatalf("answer has type %d", typ)
	}
	if ok {
		_, r := parseReceipt(t, c, body)
		w := receipt.ReadRewrapped(r)
		if _, err := j.To.Unwrap(c.vault, j.FromID, w.Wrapped); err != nil {
			t.Fatal(err)
		}
	}
}

// One job wraps the data keys of many users: a receipt for each, bound to its user, and
// no wrapping key of one opens what is another's.
func TestWrapOfManyUsers(t *testing.T) {
	c := start(t)
	jobs := wrapJobs(t, c, 3)
	var messages [][]byte
	for _, j := range jobs {
		messages = append(messages, j.Append(nil))
	}
	frames := c.seal(messages...)
	for i, j := range jobs {
		typ, body := c.run(&frames)
		if typ != rotation.Receipt {
			t.Fatalf("row %d: answer has type %d", i, typ)
		}
		_, r := parseReceipt(t, c, body)
		w := receipt.ReadRewrapped(r)
		if w.User != j.To.User || w.Epoch != j.To.Epoch || w.DEKID != j.FromID {
			t.Errorf("row %d: %+v", i, w)
		}
		for n, other := range jobs {
			if _, err := other.To.Unwrap(c.vault, j.FromID, w.Wrapped); (err == nil) != (n == i) {
				t.Errorf("row %d under the wrapping key of row %d: %v", i, n, err)
			}
		}
	}
	wrapJob(t, c, 1, 2, true) // and it takes another job
}

// wrapJobs are rows for epochs 1 and 2 of the first user and 1 of those after.
func wrapJobs(t *testing.T, c *courier, n int) (jobs []rotation.Job) {
	t.Helper()
	for i := range n {
		user, epoch := agentkeys.Wallet{byte(max(1, i))}, agentkeys.Epoch(1)
		if i == 1 {
			epoch = 2
		}
		dek := envelope.NewDEK()
		j := rotation.Job{Kind: rotation.Wrap, From: wrappingKey(user, epoch, 1), To: wrappingKey(user, epoch, 2), FromID: dek.ID(c.vault)}
		var err error
		if j.FromSealed, err = j.From.Wrap(c.vault, dek); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	return jobs
}

func TestDeadAfterAnError(t *testing.T) {
	c := start(t)
	if typ, _ := c.ask(rotation.Frame, make([]byte, channel.FrameSize)); typ != 0 {
		t.Fatal("a frame outside of a job was answered")
	}
	if err := <-c.done; !errors.Is(err, rotator.ErrJob) {
		t.Fatalf("Serve: %v", err)
	}
}

// A frame comes whole in one message: half of one, or one with more behind it, ends
// the rotator.
func TestFrameOfAnotherSize(t *testing.T) {
	for name, cut := range map[string]func([]byte) []byte{
		"short": func(f []byte) []byte { return f[:channel.FrameSize/2] },
		"long":  func(f []byte) []byte { return append(f, 0) },
		"empty": func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			frames := c.seal(rotation.Job{Kind: rotation.Make, To: wrappingKey(agentkeys.Wallet{1}, 1, 1)}.Append(nil))
			if typ, _ := c.ask(rotation.Frame, cut(bytes.Clone(frames[0]))); typ != 0 {
				t.Fatalf("answered with type %d", typ)
			}
			if err := <-c.done; err == nil {
				t.Fatal("Serve returned no error")
			}
		})
	}
	t.Run("of another type", func(t *testing.T) {
		c := start(t)
		frames := c.seal(rotation.Job{Kind: rotation.Make, To: wrappingKey(agentkeys.Wallet{1}, 1, 1)}.Append(nil))
		if typ, _ := c.ask(rotation.Envelope, frames[0]); typ != 0 {
			t.Fatalf("answered with type %d", typ)
		}
	})
}
