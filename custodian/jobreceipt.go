package custodian

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rotation"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
	"golang.org/x/sync/errgroup"
)

// receipt takes a rotator's receipt for a job that is open, checks what it says
// against the job and the store, and has the chain accept it.
func (j *Jobs) receipt(ctx context.Context, r api.JobReceipt) error {
	w, err := j.find(r.ID)
	if err != nil {
		return err
	}
	rd := agentkeys.NewReader(r.Signature)
	sig := receipt.ReadSignature(rd)
	if rd.Close() != nil || sig.Key != w.rotator || !sig.Verify(j.s.cfg.Vault, r.Kind, r.Body) {
		return badRequest.because("Ask for the user's job again", "receipt: not signed by the rotator of this job")
	}
	rd = agentkeys.NewReader(r.Body)
	switch {
	case r.Kind == receipt.KindMade && w.kind == api.JobMake:
		m := receipt.ReadMade(rd)
		if rd.Close() != nil {
			return badRequest.because("", "receipt: wrong layout")
		}
		return j.made(ctx, w, m, sig)
	case r.Kind == receipt.KindRotated && w.kind == api.JobMove:
		c := receipt.ReadRotated(rd)
		if rd.Close() != nil {
			return badRequest.because("", "receipt: wrong layout")
		}
		return j.moved(ctx, w, c, sig)
	}
	return badRequest.because("", "receipt: of another kind than the job")
}

// made opens the wrapped data key before the chain is told of it: a key that does
// not open would lose everything written under it.
func (j *Jobs) made(ctx context.Context, w *job, m receipt.Made, sig receipt.Signature) error {
	j.s.step("made.check")
	epoch := w.row.Active.Epoch + 1
	if m.Job != w.id || m.User != w.user || m.Epoch != epoch {
		return badRequest.because("", "receipt: of another job")
	}
	var err error
	j.scrubbed(func() {
		keys := j.keys()
		defer keys.wipe()
		err = keys.open(erasure.ShareID{User: w.user, Epoch: epoch, WrapVersion: w.version}, m.DEKID, m.Wrapped)
	})
	if err != nil {
		return err
	}
	j.s.step("made.statement")
	body := statement.OpenEpoch{Receipt: m, ValidUntil: j.s.statementValidUntil()}
	err = j.submit(ctx, body, sig, rules.UserKey(w.user), func(v []byte) bool {
		u, ok, err := row(v, rules.ParseUser)
		return err == nil && ok && u.Active.Epoch >= epoch
	})
	if err == nil && w.row.Active.Epoch != 0 && w.row.Due > w.row.Active.Epoch {
		j.often.note(w.user)
	}
	return err
}

// moved checks every new object in the store before the pointers name it.
func (j *Jobs) moved(ctx context.Context, w *job, c receipt.Rotated, sig receipt.Signature) error {
	j.s.step("moved.check")
	from := int(c.Chunk) * receipt.MaxRows
	if c.Job != w.id || c.User != w.user || c.From != w.row.Draining.Epoch || c.To != w.row.Active.Epoch ||
		c.FromDEKID != w.row.Draining.DEKID || c.ToDEKID != w.row.Active.DEKID ||
		c.Chunk > uint32(len(w.entries)/receipt.MaxRows) || from+len(c.Rows) > len(w.entries) {
		return badRequest.because("", "receipt: of another job")
	}
	for i, r := range c.Rows {
		e := w.entries[from+i]
		if r.Agent != e.Agent || r.Service != e.Service || r.Version != e.Version || r.OldHash != e.Hash || r.NewBlob != e.NewBlob {
			return badRequest.because("", "receipt: row %d is not the job's", i)
		}
	}
	if err := j.stored(ctx, w.user, c); err != nil {
		return err
	}
	j.s.step("moved.statement")
	body := statement.RotateBlobs{Receipt: c, ValidUntil: j.s.statementValidUntil()}
	slot := agentkeys.Slot{User: w.user, Agent: c.Rows[0].Agent, Service: c.Rows[0].Service}
	err := j.submit(ctx, body, sig, rules.PointerKey(slot), func(v []byte) bool {
		p, ok, err := row(v, rules.ParsePointer)
		return err == nil && (!ok || p.Epoch != c.From)
	})
	if err != nil {
		return err
	}
	j.fewer.arrived(w.user)
	j.s.step("moved.proven")
	return j.moveProven(ctx, w, c, w.entries[from:from+len(c.Rows)])
}

// moveProven gives up the objects that no verified row names any more: the old one
// of a row that left, and the new one of a row that was skipped. A row that still
// waits, whatever the relay said, keeps its old object.
func (j *Jobs) moveProven(ctx context.Context, w *job, c receipt.Rotated, entries []rotation.Entry) error {
	keys := make([][]byte, len(entries))
	for i, e := range entries {
		keys[i] = rules.PointerKey(agentkeys.Slot{User: w.user, Agent: e.Agent, Service: e.Service})
	}
	values, _, err := j.s.cfg.Chain.Rows(ctx, keys...)
	if err != nil {
		return j.s.chainFailed(err)
	}
	waiting := 0
	for i, e := range entries {
		p, ok, err := row(values[i], rules.ParsePointer)
		if err != nil {
			return err
		}
		if ok && p.Epoch == c.From {
			waiting++
			continue
		}
		j.s.hints.done(agentkeys.Slot{User: w.user, Agent: e.Agent, Service: e.Service})
		j.eraser.discard(w.user, blobstore.Key(w.user, c.From, e.Service, e.OldBlob))
		if p.Blob != e.NewBlob {
			j.eraser.discard(w.user, blobstore.Key(w.user, c.To, e.Service, e.NewBlob))
		}
	}
	if waiting > 0 {
		return conflict.because("Ask for the user's job again", "receipt: %d of its rows have not moved", waiting)
	}
	return nil
}

// stored holds each new object against the hash in the receipt.
func (j *Jobs) stored(ctx context.Context, user agentkeys.Wallet, c receipt.Rotated) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, r := range c.Rows {
		g.Go(func() error {
			b, err := j.s.cfg.Store.Get(ctx, user, blobstore.Key(user, c.To, r.Service, r.NewBlob), int64(envelope.MaxEnvelope))
			if errors.Is(err, blobstore.ErrNotFound) {
				j.fewer.lost(user, len(c.Rows))
			}
			if errors.Is(err, blobstore.ErrNotFound) || err == nil && envelope.HashOf(b) != r.NewHash {
				return conflict.because("Ask for the user's job again", "store: a re-sealed object is missing or has other bytes")
			}
			if err != nil {
				return storeUnavailable.because("Try again", "store: does not answer")
			}
			return nil
		})
	}
	return g.Wait()
}

var errRefusedStatement = errors.New("statement refused")

// submit co-signs a rotator's receipt and waits for the row that shows it.
func (j *Jobs) submit(ctx context.Context, body statement.Body, sig receipt.Signature, key []byte, shown func([]byte) bool) error {
	wire := statement.SignProcess(j.s.cfg.State.Instance, j.s.cfg.Vault, body, &sig)
	r, err := j.s.cfg.Relay.Submit(ctx, [][]byte{wire})
	if err != nil {
		return err
	}
	if len(r.Results) == 1 && !rules.Code(r.Results[0].Code).Done() {
		return fmt.Errorf("%w: %s: %s", errRefusedStatement, rules.Code(r.Results[0].Code), r.Results[0].Reason)
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	awaitHeight(ctx, j.s.cfg.Chain, r.Height)
	_, _, err = j.s.cfg.Chain.AwaitRow(ctx, key, shown)
	return err
}

// reportMissing looks for itself at objects that the courier could not get, tells
// the chain of those that are gone, and leaves them out of the job: one missing
// object does not stop the others.
func (j *Jobs) reportMissing(ctx context.Context, user agentkeys.Wallet, u rules.User, entries []rotation.Entry, keys []string) ([]rotation.Entry, error) {
	suspect := map[string]bool{}
	for _, k := range keys {
		suspect[k] = true
	}
	kept := entries[:0]
	for _, e := range entries {
		key := blobstore.Key(user, u.Draining.Epoch, e.Service, e.OldBlob)
		slot := agentkeys.Slot{User: user, Agent: e.Agent, Service: e.Service}
		p, ok, _, err := one(ctx, j.s.cfg.Chain, rules.PointerKey(slot), rules.ParsePointer)
		if err != nil {
			return nil, j.s.chainFailed(err)
		}
		if !ok || !suspect[key] && p.MissingSince == 0 {
			kept = append(kept, e)
			continue
		}
		there, err := j.there(ctx, user, key, e.Hash)
		if err != nil {
			return nil, err
		}
		if there {
			kept = append(kept, e)
		}
		if there == (p.MissingSince != 0) {
			j.report(ctx, slot, p, !there)
		} else if !there {
			j.dropLost(ctx, slot, p)
		}
	}
	return kept, nil
}

// there says whether the store gives the object with these bytes. An outage is an
// error, never an absence.
func (j *Jobs) there(ctx context.Context, user agentkeys.Wallet, key string, hash agentkeys.Hash) (bool, error) {
	b, err := j.s.cfg.Store.Get(ctx, user, key, int64(envelope.MaxEnvelope))
	if errors.Is(err, blobstore.ErrNotFound) || errors.Is(err, blobstore.ErrTooLarge) {
		return false, nil
	}
	if err != nil {
		return false, storeUnavailable.because("Try again", "store: does not answer")
	}
	return envelope.HashOf(b) == hash, nil
}

func (j *Jobs) report(ctx context.Context, slot agentkeys.Slot, p rules.Pointer, missing bool) {
	j.s.log.Error("object missing from the store", "user", slot.User.String(), "service", slot.Service.String(), "missing", missing)
	s := statement.ReportLost{User: slot.User, Agent: slot.Agent, Service: slot.Service, Version: p.Version, Hash: p.Hash,
		Height: p.Height, Missing: missing, ValidUntil: j.s.statementValidUntil()}
	err := j.k.submit(ctx, s, rules.PointerKey(slot), func(v []byte) bool {
		now, ok, err := row(v, rules.ParsePointer)
		return err == nil && (!ok || (now.MissingSince != 0) == missing || now.Version != p.Version)
	})
	if err != nil {
		j.s.log.Warn("report of a missing object failed, will come again", "error", err.Error())
	}
}

// warnExpiring logs, once a draining epoch, what will expire unless it is read. The owner
// sees it in every list.
func (j *Jobs) warnExpiring(ctx context.Context, user agentkeys.Wallet, u rules.User) {
	if _, told := j.warned.LoadOrStore(shareOf(user, u.Draining), true); told {
		return
	}
	params, err := j.s.Params(ctx)
	if err != nil {
		return
	}
	entries, err := j.draining(ctx, user, u, func(agentkeys.Slot) bool { return true })
	if err != nil {
		j.warned.Delete(shareOf(user, u.Draining))
		return
	}
	n := 0
	for _, e := range entries {
		slot := agentkeys.Slot{User: user, Agent: e.Agent, Service: e.Service}
		if p, ok, _, err := one(ctx, j.s.cfg.Chain, rules.PointerKey(slot), rules.ParsePointer); err == nil && ok && p.Idle == statement.IdleExpire {
			n++
		}
	}
	if n > 0 {
		at := time.Unix(int64(u.Active.Opened+params.DrainWindow), 0).UTC()
		j.s.log.Warn("credentials will expire unless they are read", "user", user.String(), "count", n, "at", at.Format(time.RFC3339))
	}
}

// dropExpired removes the rows of credentials that their owner let expire: nobody read
// them while they drained, and the window is over. The rest stays in the job.
func (j *Jobs) dropExpired(ctx context.Context, user agentkeys.Wallet, u rules.User, entries []rotation.Entry) ([]rotation.Entry, error) {
	params, err := j.s.Params(ctx)
	if err != nil {
		return nil, j.s.chainFailed(err)
	}
	if blockTime(j.s.cfg.Chain.Head()) <= u.Active.Opened+params.DrainWindow {
		return entries, nil
	}
	kept := entries[:0]
	for _, e := range entries {
		slot := agentkeys.Slot{User: user, Agent: e.Agent, Service: e.Service}
		p, ok, _, err := one(ctx, j.s.cfg.Chain, rules.PointerKey(slot), rules.ParsePointer)
		if err != nil {
			return nil, j.s.chainFailed(err)
		}
		if !ok || p.Idle != statement.IdleExpire {
			kept = append(kept, e)
			continue
		}
		if err := j.drop(ctx, slot, p, statement.DropExpired); err != nil {
			return nil, fmt.Errorf("drop of an expired credential: %w", err)
		}
		j.s.log.Warn("a credential expired: nobody read it while its epoch drained", "user", user.String(), "service", slot.Service.String())
	}
	return kept, nil
}

// drop has a row removed and its object deleted after the grace.
func (j *Jobs) drop(ctx context.Context, slot agentkeys.Slot, p rules.Pointer, why statement.DropReason) error {
	s := statement.Drop{User: slot.User, Agent: slot.Agent, Service: slot.Service, Version: p.Version, Hash: p.Hash,
		Reason: why, ValidUntil: j.s.statementValidUntil()}
	err := j.k.submit(ctx, s, rules.PointerKey(slot), func(v []byte) bool { return v == nil })
	if err == nil {
		j.s.proxies.drop(slot.User, takesVersion(slot, p.Version, "deleted")) // nobody waits for this
		j.eraser.discard(slot.User, blobstore.Key(slot.User, p.Epoch, slot.Service, p.Blob))
	}
	return err
}

// dropLost removes the row of an object that has been missing for long enough.
func (j *Jobs) dropLost(ctx context.Context, slot agentkeys.Slot, p rules.Pointer) {
	params, err := j.s.Params(ctx)
	if err != nil || blockTime(j.s.cfg.Chain.Head()) < p.MissingSince+params.LostAfter {
		return
	}
	if err := j.drop(ctx, slot, p, statement.DropLost); err != nil {
		j.s.log.Warn("drop of a lost object failed, will come again", "error", err.Error())
	}
}
