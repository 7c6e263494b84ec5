package custodian

import (
	"context"
	"errors"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/record"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

// read gives a value to the owner, or to an agent that may see it.
func (s *Server) read(ctx context.Context, c token.Claims, in api.Read) (api.Value, error) {
	name, err := parseService(in.Service)
	if err != nil {
		return api.Value{}, err
	}
	agent, err := parseSlotAgent(in.Agent)
	if err != nil {
		return api.Value{}, err
	}
	if err := s.takeNonce(in.Presence); err != nil {
		return api.Value{}, err
	}
	v, _, err := s.give(ctx, c, want{action: actReveal, service: name, agent: agent, presence: in.Presence}, nil)
	return v, err
}

// give is the flow "Read" of docs/spec/api.md, for every value that leaves. What lend
// says comes before the last decision, so that a revocation sees what was lent or
// refuses it.
func (s *Server) give(ctx context.Context, c token.Claims, w want, lend func(verdict) error) (api.Value, verdict, error) {
	mode := statement.ModeReveal
	if w.action == actUse {
		mode = statement.ModeUse
	}
	// The head is fresh before anything is decided on it.
	s.step("read.head")
	if err := s.freshHead(ctx); err != nil {
		return api.Value{}, verdict{}, err
	}
	// Session, admission, grant, presence, from proven rows.
	s.step("read.authorise")
	v, err := s.authorise(ctx, c, w)
	if err != nil {
		return api.Value{}, verdict{}, err
	}
	// The envelope whose hash the pointer names.
	s.step("read.fetch")
	sealed, v, err := s.fetch(ctx, c, w, v)
	if err != nil {
		return api.Value{}, verdict{}, err
	}
	s.step("read.open")
	plain, err := s.open(v, sealed)
	if err != nil {
		return api.Value{}, verdict{}, err
	}
	out := api.Value{Credential: plain, Version: v.pointer.Version, Epoch: uint32(v.pointer.Epoch)}
	// The record is on disk before anybody gets the value.
	s.step("read.record")
	rec, err := s.outbox.append(record.Record{Kind: record.KindRead, Mode: uint8(mode), Time: uint64(time.Now().Unix()),
		User: c.User, Agent: c.Agent, Owner: v.slot.Agent, Service: v.slot.Service, Version: v.pointer.Version, Epoch: v.pointer.Epoch,
		Session: c.ID, Height: v.head.StateHeight, Boot: s.cfg.State.Boots})
	if err != nil {
		clear(plain)
		s.log.Error("outbox", "error", err.Error())
		return api.Value{}, verdict{}, auditUnavailable.because("Free disk space on the custodian, then try again", "the read cannot be recorded, so it is not allowed")
	}
	if lend != nil {
		s.step("read.lend")
		if err := lend(v); err != nil {
			clear(plain)
			return api.Value{}, verdict{}, err
		}
	}
	// A revocation that came meanwhile counts.
	s.step("read.again")
	if err := s.still(ctx, c, w, v); err != nil {
		clear(plain)
		return api.Value{}, verdict{}, err
	}
	if v.pointer.Epoch == v.user.Draining.Epoch {
		s.hints.read(v.slot)
	}
	out.Receipt = record.SignReceipt(s.cfg.State.Instance, s.cfg.Vault, rec).Append(nil)
	s.counts.reads.Add(1)
	return out, v, nil
}

// still asks again at the newest head, and that the value is still the slot's. A
// store that was slow must not make the head older than it may be.
func (s *Server) still(ctx context.Context, c token.Claims, w want, before verdict) error {
	if err := s.freshHead(ctx); err != nil {
		return err
	}
	now, err := s.authorise(ctx, c, w)
	if err == nil && (now.slot != before.slot || now.pointer.Version != before.pointer.Version || now.grant != before.grant) {
		return changed.because("Try again", "%s was replaced, or granted anew, meanwhile", w.service)
	}
	return err
}

// fetch gets the envelope from the cache or the store and holds it against the
// pointer's hash. On a mismatch the pointer is read once more: it may have moved.
func (s *Server) fetch(ctx context.Context, c token.Claims, w want, v verdict) ([]byte, verdict, error) {
	for try := 0; ; try++ {
		if b, ok := s.cache.get(v.pointer.Hash); ok {
			return b, v, nil
		}
		key := blobstore.Key(v.slot.User, v.pointer.Epoch, v.slot.Service, v.pointer.Blob)
		b, err := s.get(ctx, v.slot.User, key)
		if err == nil && envelope.HashOf(b) == v.pointer.Hash {
			s.cache.put(v.pointer.Hash, b)
			return b, v, nil
		}
		missing := errors.Is(err, blobstore.ErrNotFound)
		if err != nil && !missing && !errors.Is(err, blobstore.ErrTooLarge) {
			s.log.Warn("store", "error", err.Error())
			return nil, v, storeUnavailable.because("Try again; if it stays the object store is down", "the object store does not answer")
		}
		if try == 1 {
			return nil, v, lost(missing, w)
		}
		before := v.pointer
		// Nothing is called wrong before the chain's newest block counts.
		if err := s.sharedBeat(ctx); err != nil {
			return nil, v, s.chainFailed(err)
		}
		if v, err = s.authorise(ctx, c, w); err != nil {
			return nil, v, err
		}
		if v.pointer == before {
			return nil, v, lost(missing, w)
		}
	}
}

// storeTimeout bounds one call of the store, its session included: an answer that
// says so comes before the client stops waiting.
const storeTimeout = 10 * time.Second

func (s *Server) get(ctx context.Context, user agentkeys.Wallet, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.cfg.Store.Get(ctx, user, key, int64(envelope.MaxEnvelope))
}

func lost(missing bool, w want) error {
	if missing {
		return objectMissing.because("Store it again: agentkeys replace "+string(w.service), "the store has lost the object of %s", w.service)
	}
	return tampered.because("Tell the operator; do not trust this store", "the object of %s has other bytes than the chain names", w.service)
}

// open unwraps the epoch's data key and opens the envelope. Keys die here.
func (s *Server) open(v verdict, sealed []byte) (plain []byte, err error) {
	agentkeys.Scrubbed(func() { plain, err = s.openWithKeys(v, sealed) })
	return plain, err
}

func (s *Server) openWithKeys(v verdict, sealed []byte) ([]byte, error) {
	e := v.user.Active
	if v.pointer.Epoch != e.Epoch {
		e = v.user.Draining
	}
	if v.pointer.Epoch != e.Epoch {
		return nil, tampered.because("Tell the operator", "the credential names epoch %d, which is not live", v.pointer.Epoch)
	}
	dek, err := s.dek(v.slot.User, e)
	if err != nil {
		return nil, err
	}
	defer dek.Wipe()
	plain, err := envelope.Open(s.cfg.Vault, dek, e.DEKID, placeOf(v.slot, v.pointer), sealed)
	if err != nil {
		s.log.Error("envelope does not open", "user", v.slot.User.String(), "service", v.slot.Service.String(), "error", err.Error())
		return nil, tampered.because("Tell the operator; do not trust this store", "the object does not open in its place")
	}
	return plain, nil
}

func placeOf(slot agentkeys.Slot, p rules.Pointer) envelope.Place {
	return envelope.Place{User: slot.User, Service: slot.Service, Agent: slot.Agent, Epoch: p.Epoch, Blob: p.Blob, Version: p.Version}
}

// dek is the one way to a data key: shielding key and share give the wrapping key,
// which opens what the proven row holds. The caller is scrubbed and wipes it.
func (s *Server) dek(user agentkeys.Wallet, e rules.EpochRow) (envelope.DEK, error) {
	version := shareOf(user, e).WrapVersion
	share, err := s.cfg.Shares.Get(user, e.Epoch, version)
	if err != nil {
		s.log.Error("share", "error", err.Error())
		return envelope.DEK{}, shareUnavailable.because("See the custodian's log", "the share of epoch %d is not there", e.Epoch)
	}
	defer share.Wipe()
	shielding, err := s.cfg.State.Seed.ShieldingKey(s.cfg.Vault, version)
	if err != nil {
		return envelope.DEK{}, err
	}
	defer shielding.Wipe()
	wk, err := seed.DeriveWrappingKey(s.cfg.Vault, shielding, share, user, e.Epoch, version)
	if err != nil {
		return envelope.DEK{}, err
	}
	defer wk.Wipe()
	dek, err := wk.Unwrap(s.cfg.Vault, e.DEKID, e.Wrapped)
	if err != nil {
		return dek, shareUnavailable.because("See the custodian's log", "the data key of epoch %d does not open", e.Epoch)
	}
	return dek, nil
}
