package custodian

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
	mail "example.org/agentkeys/rotation"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// forger is a registered rotator that signs whatever a test wants.
type forger struct {
	r    *rotating
	key  ed25519.PrivateKey
	keys *channel.Keys
}

func (r *rotating) newForger() *forger {
	r.t.Helper()
	keys, err := channel.NewKeys()
	check(r.t, err)
	_, key, err := ed25519.GenerateKey(nil)
	check(r.t, err)
	f := &forger{r, key, keys}
	check(r.t, r.jobs.vouch(r.t.Context(), f.hello()))
	return f
}

func (f *forger) public() []byte { return f.key.Public().(ed25519.PublicKey) }

func (f *forger) hello() api.RotatorHello {
	p := f.keys.Public()
	e := attest.Software(attest.Measurement{}, attest.KeysHash(f.public(), p.Noise[:], p.KEM[:]))
	return api.RotatorHello{Key: f.public(), Noise: p.Noise[:], MLKEM: p.KEM[:], Platform: statement.PlatformSoftware, Evidence: e.Append(nil)}
}

func (f *forger) request() api.JobRequest {
	return api.JobRequest{User: f.r.owner.Wallet().String(), Rotator: hex.EncodeToString(f.public())}
}

// open takes the job that is due and opens what the custodian sealed.
func (f *forger) open() (id string, job mail.Job, entries []mail.Entry) {
	f.r.t.Helper()
	j, err := f.r.jobs.next(f.r.t.Context(), f.request())
	check(f.r.t, err)
	conn, reply, err := channel.Accept(f.r.vault, f.keys, j.Handshake)
	check(f.r.t, err)
	frames, err := f.r.jobs.handshake(f.r.t.Context(), api.Handshake{ID: j.ID, Message: reply})
	check(f.r.t, err)
	in := bytes.NewReader(frames.Frames)
	for last := false; !last; {
		var m []byte
		m, last, err = conn.ReadMessage(in, mail.MaxMessage)
		check(f.r.t, err)
		if len(m) == mail.JobSize {
			job, err = mail.ParseJob(m)
		} else {
			entries, err = mail.ParseChunk(m)
		}
		check(f.r.t, err)
	}
	return j.ID, job, entries
}

func (f *forger) sign(id string, kind uint8, body []byte) api.JobReceipt {
	s := receipt.Sign(f.key, f.r.vault, kind, body)
	return api.JobReceipt{ID: id, Kind: kind, Body: body, Signature: s.Append(nil)}
}

// made does an honest make job.
func (f *forger) made() (string, receipt.Made) {
	f.r.t.Helper()
	id, job, _ := f.open()
	dek := envelope.NewDEK()
	wrapped, err := job.To.Wrap(f.r.vault, dek)
	check(f.r.t, err)
	jobID, err := agentkeys.ParseJobID(id)
	check(f.r.t, err)
	return id, receipt.Made{Job: jobID, User: job.To.User, Epoch: job.To.Epoch, DEKID: dek.ID(f.r.vault), Wrapped: wrapped}
}

// rotated does an honest move job of one chunk.
func (f *forger) rotated() (string, receipt.Rotated) {
	t := f.r.t
	t.Helper()
	id, job, entries := f.open()
	from, err := job.From.Unwrap(f.r.vault, job.FromID, job.FromSealed)
	check(t, err)
	to, err := job.To.Unwrap(f.r.vault, job.ToID, job.ToSealed)
	check(t, err)
	jobID, err := agentkeys.ParseJobID(id)
	check(t, err)
	c := receipt.Rotated{Job: jobID, User: job.To.User, From: job.From.Epoch, To: job.To.Epoch, FromDEKID: job.FromID, ToDEKID: job.ToID}
	for _, e := range entries {
		at := envelope.Place{User: c.User, Service: e.Service, Agent: e.Agent, Epoch: c.From, Blob: e.OldBlob, Version: e.Version}
		old, err := f.r.store.get(blobstore.Key(c.User, c.From, e.Service, e.OldBlob))
		check(t, err)
		sealed, err := envelope.Reseal(f.r.vault, from, c.FromDEKID, to, c.ToDEKID, at, c.To, e.NewBlob, old)
		check(t, err)
		check(t, f.r.store.put(blobstore.Key(c.User, c.To, e.Service, e.NewBlob), sealed))
		c.Rows = append(c.Rows, receipt.Row{Agent: e.Agent, Service: e.Service, Version: e.Version, OldHash: e.Hash, NewBlob: e.NewBlob, NewHash: envelope.HashOf(sealed)})
	}
	return id, c
}

// A registered rotator that lies about what it made.
func TestMadeReceiptIsChecked(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		r.ask()
		f := r.newForger()
		id, good := f.made()
		refuse := func(name string, in api.JobReceipt) {
			t.Helper()
			wantCode(t, r.jobs.receipt(t.Context(), in), badRequest)
			if u := r.user(); u.Active.Epoch != 1 {
				t.Fatalf("%s: epoch %d opened", name, u.Active.Epoch)
			}
		}
		for name, spoil := range map[string]func(*receipt.Made){
			"another job":        func(m *receipt.Made) { m.Job[0] ^= 1 },
			"another user":       func(m *receipt.Made) { m.User[0] ^= 1 },
			"a later epoch":      func(m *receipt.Made) { m.Epoch++ },
			"the same epoch":     func(m *receipt.Made) { m.Epoch-- },
			"another id":         func(m *receipt.Made) { m.DEKID[0] ^= 1 },
			"the old data key":   func(m *receipt.Made) { u := r.user(); m.DEKID, m.Wrapped = u.Active.DEKID, u.Active.Wrapped },
			"a key that is shut": func(m *receipt.Made) { m.Wrapped[30] ^= 1 },
			"a wrap version":     func(m *receipt.Made) { m.Wrapped[3]++ },
		} {
			m := good
			spoil(&m)
			refuse(name, f.sign(id, receipt.KindMade, m.Append(nil)))
		}
		body := good.Append(nil)
		refuse("another kind", f.sign(id, receipt.KindRotated, body))
		refuse("an unknown kind", f.sign(id, receipt.KindRewrapped, body))
		refuse("trailing bytes", f.sign(id, receipt.KindMade, append(bytes.Clone(body), 0)))
		refuse("a short body", f.sign(id, receipt.KindMade, body[:100]))
		in := f.sign(id, receipt.KindMade, body)
		in.Signature[40] ^= 1
		refuse("a broken signature", in)
		in.Signature = in.Signature[:95]
		refuse("a short signature", in)
		refuse("another registered rotator", r.newForger().sign(id, receipt.KindMade, body))
		check(t, r.jobs.receipt(t.Context(), f.sign(id, receipt.KindMade, body)))
		if u := r.user(); u.Active.Epoch != 2 || u.Active.DEKID != good.DEKID {
			t.Fatalf("the honest receipt: %+v", u)
		}
		r.settle(2)
		r.intact()
	})
}

// A registered rotator that lies about what it moved.
func TestRotatedReceiptIsChecked(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github", "openai")
		f := r.newForger()
		id, good := f.rotated()
		refuse := func(name string, want code, in api.JobReceipt) {
			t.Helper()
			wantCode(t, r.jobs.receipt(t.Context(), in), want)
			if u := r.user(); u.Active.LiveCount != 0 {
				t.Fatalf("%s: something moved", name)
			}
		}
		for name, spoil := range map[string]func(*receipt.Rotated){
			"another job":          func(c *receipt.Rotated) { c.Job[0] ^= 1 },
			"another user":         func(c *receipt.Rotated) { c.User[0] ^= 1 },
			"another from":         func(c *receipt.Rotated) { c.From++ },
			"another to":           func(c *receipt.Rotated) { c.To++ },
			"another old data key": func(c *receipt.Rotated) { c.FromDEKID[0] ^= 1 },
			"another new data key": func(c *receipt.Rotated) { c.ToDEKID[0] ^= 1 },
			"a chunk beyond":       func(c *receipt.Rotated) { c.Chunk = 1 },
			"a chunk far beyond":   func(c *receipt.Rotated) { c.Chunk = 1 << 31 },
			"too many rows":        func(c *receipt.Rotated) { c.Rows = append(c.Rows, c.Rows[1]) },
			"a row twice":          func(c *receipt.Rotated) { c.Rows[1] = c.Rows[0] },
			"rows swapped":         func(c *receipt.Rotated) { c.Rows[0], c.Rows[1] = c.Rows[1], c.Rows[0] },
			"another agent":        func(c *receipt.Rotated) { c.Rows[0].Agent[0] ^= 1 },
			"another service":      func(c *receipt.Rotated) { c.Rows[0].Service[0] ^= 1 },
			"another version":      func(c *receipt.Rotated) { c.Rows[1].Version++ },
			"another old hash":     func(c *receipt.Rotated) { c.Rows[1].OldHash[0] ^= 1 },
			"another new blob":     func(c *receipt.Rotated) { c.Rows[1].NewBlob[0] ^= 1 },
		} {
			c := good
			c.Rows = append([]receipt.Row(nil), good.Rows...)
			spoil(&c)
			refuse(name, badRequest, f.sign(id, receipt.KindRotated, c.Append(nil)))
		}
		body := good.Append(nil)
		refuse("another kind", badRequest, f.sign(id, receipt.KindMade, body))
		refuse("trailing bytes", badRequest, f.sign(id, receipt.KindRotated, append(bytes.Clone(body), 0)))
		empty := good
		empty.Rows = nil
		refuse("no rows", badRequest, f.sign(id, receipt.KindRotated, empty.Append(nil)))
		refuse("another rotator", badRequest, r.newForger().sign(id, receipt.KindRotated, body))
		refuse("the user's own real rotator", badRequest, api.JobReceipt{ID: id, Kind: receipt.KindRotated, Body: body,
			Signature: receipt.Sign(rulestest.Process("rotator"), r.vault, receipt.KindRotated, body).Append(nil)})
		lie := good
		lie.Rows = append([]receipt.Row(nil), good.Rows...)
		lie.Rows[1].NewHash[0] ^= 1
		refuse("another new hash", conflict, f.sign(id, receipt.KindRotated, lie.Append(nil)))
		// The store has to hold what the receipt names, now.
		key := blobstore.Key(good.User, good.To, good.Rows[1].Service, good.Rows[1].NewBlob)
		object := r.object(key)
		r.lose(key)
		refuse("object missing", conflict, f.sign(id, receipt.KindRotated, body))
		r.place(key, append(bytes.Clone(object), 0))
		refuse("object longer", conflict, f.sign(id, receipt.KindRotated, body))
		r.place(key, flip(object, 70))
		refuse("object altered", conflict, f.sign(id, receipt.KindRotated, body))
		r.place(key, object)
		r.away(true)
		refuse("store away", storeUnavailable, f.sign(id, receipt.KindRotated, body))
		r.away(false)
		check(t, r.jobs.receipt(t.Context(), f.sign(id, receipt.KindRotated, body)))
		// A repeat finds everything moved.
		check(t, r.jobs.receipt(t.Context(), f.sign(id, receipt.KindRotated, body)))
		if n := r.said(statement.KindRotateBlobs); n != 1 {
			t.Fatalf("accepted %d times", n)
		}
		r.settle(2)
		r.intact()
	})
}

// A receipt is not worth more under another user's job.
func TestReceiptOfAnotherUsersJob(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		other := rulestest.Wallet("other")
		r.enrol(other)
		r.draining("github")
		r.as(other, func() { r.draining("github") })
		f := r.newForger()
		id, mine := f.rotated()
		var theirID string
		r.as(other, func() { theirID, _ = f.rotated() })
		wantCode(t, r.jobs.receipt(t.Context(), f.sign(theirID, receipt.KindRotated, mine.Append(nil))), badRequest)
		check(t, r.jobs.receipt(t.Context(), f.sign(id, receipt.KindRotated, mine.Append(nil))))
		for _, k := range []func(){func() { r.settle(2); r.intact() }} {
			k()
			r.as(other, k)
		}
	})
}

// Revoked after the job left, a rotator's receipt is refused by the chain, and the
// refusal is told.
func TestReceiptOfARevokedRotator(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github")
		f := r.newForger()
		id, c := f.rotated()
		r.act(statement.RevokeEnclave{Role: statement.EnclaveRotator, Key: agentkeys.ProcessKey(f.public())})
		if err := r.jobs.receipt(t.Context(), f.sign(id, receipt.KindRotated, c.Append(nil))); !errors.Is(err, errRefusedStatement) {
			t.Fatalf("got %v", err)
		}
		if p := r.pointer("github"); p.Epoch != 1 {
			t.Fatalf("moved: %+v", p)
		}
		r.settle(2)
		r.intact()
	})
}
