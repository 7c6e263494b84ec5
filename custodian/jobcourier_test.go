package custodian

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
	mail "example.org/agentkeys/rotation"
	"example.org/agentkeys/rotator"
)

// rotatorEnd is one start of a real rotator at the far end of a pipe.
type rotatorEnd struct {
	conn  net.Conn
	hello api.RotatorHello
	done  chan error
}

func (r *rotating) newRotator() *rotatorEnd {
	r.t.Helper()
	near, far := net.Pipe()
	rot, err := rotator.New(r.vault, far)
	check(r.t, err)
	p := &rotatorEnd{conn: near, done: make(chan error, 1)}
	pub := rot.Public()
	evidence := attest.Software(attest.Measurement{}, attest.KeysHash(pub)).Append(nil)
	go func() {
		err := rot.Serve(evidence)
		_ = far.Close()
		p.done <- err
	}()
	b, err := p.ask(mail.Hello, nil, mail.Hello)
	check(r.t, err)
	keys, err := channel.ParsePublicKeys(b[32:len(pub)])
	check(r.t, err)
	p.hello = api.RotatorHello{Key: b[:32], Noise: keys.Noise[:], MLKEM: keys.KEM[:], Platform: b[len(pub)+4], Evidence: b[len(pub):]}
	return p
}

func (p *rotatorEnd) key() string { return hex.EncodeToString(p.hello.Key) }

func (p *rotatorEnd) ask(typ uint8, body []byte, want uint8) ([]byte, error) {
	if err := mail.WriteMessage(p.conn, typ, body); err != nil {
		return nil, err
	}
	return p.read(want)
}

func (p *rotatorEnd) read(want uint8) ([]byte, error) {
	typ, b, err := mail.ReadMessage(p.conn)
	if err == nil && typ != want {
		err = fmt.Errorf("rotator: type %d where %d was due", typ, want)
	}
	return b, err
}

func (p *rotatorEnd) stop() {
	_ = p.conn.Close()
	<-p.done
}

// hand is what a hostile courier does to what it carries; nil leaves it alone.
type hand struct {
	handshake func([]byte) []byte
	frames    func([]byte) []byte
	envelopes func([]api.Move, [][]byte)
	sealed    func(to string, b []byte) (string, []byte)
	receipts  func([]api.JobReceipt) []api.JobReceipt
	carried   func(api.Job) // a job's receipts are all there, none is handed in
}

// testCourier does what the operator's courier does.
type testCourier struct {
	r    *rotating
	p    *rotatorEnd
	hand hand
	err  error // of the last step
	kept []api.JobReceipt
}

// missingObjects are the keys of objects that the store did not give.
type missingObjects []string

func (m missingObjects) Error() string { return fmt.Sprintf("courier: %d objects are missing", len(m)) }

func (c *testCourier) drop() {
	if c.p != nil {
		c.p.stop()
		c.p = nil
	}
}

func (c *testCourier) rotator(ctx context.Context) (*rotatorEnd, error) {
	if c.p == nil {
		c.p = c.r.newRotator()
		if err := c.r.jobs.vouch(ctx, c.p.hello); err != nil {
			c.drop()
			return nil, err
		}
	}
	return c.p, nil
}

// next runs what is due now and says how long to wait: negative = nothing due.
func (c *testCourier) next(ctx context.Context, user agentkeys.Wallet) (time.Duration, error) {
	wait, err := c.step(ctx, user, nil)
	var missing missingObjects
	if errors.As(err, &missing) {
		c.drop()
		wait, err = c.step(ctx, user, missing)
	}
	if c.err = err; err != nil {
		c.drop()
	}
	return wait, err
}

func (c *testCourier) step(ctx context.Context, user agentkeys.Wallet, missing []string) (time.Duration, error) {
	p, err := c.rotator(ctx)
	if err != nil {
		return 0, err
	}
	j, err := c.r.jobs.next(ctx, api.JobRequest{User: user.String(), Rotator: p.key(), Missing: missing})
	switch {
	case err != nil:
		return 0, err
	case j.Kind == api.JobNone:
		return -1, nil
	case j.Kind == api.JobWait:
		return max(time.Duration(j.WaitMS)*time.Millisecond, 10*time.Millisecond), nil
	}
	receipts, err := c.run(ctx, j)
	if err != nil {
		return 0, err
	}
	return 0, c.hold(ctx, j, receipts)
}

// wrap takes the data keys of some users through one job.
func (c *testCourier) wrap(ctx context.Context, users ...agentkeys.Wallet) (kind string, err error) {
	p, err := c.rotator(ctx)
	if err != nil {
		return "", err
	}
	in := api.WrapRequest{Rotator: p.key()}
	for _, u := range users {
		in.Users = append(in.Users, u.String())
	}
	j, err := c.r.jobs.wrap(ctx, in)
	if err != nil || j.Kind != api.JobWrap {
		return j.Kind, err
	}
	receipts, err := c.run(ctx, j)
	if err == nil {
		err = c.hold(ctx, j, receipts)
	}
	if err != nil {
		c.drop()
	}
	return j.Kind, err
}

// hold hands in the receipts of a job, unless the hand keeps them.
func (c *testCourier) hold(ctx context.Context, j api.Job, receipts []api.JobReceipt) error {
	c.kept = append(c.kept, receipts...)
	if c.hand.carried != nil {
		c.hand.carried(j)
		return nil
	}
	if c.hand.receipts != nil {
		receipts = c.hand.receipts(slices.Clone(receipts))
	}
	if j.Kind == api.JobWrap {
		return c.r.jobs.wrapped(ctx, api.JobReceipts{Receipts: receipts})
	}
	var errs []error
	for _, r := range receipts {
		errs = append(errs, c.r.jobs.receipt(ctx, r))
	}
	return errors.Join(errs...)
}

// run carries one job between custodian, rotator and store.
func (c *testCourier) run(ctx context.Context, j api.Job) ([]api.JobReceipt, error) {
	hello := j.Handshake
	if c.hand.handshake != nil {
		hello = c.hand.handshake(slices.Clone(hello))
	}
	reply, err := c.p.ask(mail.Handshake, hello, mail.Handshake)
	if err != nil {
		return nil, err
	}
	f, err := c.r.jobs.handshake(ctx, api.Handshake{ID: j.ID, Message: reply})
	if err != nil {
		return nil, err
	}
	if c.hand.frames != nil {
		f.Frames = c.hand.frames(f.Frames)
	}
	var out []api.JobReceipt
	if j.Kind != api.JobMove {
		for len(f.Frames) > 0 {
			typ, body, err := c.feed(&f.Frames)
			if err != nil || typ != mail.Receipt {
				return nil, fmt.Errorf("rotator: type %d, %w", typ, err)
			}
			out = append(out, receiptOf(j, body))
		}
		return out, nil
	}
	for moves := range slices.Chunk(f.Entries, receipt.MaxRows) {
		body, err := c.chunk(&f, moves)
		if err != nil {
			return nil, err
		}
		out = append(out, receiptOf(j, body))
	}
	return out, nil
}

func receiptOf(j api.Job, b []byte) api.JobReceipt {
	return api.JobReceipt{ID: j.ID, Kind: b[0], Body: b[1 : len(b)-96], Signature: b[len(b)-96:]}
}

func (c *testCourier) feed(frames *[]byte) (uint8, []byte, error) {
	for len(*frames) >= channel.FrameSize {
		f := (*frames)[:channel.FrameSize]
		*frames = (*frames)[channel.FrameSize:]
		if err := mail.WriteMessage(c.p.conn, mail.Frame, f); err != nil {
			return 0, nil, err
		}
		typ, body, err := mail.ReadMessage(c.p.conn)
		if err != nil || typ != mail.More {
			return typ, body, err
		}
	}
	return 0, nil, errors.New("courier: the frames ran out")
}

func (c *testCourier) chunk(f *api.JobFrames, moves []api.Move) ([]byte, error) {
	old, err := c.fetch(f, moves)
	if err != nil {
		return nil, err
	}
	if c.hand.envelopes != nil {
		c.hand.envelopes(moves, old)
	}
	typ, body, err := c.feed(&f.Frames)
	if err != nil {
		return nil, err
	}
	if typ != mail.Feed || int(binary.BigEndian.Uint16(body)) != len(moves) {
		return nil, fmt.Errorf("rotator: type %d where it should wait for %d envelopes", typ, len(moves))
	}
	for i, m := range moves {
		sealed, err := c.p.ask(mail.Envelope, old[i], mail.Resealed)
		if err != nil {
			return nil, err
		}
		to := m.To
		if c.hand.sealed != nil {
			to, sealed = c.hand.sealed(to, sealed)
		}
		if err := c.r.store.put(to, sealed); err != nil {
			return nil, err
		}
	}
	return c.p.read(mail.Receipt)
}

// fetch gets a chunk's envelopes within the session that the custodian lent.
func (c *testCourier) fetch(f *api.JobFrames, moves []api.Move) (old [][]byte, err error) {
	var missing missingObjects
	for _, m := range moves {
		if !strings.HasPrefix(m.From, f.Store.AccessKey+"/") || !strings.HasPrefix(m.To, f.Store.AccessKey+"/") {
			return nil, errors.New("store: not in the session's prefix")
		}
		b, err := c.r.store.get(m.From)
		if err == nil && envelope.HashOf(b).String() != m.Hash || err != nil && errors.Is(err, blobstore.ErrNotFound) {
			missing = append(missing, m.From)
			continue
		}
		if err != nil {
			return nil, err
		}
		old = append(old, b)
	}
	if len(missing) > 0 {
		return nil, missing
	}
	return old, nil
}
