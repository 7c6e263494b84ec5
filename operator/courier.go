package operator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rotation"
)

// Courier carries bytes between custodian, rotator and store. It sees sealed
// frames and ciphertext, and holds a store session for one user's job.
type Courier struct {
	// turn is held by the one job that is with the rotator.
	turn      sync.Mutex
	custodian *custodianClient
	rotators  *rotatorPool
	store     *http.Client
	progress  func(user string, kind string, done, total int)
}

// errMissing carries the keys of objects that the store did not give.
type errMissing struct{ keys []string }

func (e errMissing) Error() string {
	return fmt.Sprintf("courier: %d objects are missing", len(e.keys))
}

// Step runs what is due for a user now. It returns how long to wait before asking
// again: 0 = at once, negative = nothing due. It may be called for several users at a
// time: the rotator has one job at a time, and what blocks take is waited for together.
func (c *Courier) Step(ctx context.Context, user agentkeys.Wallet, height uint64) (time.Duration, error) {
	p, err := c.rotators.get(ctx)
	if err != nil {
		return 0, err
	}
	var missing []string
	for {
		j, err := c.custodian.job(ctx, api.JobRequest{User: user.String(), Rotator: p.key(), Missing: missing, Height: height})
		if api.CodeOf(err) == "rotator_unknown" {
			c.rotators.drop(p)
		}
		if err != nil {
			return 0, err
		}
		switch j.Kind {
		case api.JobNone:
			return -1, nil
		case api.JobWait:
			return max(time.Duration(j.WaitMS)*time.Millisecond, 10*time.Millisecond), nil
		}
		report, err := c.run(ctx, p, user, j)
		var m errMissing
		if errors.As(err, &m) && missing == nil {
			missing = m.keys
			c.rotators.drop(p) // it waits for the rest of a job that is given up
			if p, err = c.rotators.get(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			c.rotators.drop(p)
			return 0, err
		}
		return 0, report()
	}
}

// Wrap takes the data keys of users that are under an older shielding key through one job.
func (c *Courier) Wrap(ctx context.Context, users []agentkeys.Wallet, height uint64) error {
	p, err := c.rotators.get(ctx)
	if err != nil {
		return err
	}
	in := api.WrapRequest{Rotator: p.key(), Height: height}
	for _, u := range users {
		in.Users = append(in.Users, u.String())
	}
	j, err := c.custodian.wrap(ctx, in)
	if api.CodeOf(err) == "rotator_unknown" {
		c.rotators.drop(p)
	}
	if err != nil || j.Kind == api.JobNone {
		return err
	}
	report, err := c.run(ctx, p, agentkeys.Wallet{}, j)
	if err != nil {
		c.rotators.drop(p)
		return err
	}
	return report()
}

// run takes a job through the rotator. What is left is to report the receipts, for which
// the rotator is not needed.
func (c *Courier) run(ctx context.Context, p *rotatorProcess, user agentkeys.Wallet, j api.Job) (report func() error, err error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetDeadline(time.Now()) })
	defer stop()
	reply, err := p.ask(rotation.Handshake, j.Handshake, rotation.Handshake)
	if err != nil {
		return nil, err
	}
	f, err := c.custodian.handshake(ctx, api.Handshake{ID: j.ID, Message: reply})
	if err != nil {
		return nil, err
	}
	if j.Kind == api.JobMove {
		return c.move(ctx, p, user, j, f)
	}
	receipts, err := feedAll(p, j.ID, f.Frames)
	if err != nil {
		return nil, err
	}
	if j.Kind == api.JobWrap {
		return func() error { return c.custodian.wrapped(ctx, api.JobReceipts{Receipts: receipts}) }, nil
	}
	if len(receipts) != 1 {
		return nil, fmt.Errorf("rotator: gave %d receipts where one was due", len(receipts))
	}
	return func() error { return c.custodian.receipt(ctx, receipts[0]) }, nil
}

// feedAll sends all frames of a job and gathers the receipts.
func feedAll(p *rotatorProcess, id string, frames []byte) (out []api.JobReceipt, err error) {
	for len(frames) > 0 {
		typ, body, err := feed(p, &frames)
		if err != nil {
			return nil, err
		}
		if typ != rotation.Receipt {
			return nil, fmt.Errorf("rotator: answered with type %d where a receipt was due", typ)
		}
		r, err := signed(id, body)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// feed sends frames until the rotator answers something else than More.
func feed(p *rotatorProcess, frames *[]byte) (uint8, []byte, error) {
	for len(*frames) >= channel.FrameSize {
		f := (*frames)[:channel.FrameSize]
		*frames = (*frames)[channel.FrameSize:]
		if err := rotation.WriteMessage(p.conn, rotation.Frame, f); err != nil {
			return 0, nil, fmt.Errorf("rotator: %w", err)
		}
		typ, body, err := rotation.ReadMessage(p.conn)
		if err != nil {
			return 0, nil, fmt.Errorf("rotator: %w", err)
		}
		if typ != rotation.More {
			return typ, body, nil
		}
	}
	return 0, nil, errors.New("courier: the job's frames ran out")
}

// signed splits what the rotator signed: kind 1, body, signature 96.
func signed(id string, b []byte) (api.JobReceipt, error) {
	if len(b) < 1+96 {
		return api.JobReceipt{}, errors.New("rotator: receipt is too short")
	}
	return api.JobReceipt{ID: id, Kind: b[0], Body: b[1 : len(b)-96], Signature: b[len(b)-96:]}, nil
}

// move carries chunk after chunk. While the rotator works on one, in order, the objects of
// the next are fetched and those of the last are stored; once they are, its receipt goes to
// the custodian.
func (c *Courier) move(ctx context.Context, p *rotatorProcess, user agentkeys.Wallet, j api.Job, f api.JobFrames) (report func() error, err error) {
	if f.Store == nil {
		return nil, errors.New("custodian: job without a store session")
	}
	store, err := blobstore.NewCourier(blobstore.Session{Endpoint: f.Store.Endpoint, Region: f.Store.Region, Bucket: f.Store.Bucket,
		AccessKey: f.Store.AccessKey, Secret: f.Store.SecretKey, SessionToken: f.Store.SessionToken,
		Expiry: time.Unix(f.Store.Expires, 0)}, c.store)
	if err != nil {
		return nil, err
	}
	ahead, cancel := context.WithCancel(ctx)
	defer cancel()
	frames, total, done := f.Frames, len(f.Entries), 0
	reports := newReports()
	chunks := slices.Collect(slices.Chunk(f.Entries, receipt.MaxRows))
	var next func() ([][]byte, error)
	for i, moves := range chunks {
		if i == 0 {
			next = prefetch(ahead, store, moves)
		}
		old, err := next()
		if err != nil {
			return nil, errors.Join(err, reports.wait())
		}
		if i+1 < len(chunks) {
			next = prefetch(ahead, store, chunks[i+1])
		}
		puts := newPuts(ctx, store)
		b, err := chunk(p, puts, &frames, moves, old)
		if err != nil {
			return nil, errors.Join(err, puts.wait(), reports.wait())
		}
		r, err := signed(j.ID, b)
		if err != nil {
			return nil, errors.Join(err, puts.wait(), reports.wait())
		}
		reports.add(func() error {
			if err := puts.wait(); err != nil {
				return err
			}
			return c.custodian.receipt(ctx, r)
		})
		done += len(moves)
		if c.progress != nil {
			c.progress(user.String(), j.Kind, done, total)
		}
	}
	return reports.wait, nil
}

// chunk takes the envelopes of one chunk through the rotator and gives its receipt.
func chunk(p *rotatorProcess, puts *puts, frames *[]byte, moves []api.Move, old [][]byte) ([]byte, error) {
	typ, body, err := feed(p, frames)
	if err != nil {
		return nil, err
	}
	if typ != rotation.Feed || len(body) != 2 || int(binary.BigEndian.Uint16(body)) != len(moves) {
		return nil, errors.New("rotator: waits for another number of envelopes")
	}
	for i, m := range moves {
		sealed, err := p.ask(rotation.Envelope, old[i], rotation.Resealed)
		if err != nil {
			return nil, err
		}
		puts.add(m.To, sealed)
	}
	return p.read(rotation.Receipt)
}
