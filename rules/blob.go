package rules

import (
	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// registerBlob writes a pointer into the active epoch. The new version is
// PreviousVersion + 1; a slot without a row takes only the version above the
// user's floor, so nothing signed before a delete applies after it, and nobody
// can use up a user's versions.
func (t *tx) registerBlob(s statement.RegisterBlob) error {
	if err := t.validUntil(s.ValidUntil); err != nil {
		return err
	}
	u, err := t.user(s.User)
	if err != nil {
		return err
	}
	slot := agentkeys.Slot{User: s.User, Agent: s.Agent, Service: s.Service}
	old, ok, err := get(t.kv, PointerKey(slot), ParsePointer)
	switch {
	case err != nil:
		return err
	case ok && old.Version == s.PreviousVersion+1 && old.Hash == s.Hash && old.Blob == s.Blob:
		return refuse(AlreadyApplied, "pointer has version %d", old.Version)
	case s.Epoch == 0 || s.Epoch != u.Active.Epoch:
		return refuse(WrongEpoch, "the active epoch is %d; seal it again", u.Active.Epoch)
	case ok && (old.Version != s.PreviousVersion || old.Hash != s.PreviousHash):
		return refuse(Stale, "pointer has version %d, signed was %d", old.Version, s.PreviousVersion)
	case !ok && (s.PreviousVersion != u.Floor || s.PreviousHash != agentkeys.Hash{}):
		return refuse(Stale, "slot is empty: sign previous version %d and no hash", u.Floor)
	case s.Hash == agentkeys.Hash{}:
		return refuse(Refused, "hash: zero stands for an empty slot")
	case s.PreviousVersion >= maxNumber || uint64(u.Active.LiveCount)+uint64(u.Draining.LiveCount) >= 1<<32-1:
		return refuse(Refused, "version or count out of range")
	}
	if ok {
		t.leave(&u, s.User, old.Epoch)
	}
	u.Active.LiveCount++
	p := Pointer{Version: s.PreviousVersion + 1, Epoch: s.Epoch, Blob: s.Blob, Hash: s.Hash, Height: t.b.Height,
		Idle: s.Idle, SealedName: s.SealedName}
	t.event("BlobWritten", attr("user", s.User), attr("service", s.Service), attr("blob", s.Blob))
	if err := t.kv.Set(PointerKey(slot), p.Append(nil)); err != nil {
		return err
	}
	return t.kv.Set(UserKey(s.User), u.Append(nil))
}

// leave counts one pointer out of an epoch and says when the draining one is empty.
func (t *tx) leave(u *User, user agentkeys.Wallet, e agentkeys.Epoch) {
	if e == u.Active.Epoch {
		u.Active.LiveCount--
		return
	}
	u.Draining.LiveCount--
	if u.Draining.LiveCount == 0 {
		t.event("EpochRotated", attr("user", user), attr("epoch", e))
	}
}

func (t *tx) removePointer(slot agentkeys.Slot, u User, p Pointer, reason string) error {
	t.leave(&u, slot.User, p.Epoch)
	u.Floor = max(u.Floor, p.Version)
	t.event("BlobDeleted", attr("user", slot.User), attr("service", slot.Service), [2]string{"reason", reason})
	if err := t.kv.Delete(PointerKey(slot)); err != nil {
		return err
	}
	return t.kv.Set(UserKey(slot.User), u.Append(nil))
}

// drop removes an expired or lost row. Missing objects alone cannot empty an
// epoch early, and cannot stop it from emptying.
func (t *tx) drop(s statement.Drop) error {
	u, slot, p, err := t.matching(s.User, s.Agent, s.Service, s.Version, s.Hash, s.ValidUntil)
	if err != nil {
		return err
	}
	if s.Reason == statement.DropLost {
		if p.MissingSince == 0 || t.b.Time < p.MissingSince+t.params.LostAfter {
			return refuse(TooEarly, "object must be reported missing for %d s first", t.params.LostAfter)
		}
		return t.removePointer(slot, u, p, "lost")
	}
	if p.Idle != statement.IdleExpire || p.Epoch != u.Draining.Epoch {
		return refuse(Refused, "credential does not expire in this epoch")
	}
	if t.b.Time <= u.Active.Opened+t.params.DrainWindow {
		return refuse(TooEarly, "the drain window is open")
	}
	return t.removePointer(slot, u, p, "expired")
}

func (t *tx) reportLost(s statement.ReportLost) error {
	_, slot, p, err := t.matching(s.User, s.Agent, s.Service, s.Version, s.Hash, s.ValidUntil)
	if err != nil {
		return err
	}
	if s.Missing == (p.MissingSince != 0) {
		return refuse(AlreadyApplied, "reported before")
	}
	if s.Height != p.Height {
		return refuse(Stale, "row changed at height %d, signed was %d", p.Height, s.Height)
	}
	p.MissingSince, p.Height = 0, t.b.Height
	if s.Missing {
		p.MissingSince = t.b.Time
	}
	return t.kv.Set(PointerKey(slot), p.Append(nil))
}

// matching finds the row that a statement names by version and hash.
func (t *tx) matching(user, agent agentkeys.Wallet, svc agentkeys.ServiceID, version uint64, hash agentkeys.Hash, validUntil uint64) (u User, slot agentkeys.Slot, p Pointer, err error) {
	if err = t.validUntil(validUntil); err != nil {
		return
	}
	if u, err = t.user(user); err != nil {
		return
	}
	slot = agentkeys.Slot{User: user, Agent: agent, Service: svc}
	p, ok, err := get(t.kv, PointerKey(slot), ParsePointer)
	switch {
	case err != nil:
	case !ok && version <= u.Floor:
		err = refuse(AlreadyApplied, "credential is gone")
	case !ok:
		err = refuse(NotFound, "no credential in this slot")
	case p.Version != version || p.Hash != hash:
		err = refuse(Stale, "pointer has version %d", p.Version)
	}
	return u, slot, p, err
}
