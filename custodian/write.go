package custodian

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

// registerWithin bounds the wait for the block that registers a blob.
const registerWithin = 20 * time.Second

// writeTries is how often a write that an epoch's switch overtook is sealed again.
const writeTries = 4

// write is the flow "Write" of docs/spec/api.md.
func (s *Server) write(ctx context.Context, c token.Claims, in api.Write) (api.Written, error) {
	defer clear(in.Credential)
	w, blob, err := s.parseWrite(in)
	if err != nil {
		return api.Written{}, err
	}
	if err := s.takeNonce(in.Presence); err != nil {
		return api.Written{}, err
	}
	s.step("write.head")
	if err := s.freshHead(ctx); err != nil {
		return api.Written{}, err
	}
	for range writeTries {
		out, again, err := s.writeOnce(ctx, c, in, w, blob)
		if err == nil && !again && in.Previous != 0 {
			return out, s.replaced(ctx, c, w, in.Previous)
		}
		if err != nil || !again {
			return out, err
		}
		rand.Read(blob[:]) // a new epoch, a new blob
	}
	return api.Written{}, epochOpening.because("Try again", "epochs change faster than the write")
}

func (s *Server) parseWrite(in api.Write) (w want, blob agentkeys.BlobID, err error) {
	if w.service, err = parseService(in.Service); err != nil {
		return w, blob, err
	}
	if w.agent, err = parseSlotAgent(in.Agent); err != nil {
		return w, blob, err
	}
	if len(in.Credential) > credential.MaxSize {
		return w, blob, tooLarge.because("Store at most 64 KiB", "the credential has more than %d bytes", credential.MaxSize)
	}
	cred, err := credential.Parse(in.Credential)
	if err != nil {
		return w, blob, badRequest.because("", "%v", err)
	}
	cred.Secret.Wipe()
	if in.Idle > uint8(statement.IdleExpire) {
		return w, blob, badRequest.because("", "idle: want 1 (carry), 2 (expire), or 0 (as it was, or the vault's default)")
	}
	switch len(in.BlobID) {
	case 0:
		rand.Read(blob[:])
	case len(blob):
		blob = agentkeys.BlobID(in.BlobID)
	default:
		return w, blob, badRequest.because("", "blob id: want 16 bytes")
	}
	w.action, w.presence, w.replaces = actWrite, in.Presence, in.Previous
	// That a new slot is empty needs no proof beforehand: the registration is a
	// compare-and-swap against nothing.
	w.first = in.Previous == 0 && len(in.BlobID) == 0
	return w, blob, nil
}

// writeOnce tries in the epoch that is active now; again says that it is not any
// more.
func (s *Server) writeOnce(ctx context.Context, c token.Claims, in api.Write, w want, blob agentkeys.BlobID) (out api.Written, again bool, err error) {
	s.step("write.authorise")
	v, err := s.authorise(ctx, c, w)
	if err != nil {
		return out, false, err
	}
	if len(in.BlobID) != 0 && v.held && v.pointer.Blob == blob {
		out, err = s.landed(ctx, v.slot, v.user, v.pointer, v.head.StateHeight, in.Credential)
		return out, false, err
	}
	if v.held != (in.Previous != 0) || v.held && v.pointer.Version != in.Previous {
		return out, false, occupied(w, v.pointer.Version)
	}
	if v.user.Active.Epoch == 0 {
		s.hints.look(c.User)
		return out, false, epochOpening.because("Try again in a moment", "the first epoch is being opened")
	}
	place := envelope.Place{User: c.User, Service: v.slot.Service, Agent: v.slot.Agent, Epoch: v.user.Active.Epoch, Blob: blob, Version: v.user.Floor + 1}
	if v.held {
		place.Version = v.pointer.Version + 1
	}
	s.step("write.seal")
	hash, err := s.sealAndPut(ctx, v, place, in.Credential)
	if err != nil {
		return out, false, err
	}
	body, err := s.register(c, in, w, v, place, hash)
	if err != nil {
		return out, false, err
	}
	s.step("write.register")
	return s.acknowledge(ctx, w, v, body, in.Credential)
}

func occupied(w want, version uint64) error {
	return conflict.because("See the version: agentkeys list; to put a new value in its place: agentkeys replace "+string(w.service),
		"%s holds version %d, this write replaces version %d", w.service, version, w.replaces)
}

// landed answers for a pointer that an earlier try, or this one, seems to have
// written: it is that write if it holds the same credential.
func (s *Server) landed(ctx context.Context, slot agentkeys.Slot, u rules.User, p rules.Pointer, height uint64, cred []byte) (api.Written, error) {
	b, err := s.get(ctx, slot.User, blobstore.Key(slot.User, p.Epoch, slot.Service, p.Blob))
	if err != nil || envelope.HashOf(b) != p.Hash {
		return api.Written{}, storeUnavailable.because("Try again", "the object store does not give the stored value back")
	}
	plain, err := s.open(verdict{slot: slot, user: u, pointer: p}, b)
	if err != nil {
		return api.Written{}, err
	}
	defer clear(plain)
	if !s.misses.same(slot.User, plain, cred) {
		return api.Written{}, conflict.because("See what is there now: agentkeys list", "version %d of this slot is not what this write stores", p.Version)
	}
	return written(p, height), nil
}

// sealAndPut seals for the place and stores the object. One that is there from an
// earlier try is opened: the same credential is that try's, anything else a
// conflict.
func (s *Server) sealAndPut(ctx context.Context, v verdict, at envelope.Place, cred []byte) (agentkeys.Hash, error) {
	var sealed []byte
	var err error
	agentkeys.Scrubbed(func() { sealed, err = s.seal(v, at, cred) })
	if err != nil {
		return agentkeys.Hash{}, err
	}
	key := blobstore.Key(at.User, at.Epoch, at.Service, at.Blob)
	s.step("write.put")
	err = s.store(ctx, at.User, key, sealed)
	if errors.Is(err, blobstore.ErrExists) {
		return s.earlier(ctx, v, at, key, cred)
	}
	if err != nil {
		s.log.Warn("store", "error", err.Error())
		return agentkeys.Hash{}, storeUnavailable.because("Try again", "the object store does not answer; nothing was written")
	}
	hash := envelope.HashOf(sealed)
	s.cache.put(hash, sealed)
	return hash, nil
}

// seal makes the envelope. Keys die here.
func (s *Server) seal(v verdict, at envelope.Place, cred []byte) ([]byte, error) {
	dek, err := s.dek(at.User, v.user.Active)
	if err != nil {
		return nil, err
	}
	defer dek.Wipe()
	sealed, err := envelope.Seal(s.cfg.Vault, dek, at, cred)
	if err != nil {
		return nil, badRequest.because("", "%v", err)
	}
	return sealed, nil
}

func (s *Server) store(ctx context.Context, user agentkeys.Wallet, key string, sealed []byte) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.cfg.Store.Put(ctx, user, key, sealed)
}

func (s *Server) earlier(ctx context.Context, v verdict, at envelope.Place, key string, cred []byte) (agentkeys.Hash, error) {
	if !s.orphans.adopt(key) {
		return agentkeys.Hash{}, conflict.because("Write again without a blob id", "the object of that try is being deleted")
	}
	b, err := s.get(ctx, at.User, key)
	if err != nil {
		return agentkeys.Hash{}, storeUnavailable.because("Try again", "the object store does not answer")
	}
	v.slot = agentkeys.Slot{User: at.User, Agent: at.Agent, Service: at.Service}
	v.pointer = rules.Pointer{Epoch: at.Epoch, Blob: at.Blob, Version: at.Version}
	plain, err := s.open(v, b)
	defer clear(plain)
	if err != nil || !s.misses.same(at.User, plain, cred) {
		return agentkeys.Hash{}, conflict.because("Write again without a blob id", "another object lies under this blob id")
	}
	return envelope.HashOf(b), nil
}

// idle is the rule that the owner named; else that of the credential it replaces; else the
// vault's default.
func (s *Server) idle(in api.Write, v verdict) statement.IdleRule {
	switch {
	case in.Idle != 0:
		return statement.IdleRule(in.Idle)
	case v.held:
		return v.pointer.Idle
	}
	return cmp.Or(s.cfg.Idle, statement.IdleCarry)
}

func (s *Server) register(c token.Claims, in api.Write, w want, v verdict, at envelope.Place, hash agentkeys.Hash) (statement.RegisterBlob, error) {
	b := statement.RegisterBlob{User: at.User, Agent: at.Agent, Service: at.Service, Epoch: at.Epoch, Blob: at.Blob, Hash: hash,
		PreviousVersion: at.Version - 1, Idle: s.idle(in, v), ValidUntil: s.statementValidUntil()}
	if v.held {
		// Only an overwrite has had its presence checked.
		b.PreviousHash, b.Presence = v.pointer.Hash, sha256.Sum256(w.presence.Signature)
	}
	tag, err := s.tagKey(c.User)
	if err != nil {
		return b, err
	}
	defer tag.Wipe()
	b.SealedName, err = tag.SealName(c.User, at.Service, w.service)
	return b, err
}

// refusedWait is how long rows may take to show why the relay spoke of a refusal.
const refusedWait = 3 * time.Second

// acknowledge has the pointer in a verified block before the client hears of it.
// What the relay says only shortens the wait: rows alone decide, also whether the
// new object may ever be deleted.
func (s *Server) acknowledge(ctx context.Context, w want, v verdict, b statement.RegisterBlob, cred []byte) (out api.Written, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, registerWithin)
	defer cancel()
	relayed, err := s.cfg.Relay.Submit(ctx, [][]byte{s.sign(b)})
	if err != nil {
		return out, false, s.unknown(b, err, "")
	}
	s.step("write.await")
	awaitHeight(ctx, s.cfg.Chain, relayed.Height)
	code, reason := hint(relayed)
	if !code.Done() {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, refusedWait)
		defer stop()
	}
	if w.first && code == rules.Stale {
		if err := s.inTheWay(ctx, w, v, b); err != nil {
			return out, false, err
		}
	}
	for rev := v.user.Rev; ; {
		out, again, settled, err := s.settle(ctx, v, b, cred, &rev)
		if err != nil || settled {
			return out, again, err
		}
		_, _, err = s.cfg.Chain.AwaitRow(ctx, rules.UserKey(b.User), func(value []byte) bool {
			u, ok, err := row(value, rules.ParseUser)
			return err == nil && ok && u.Rev > rev
		})
		if err != nil {
			return out, false, s.unknown(b, err, reason)
		}
	}
}

// inTheWay says so when a proven row shows that another write holds the slot of a
// first write. What the other one stores is nobody's business here.
func (s *Server) inTheWay(ctx context.Context, w want, v verdict, b statement.RegisterBlob) error {
	p, held, _, err := one(ctx, s.cfg.Chain, rules.PointerKey(v.slot), rules.ParsePointer)
	if err != nil {
		return s.unknown(b, err, "")
	}
	if !held || p.Blob == b.Blob || p.Height > v.head.Height {
		return nil
	}
	// At or below the floor a delete of the other one, in time, lets a registration that
	// the relay kept apply after all: then its object has to be there.
	if p.Version > b.PreviousVersion {
		s.discarded(b.User, blobstore.Key(b.User, b.Epoch, b.Service, b.Blob))
	}
	return occupied(w, p.Version)
}

// settle looks at the rows once. rev becomes the revision that was seen; again says
// that the epoch has passed and the registration can never apply.
func (s *Server) settle(ctx context.Context, v verdict, b statement.RegisterBlob, cred []byte, rev *uint64) (out api.Written, again, settled bool, err error) {
	values, head, err := s.cfg.Chain.Rows(ctx, rules.UserKey(b.User), rules.PointerKey(v.slot))
	if err != nil {
		return out, false, false, s.unknown(b, err, "")
	}
	u, _, err := row(values[0], rules.ParseUser)
	if err != nil {
		return out, false, false, s.chainFailed(err)
	}
	p, held, err := row(values[1], rules.ParsePointer)
	if err != nil {
		return out, false, false, s.chainFailed(err)
	}
	*rev = max(*rev, u.Rev)
	if held && p.Blob == b.Blob && p.Hash == b.Hash {
		s.stored(v, b)
		return written(p, head.StateHeight), false, true, nil
	}
	if held && p.Version == b.PreviousVersion+1 {
		// Another's write, or this one, moved to the next epoch already.
		out, err = s.landed(ctx, v.slot, u, p, head.StateHeight, cred)
		return out, false, true, err
	}
	orphan := blobstore.Key(b.User, b.Epoch, b.Service, b.Blob)
	switch {
	case held && p.Version > b.PreviousVersion || !held && u.Floor > b.PreviousVersion:
		s.discarded(b.User, orphan)
		return out, false, true, changed.because("See what is there now: agentkeys list", "somebody else wrote this slot first")
	case u.Active.Epoch != b.Epoch:
		s.discarded(b.User, orphan)
		return out, true, true, nil
	}
	return out, false, false, nil
}

// stored counts a write and gives up the object that it replaced.
func (s *Server) stored(v verdict, b statement.RegisterBlob) {
	s.counts.writes.Add(1)
	if v.held {
		s.discarded(b.User, blobstore.Key(b.User, v.pointer.Epoch, b.Service, v.pointer.Blob))
	}
}

func (s *Server) unknown(b statement.RegisterBlob, cause error, reason string) error {
	s.log.Warn("write: outcome unknown", "blob", b.Blob.String(), "error", cause.Error(), "relay", reason)
	e := unknownOutcome.because(fmt.Sprintf("Repeat the write with blob id %s", b.Blob), "no block has answered; the write may still come")
	e.BlobID = b.Blob[:]
	return e
}

func written(p rules.Pointer, height uint64) api.Written {
	return api.Written{Version: p.Version, Epoch: uint32(p.Epoch), BlobID: p.Blob[:], Height: height}
}

// replaced takes the old value from the proxies. The new one is acknowledged even when
// one of them is slow: it drops what it holds within a minute.
func (s *Server) replaced(ctx context.Context, c token.Claims, w want, version uint64) error {
	svc, err := s.serviceID(c.User, w.service)
	if err != nil {
		return err
	}
	slot := agentkeys.Slot{User: c.User, Agent: c.User, Service: svc}
	if !w.agent.IsZero() {
		slot.Agent = w.agent
	}
	ctx, cancel := context.WithTimeout(ctx, api.WatchLife)
	defer cancel()
	if s.proxies.drop(c.User, takesVersion(slot, version, "replaced"))(ctx) != nil {
		s.log.Warn("a proxy has not confirmed that it dropped a replaced value")
	}
	return nil
}

// discarded hands an object that no row names to whoever deletes after the grace.
func (s *Server) discarded(user agentkeys.Wallet, key string) {
	if s.discard != nil {
		s.discard(user, key)
	}
}
