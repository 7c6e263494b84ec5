// Package rotator is TEE-B: it makes data keys, re-seals blobs and forgets. It
// talks over one descriptor, opens nothing, keeps nothing between jobs, and is
// dead after any error: its process ends and a new one makes new keys.
package rotator

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"

	"example.org/agentkeys"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rotation"
)

// ErrJob is returned for jobs and messages that no honest custodian sends.
var ErrJob = errors.New("job: refused")

// Rotator holds the keys of one start.
type Rotator struct {
	vault agentkeys.VaultID
	key   ed25519.PrivateKey
	keys  *channel.Keys
	conn  io.ReadWriter
}

// New makes the keys of this start. conn is the inherited descriptor.
func New(vault agentkeys.VaultID, conn io.ReadWriter) (*Rotator, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	keys, err := channel.NewKeys()
	return &Rotator{vault, key, keys, conn}, err
}

// Public is what the evidence binds: statement key 32, Noise key 32, ML-KEM key.
func (r *Rotator) Public() []byte {
	b := append([]byte(nil), r.key.Public().(ed25519.PublicKey)...)
	return r.keys.Public().Append(b)
}

// Serve answers until the descriptor closes or anything is wrong. It never
// returns nil; io.EOF is the courier hanging up between jobs.
func (r *Rotator) Serve(evidence []byte) error {
	for {
		typ, body, err := rotation.ReadMessage(r.conn)
		switch {
		case err != nil:
			return err
		case typ == rotation.Hello:
			err = r.send(rotation.Hello, append(r.Public(), evidence...))
		case typ == rotation.Handshake:
			agentkeys.Scrubbed(func() { err = r.job(body) })
		default:
			return ErrJob
		}
		if err != nil {
			return err
		}
	}
}

func (r *Rotator) send(typ uint8, body []byte) error { return rotation.WriteMessage(r.conn, typ, body) }

func (r *Rotator) receive(want uint8) ([]byte, error) {
	typ, body, err := rotation.ReadMessage(r.conn)
	if err == nil && typ != want {
		err = ErrJob
	}
	return body, err
}

// frames gives the channel's frames, one a Read, asking for each but the first. The
// channel reads whole frames, so a message of any other size is refused.
type frames struct {
	r     *Rotator
	asked bool
}

func (f *frames) Read(p []byte) (int, error) {
	if f.asked {
		if err := f.r.send(rotation.More, nil); err != nil {
			return 0, err
		}
	}
	f.asked = true
	frame, err := f.r.receive(rotation.Frame)
	if err != nil || len(frame) != len(p) {
		return 0, cmp.Or(err, ErrJob)
	}
	return copy(p, frame), nil
}

// job runs one job: handshake, its message, then what the kind asks for.
func (r *Rotator) job(hello []byte) error {
	conn, reply, err := channel.Accept(r.vault, r.keys, hello)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := r.send(rotation.Handshake, reply); err != nil {
		return err
	}
	in := &frames{r: r}
	j, last, err := read(conn, in)
	defer j.From.Wipe()
	defer j.To.Wipe()
	switch {
	case err != nil:
		return err
	case j.Kind == rotation.Make && last:
		return r.make(conn.Job(), j)
	case j.Kind == rotation.Wrap:
		return r.wraps(conn, in, j, last)
	case j.Kind == rotation.Move && !last:
		return r.move(conn, in, j)
	}
	return ErrJob
}

func read(conn *channel.Conn, in *frames) (j rotation.Job, last bool, err error) {
	m, last, err := conn.ReadMessage(in, rotation.JobSize)
	if err == nil {
		j, err = rotation.ParseJob(m)
	}
	clear(m)
	if err != nil {
		j.From.Wipe()
		j.To.Wipe()
	}
	return j, last, err
}

func (r *Rotator) make(id agentkeys.JobID, j rotation.Job) error {
	dek := envelope.NewDEK()
	defer dek.Wipe()
	wrapped, err := j.To.Wrap(r.vault, dek)
	if err != nil {
		return err
	}
	m := receipt.Made{Job: id, User: j.To.User, Epoch: j.To.Epoch, DEKID: dek.ID(r.vault), Wrapped: wrapped}
	return r.sign(receipt.KindMade, m.Append(nil))
}

// pair refuses jobs that name two users, or the same wrapping key twice: what one
// of them opens must not open under the other.
func pair(j rotation.Job, step agentkeys.Epoch) bool {
	return j.From.User == j.To.User && j.To.Epoch == j.From.Epoch+step && j.From.Epoch != 0 &&
		!bytes.Equal(j.From.Reveal(), j.To.Reveal())
}

// wraps carries data keys one after the other, each of one user and gone before the
// next comes.
func (r *Rotator) wraps(conn *channel.Conn, in *frames, j rotation.Job, last bool) (err error) {
	for place := []byte(nil); ; {
		if place, err = r.wrap(conn.Job(), place, j); err != nil || last {
			return err
		}
		in.asked = false // the receipt asked for the next frame
		if j, last, err = read(conn, in); err != nil {
			return err
		}
	}
}

// wrap refuses a place, user and epoch, that is not above the one before: none comes
// twice.
func (r *Rotator) wrap(id agentkeys.JobID, before []byte, j rotation.Job) (place []byte, err error) {
	defer j.From.Wipe()
	defer j.To.Wipe()
	place = binary.BigEndian.AppendUint32(j.To.User[:], uint32(j.To.Epoch))
	if j.Kind != rotation.Wrap || bytes.Compare(before, place) >= 0 || !pair(j, 0) || j.To.Version <= j.From.Version {
		return nil, ErrJob
	}
	dek, err := j.From.Unwrap(r.vault, j.FromID, j.FromSealed)
	if err != nil {
		return nil, err
	}
	defer dek.Wipe()
	wrapped, err := j.To.Wrap(r.vault, dek)
	if err != nil {
		return nil, err
	}
	w := receipt.Rewrapped{Job: id, User: j.To.User, Epoch: j.To.Epoch, DEKID: j.FromID, From: j.From.Version, Wrapped: wrapped}
	return place, r.sign(receipt.KindRewrapped, w.Append(nil))
}

// move re-seals chunk after chunk. Rows must ascend over the whole job, so no slot
// comes twice.
func (r *Rotator) move(conn *channel.Conn, in *frames, j rotation.Job) error {
	if !pair(j, 1) {
		return ErrJob
	}
	from, err := j.From.Unwrap(r.vault, j.FromID, j.FromSealed)
	if err != nil {
		return err
	}
	defer from.Wipe()
	to, err := j.To.Unwrap(r.vault, j.ToID, j.ToSealed)
	if err != nil {
		return err
	}
	defer to.Wipe()
	c := receipt.Rotated{Job: conn.Job(), User: j.To.User, From: j.From.Epoch, To: j.To.Epoch, FromDEKID: j.FromID, ToDEKID: j.ToID}
	var slot []byte
	for done := uint32(0); ; c.Chunk++ {
		m, last, err := conn.ReadMessage(in, rotation.MaxMessage)
		if err != nil {
			return err
		}
		entries, err := rotation.ParseChunk(m)
		done += uint32(len(entries))
		if err != nil || last != (done == j.Rows) {
			return ErrJob
		}
		if slot, err = r.chunk(&c, from, to, entries, slot); err != nil || last {
			return err
		}
		in.asked = false // the receipt answered the last envelope; the next frame comes unasked
	}
}

func (r *Rotator) chunk(c *receipt.Rotated, from, to envelope.DEK, entries []rotation.Entry, slot []byte) ([]byte, error) {
	if err := r.send(rotation.Feed, binary.BigEndian.AppendUint16(nil, uint16(len(entries)))); err != nil {
		return nil, err
	}
	c.Rows = c.Rows[:0]
	for _, e := range entries {
		next := append(append([]byte(nil), e.Agent[:]...), e.Service[:]...)
		if bytes.Compare(slot, next) >= 0 {
			return nil, ErrJob
		}
		slot = next
		old, err := r.receive(rotation.Envelope)
		if err != nil {
			return nil, err
		}
		if envelope.HashOf(old) != e.Hash {
			return nil, ErrJob
		}
		at := envelope.Place{User: c.User, Service: e.Service, Agent: e.Agent, Epoch: c.From, Blob: e.OldBlob, Version: e.Version}
		sealed, err := envelope.Reseal(r.vault, from, c.FromDEKID, to, c.ToDEKID, at, c.To, e.NewBlob, old)
		if err != nil {
			return nil, err
		}
		c.Rows = append(c.Rows, receipt.Row{Agent: e.Agent, Service: e.Service, Version: e.Version, OldHash: e.Hash,
			NewBlob: e.NewBlob, NewHash: envelope.HashOf(sealed)})
		if err := r.send(rotation.Resealed, sealed); err != nil {
			return nil, err
		}
	}
	return slot, r.sign(receipt.KindRotated, c.Append(nil))
}

func (r *Rotator) sign(kind uint8, body []byte) error {
	s := receipt.Sign(r.key, r.vault, kind, body)
	return r.send(rotation.Receipt, s.Append(append([]byte{kind}, body...)))
}
