package custodian

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rotation"
	"example.org/agentkeys/rules"
)

// maxRows is the most credentials one job moves; the rest is the next job's.
const maxRows = 16384

// jobLife is how long a job may take before it is forgotten.
const jobLife = 10 * time.Minute

// Courier hands out store sessions of one user: GET and PUT.
type Courier interface {
	CourierSession(ctx context.Context, user agentkeys.Wallet) (blobstore.Session, error)
}

// Jobs decides what is next for a user's epochs and seals the jobs. Its state is
// derived from rows: a job that is lost is made again.
type Jobs struct {
	s        *Server
	k        *Keeper
	courier  Courier
	eraser   *eraser
	rotators rotators

	often  often
	fewer  fewer
	warned sync.Map // erasure.ShareID of draining epochs whose expiring credentials were told of

	rewrap  sync.Mutex    // one question about the shielding key at a time
	counted api.Shielding // the last answer, by proven rows
	at      time.Time     // of counted
	behind  atomic.Int64  // counted.Behind less what was proven to have left since

	crypto cpuTime // of the jobs' cryptography

	mu   sync.Mutex
	open map[agentkeys.JobID]*job
}

// scrubbed runs f, which handles keys.
func (j *Jobs) scrubbed(f func()) { j.crypto.of(func() { agentkeys.Scrubbed(f) }) }

// job is one channel that is open to a rotator.
type job struct {
	id      agentkeys.JobID
	kind    string
	user    agentkeys.Wallet // of a make or a move
	rotator agentkeys.ProcessKey
	row     rules.User
	epochs  []liveEpoch // of a wrap
	version uint32      // of the wrapping key that a make or a wrap is to
	init    *channel.Initiator
	entries []rotation.Entry
	began   time.Time
}

// NewJobs joins a server with its keeper.
func NewJobs(s *Server, k *Keeper, courier Courier, emptier Emptier) *Jobs {
	j := &Jobs{s: s, k: k, courier: courier, open: map[agentkeys.JobID]*job{}}
	j.rotators.keys = map[agentkeys.ProcessKey]channel.PublicKeys{}
	j.eraser = newEraser(s, k, emptier)
	s.discard = j.eraser.discard
	return j
}

// Run erases drained epochs until ctx ends.
func (j *Jobs) Run(ctx context.Context) error { return j.eraser.run(ctx) }

// next says what is due for a user, from proven rows alone: the draining epoch ends
// before anything else is thought of.
func (j *Jobs) next(ctx context.Context, req api.JobRequest) (api.Job, error) {
	user, err := agentkeys.ParseWallet(req.User)
	if err != nil {
		return api.Job{}, badRequest.because("", "%v", err)
	}
	key, pub, err := j.rotator(ctx, req.Rotator)
	if err != nil {
		return api.Job{}, err
	}
	if err := j.s.freshHead(ctx); err != nil {
		return api.Job{}, err
	}
	if err := j.await(ctx, req.Height); err != nil {
		return api.Job{}, err
	}
	u, ok, err := j.s.User(ctx, user)
	if err != nil {
		return api.Job{}, j.s.chainFailed(err)
	}
	if !ok {
		return api.Job{Kind: api.JobNone}, nil
	}
	params, err := j.s.Params(ctx)
	if err != nil {
		return api.Job{}, j.s.chainFailed(err)
	}
	now := blockTime(j.s.cfg.Chain.Head())
	if late := behind(user, u, j.k.version()); len(late) > 0 {
		return j.wrapEpochs(ctx, late, key, pub)
	}
	switch {
	case u.Draining.Epoch != 0 && u.Draining.LiveCount == 0:
		return j.eraser.job(user, u.Draining, time.Duration(2*params.MaxHeadAge)*time.Second), nil
	case u.Draining.Epoch != 0:
		window := u.Active.Opened + params.DrainWindow
		all := u.Draining.Eager || u.Due > u.Active.Epoch || now >= window
		return j.move(ctx, user, u, key, pub, all, window-min(window, now), req.Missing)
	}
	due, err := j.due(ctx, user, u, now, params.Cadence)
	if err != nil {
		return api.Job{}, j.s.chainFailed(err)
	}
	if forced := u.Active.Epoch != 0 && u.Due > u.Active.Epoch; due && forced {
		if wait := j.often.wait(user); wait > 0 {
			return api.Job{Kind: api.JobWait, WaitMS: int(wait.Milliseconds()) + 1,
				Detail: fmt.Sprintf("rotation was asked for %d times within %s; who was revoked is refused all the same", forcedAtMost, forcedWithin)}, nil
		}
	}
	if due {
		return j.make(ctx, user, u, key, pub)
	}
	return api.Job{Kind: api.JobNone}, nil
}

// await waits for the proof of a block that the operator saw something in. A height
// that never comes only costs the operator its answer.
func (j *Jobs) await(ctx context.Context, height uint64) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	if _, err := j.s.cfg.Chain.Await(ctx, height); err != nil {
		return j.s.chainFailed(err)
	}
	return nil
}

// due: no epoch yet, one asked for, or the active one past its cadence. A tenth of
// the cadence is left to the operator's jitter.
func (j *Jobs) due(ctx context.Context, user agentkeys.Wallet, u rules.User, now, cadence uint64) (bool, error) {
	if u.Active.Epoch == 0 || u.Due > u.Active.Epoch || now >= u.Active.Opened+cadence-cadence/10 {
		return true, nil
	}
	system, _, _, err := one(ctx, j.s.cfg.Chain, rules.SystemKey(), rules.ParseSystem)
	return u.Active.Opened < system.RotateBefore, err
}

// make: the share of the new epoch goes into every live anchor before the data key
// is made.
func (j *Jobs) make(ctx context.Context, user agentkeys.Wallet, u rules.User, rotator agentkeys.ProcessKey, pub channel.PublicKeys) (api.Job, error) {
	j.s.step("make.share")
	id := erasure.ShareID{User: user, Epoch: u.Active.Epoch + 1, WrapVersion: j.k.version()}
	if err := j.k.newShare(ctx, id); err != nil {
		return api.Job{}, fmt.Errorf("make: %w", err)
	}
	j.s.step("make.channel")
	return j.start(&job{kind: api.JobMake, user: user, rotator: rotator, row: u, version: id.WrapVersion}, pub)
}

// move lists what waits in the draining epoch: everything, or only what was read
// (lazy).
func (j *Jobs) move(ctx context.Context, user agentkeys.Wallet, u rules.User, rotator agentkeys.ProcessKey, pub channel.PublicKeys, all bool, left uint64, missing []string) (api.Job, error) {
	wanted := j.s.hints.slots(user)
	if !all {
		j.warnExpiring(ctx, user, u)
	}
	if !all && len(wanted) == 0 {
		return api.Job{Kind: api.JobWait, WaitMS: int(min(left, 3600)+1) * 1000, Detail: "draining: credentials move when they are read"}, nil
	}
	j.s.step("move.list")
	entries, err := j.draining(ctx, user, u, func(s agentkeys.Slot) bool { return all || wanted[s] })
	if err != nil {
		return api.Job{}, err
	}
	if entries, err = j.reportMissing(ctx, user, u, entries, missing); err != nil {
		return api.Job{}, err
	}
	before := len(entries)
	if entries, err = j.dropExpired(ctx, user, u, entries); err != nil {
		return api.Job{}, err
	}
	if len(entries) < before && len(entries) == 0 {
		return api.Job{Kind: api.JobWait, WaitMS: 10, Detail: "draining: what nobody read has expired"}, nil
	}
	if len(entries) == 0 {
		j.s.hints.clear(user)
		return api.Job{Kind: api.JobWait, WaitMS: 60_000, Detail: "draining: objects are missing from the store"}, nil
	}
	j.s.step("move.channel")
	return j.start(&job{kind: api.JobMove, user: user, rotator: rotator, row: u, entries: entries}, pub)
}

// draining proves the user's pointers and keeps those of the draining epoch, in the
// order the rotator wants. A pointer that the node's list left out shows in the
// count that does not reach zero.
func (j *Jobs) draining(ctx context.Context, user agentkeys.Wallet, u rules.User, want func(agentkeys.Slot) bool) ([]rotation.Entry, error) {
	keys, err := j.s.cfg.Lister.Keys(ctx, rules.PointerPrefix(user))
	if err != nil {
		return nil, j.s.chainFailed(err)
	}
	var entries []rotation.Entry
	for chunk := range slices.Chunk(keys, 512) {
		values, _, err := j.s.cfg.Chain.Rows(ctx, chunk...)
		if err != nil {
			return nil, j.s.chainFailed(err)
		}
		for i, v := range values {
			p, ok, err := row(v, rules.ParsePointer)
			slot, parsed := rules.ParsePointerKey(chunk[i])
			if err != nil {
				return nil, err
			}
			if !ok || !parsed || p.Epoch != u.Draining.Epoch || !want(slot) {
				continue
			}
			e := rotation.Entry{Agent: slot.Agent, Service: slot.Service, Version: p.Version, Hash: p.Hash, OldBlob: p.Blob}
			rand.Read(e.NewBlob[:])
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b rotation.Entry) int {
		if c := bytes.Compare(a.Agent[:], b.Agent[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.Service[:], b.Service[:])
	})
	return entries[:min(len(entries), j.fewer.limit(user))], nil
}

// start opens a channel to the rotator. Nothing of the job leaves yet.
func (j *Jobs) start(w *job, pub channel.PublicKeys) (api.Job, error) {
	rand.Read(w.id[:])
	var hello []byte
	var err error
	j.scrubbed(func() { w.init, hello, err = channel.Initiate(j.s.cfg.Vault, w.id, pub) })
	if err != nil {
		return api.Job{}, fmt.Errorf("job: %w", err)
	}
	w.began = time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, old := range j.open {
		if time.Since(old.began) > jobLife || w.kind != api.JobWrap && old.user == w.user {
			delete(j.open, id)
		}
	}
	j.open[w.id] = w
	return api.Job{Kind: w.kind, ID: w.id.String(), Handshake: hello}, nil
}

// end forgets a job of which nothing is left to do.
func (j *Jobs) end(w *job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.open, w.id)
}

func (j *Jobs) find(hexID string) (*job, error) {
	id, err := agentkeys.ParseJobID(hexID)
	j.mu.Lock()
	defer j.mu.Unlock()
	w := j.open[id]
	if err != nil || w == nil || time.Since(w.began) > jobLife {
		return nil, conflict.because("Ask for the user's job again", "job: unknown, replaced or over")
	}
	return w, nil
}

// handshake ends the channel's handshake and seals the job to the rotator.
func (j *Jobs) handshake(ctx context.Context, h api.Handshake) (api.JobFrames, error) {
	w, err := j.find(h.ID)
	if err != nil {
		return api.JobFrames{}, err
	}
	// A rotator revoked since the job was made gets no keys.
	if err := j.s.freshHead(ctx); err != nil {
		return api.JobFrames{}, err
	}
	if _, _, err := j.rotator(ctx, w.rotator.String()); err != nil {
		return api.JobFrames{}, err
	}
	j.mu.Lock()
	init := w.init
	w.init = nil
	j.mu.Unlock()
	if init == nil {
		return api.JobFrames{}, conflict.because("Ask for the user's job again", "job: its handshake is over")
	}
	var out api.JobFrames
	j.scrubbed(func() { out.Frames, err = j.frames(w, init, h.Message) })
	if err == nil && w.kind == api.JobMove {
		err = j.carriage(ctx, w, &out)
	}
	return out, err
}

// frames seals the job for the rotator that answered. Keys die here.
func (j *Jobs) frames(w *job, init *channel.Initiator, answer []byte) ([]byte, error) {
	conn, err := init.Finish(answer)
	if err != nil {
		return nil, conflict.because("Start the rotator again", "job: the rotator's answer does not fit")
	}
	defer func() { _ = conn.Close() }()
	messages, err := j.messages(w)
	defer func() {
		for _, m := range messages {
			clear(m)
		}
	}()
	if err != nil {
		return nil, err
	}
	var frames bytes.Buffer
	for i, m := range messages {
		if err := conn.WriteMessage(&frames, m, i == len(messages)-1); err != nil {
			return nil, fmt.Errorf("job: %w", err)
		}
	}
	return frames.Bytes(), nil
}

// messages are the job and, for a move, its chunks. They hold keys: the caller clears
// them, after an error too.
func (j *Jobs) messages(w *job) ([][]byte, error) {
	keys := j.keys()
	defer keys.wipe()
	to := w.row.Active
	if w.kind == api.JobMake {
		key, err := keys.wrapping(erasure.ShareID{User: w.user, Epoch: to.Epoch + 1, WrapVersion: w.version})
		if err != nil {
			return nil, err
		}
		defer key.Wipe()
		return [][]byte{rotation.Job{Kind: rotation.Make, To: key}.Append(nil)}, nil
	}
	if w.kind == api.JobWrap {
		return wrapMessages(w, keys)
	}
	from := w.row.Draining
	fromKey, toKey, err := keys.pair(shareOf(w.user, from), shareOf(w.user, to))
	if err != nil {
		return nil, err
	}
	defer fromKey.Wipe()
	defer toKey.Wipe()
	m := rotation.Job{Kind: rotation.Move, From: fromKey, To: toKey, FromID: from.DEKID, ToID: to.DEKID,
		FromSealed: from.Wrapped, ToSealed: to.Wrapped, Rows: uint32(len(w.entries))}
	out := [][]byte{m.Append(nil)}
	for chunk := range slices.Chunk(w.entries, receipt.MaxRows) {
		out = append(out, rotation.AppendChunk(nil, chunk))
	}
	return out, nil
}

// carriage tells the courier which objects to carry and lends it a store session.
func (j *Jobs) carriage(ctx context.Context, w *job, out *api.JobFrames) error {
	for _, e := range w.entries {
		out.Entries = append(out.Entries, api.Move{
			From: blobstore.Key(w.user, w.row.Draining.Epoch, e.Service, e.OldBlob),
			Hash: e.Hash.String(),
			To:   blobstore.Key(w.user, w.row.Active.Epoch, e.Service, e.NewBlob)})
	}
	session, err := j.courier.CourierSession(ctx, w.user)
	if err != nil {
		return storeUnavailable.because("Try again", "store: no session for the courier")
	}
	out.Store = &api.Courier{Endpoint: session.Endpoint, Bucket: session.Bucket, Region: session.Region,
		AccessKey: session.AccessKey, SecretKey: session.Secret, SessionToken: session.SessionToken, Expires: session.Expiry.Unix()}
	return nil
}
