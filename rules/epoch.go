package rules

import (
	"encoding/binary"
	"slices"

	"example.org/agentkeys"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/statement"
)

// openEpoch is the switch: the active epoch becomes the draining one. It waits
// until the place of the draining epoch is clear.
func (t *tx) openEpoch(s statement.OpenEpoch) error {
	if err := t.validUntil(s.ValidUntil); err != nil {
		return err
	}
	m := s.Receipt
	u, err := t.user(m.User)
	switch {
	case err != nil:
		return err
	case m.Epoch != 0 && m.Epoch == u.Active.Epoch && m.DEKID != u.Active.DEKID:
		return refuse(Stale, "epoch %d is open with another data key", m.Epoch)
	case m.Epoch != 0 && m.Epoch <= u.Active.Epoch:
		return refuse(AlreadyApplied, "epoch %d is open or over", m.Epoch)
	case m.Epoch == 0 || m.Epoch != u.Active.Epoch+1:
		return refuse(WrongEpoch, "the active epoch is %d; open the next", u.Active.Epoch)
	case u.Draining.Epoch != 0:
		return refuse(NotDrained, "epoch %d is draining; destroy it first", u.Draining.Epoch)
	case m.DEKID == agentkeys.DEKID{} || m.DEKID == u.Active.DEKID || wrapVersion(m.Wrapped) == 0:
		return refuse(Refused, "data key: not new, or without a wrap version")
	}
	if u.Active.Epoch != 0 {
		u.Draining = u.Active
		u.Draining.Eager = u.Due > u.Active.Epoch || u.Active.Opened < t.system.RotateBefore
	}
	u.Active = EpochRow{Epoch: m.Epoch, Opened: t.b.Time, DEKID: m.DEKID, Wrapped: m.Wrapped}
	if err := t.countEpochs(1); err != nil {
		return err
	}
	t.event("EpochOpened", attr("user", m.User), attr("epoch", m.Epoch))
	switch {
	case u.Draining.Epoch == 0:
	case u.Draining.LiveCount == 0:
		t.event("EpochRotated", attr("user", m.User), attr("epoch", u.Draining.Epoch))
	case !u.Draining.Eager:
		// What its owner lets expire may be deleted after this time and not before.
		t.event("EpochDraining", attr("user", m.User), attr("epoch", u.Draining.Epoch), number("count", uint64(u.Draining.LiveCount)),
			number("until", t.b.Time+t.params.DrainWindow))
	}
	return t.kv.Set(UserKey(m.User), u.Append(nil))
}

// rotateBlobs moves pointers from the draining epoch into the active one. A row
// that changed meanwhile is skipped and reported, never an error.
func (t *tx) rotateBlobs(s statement.RotateBlobs) error {
	if err := t.validUntil(s.ValidUntil); err != nil {
		return err
	}
	c := s.Receipt
	u, err := t.user(c.User)
	switch {
	case err != nil:
		return err
	case c.From != 0 && c.From < u.Active.Epoch && c.From != u.Draining.Epoch:
		return refuse(AlreadyApplied, "epoch %d is destroyed", c.From)
	case c.From == 0 || c.From != u.Draining.Epoch || c.To != u.Active.Epoch:
		return refuse(WrongEpoch, "draining is %d, active %d", u.Draining.Epoch, u.Active.Epoch)
	case c.FromDEKID != u.Draining.DEKID || c.ToDEKID != u.Active.DEKID:
		return refuse(Refused, "receipt names other data keys")
	case slices.ContainsFunc(c.Rows, func(r receipt.Row) bool { return r.NewHash == agentkeys.Hash{} }):
		return refuse(Refused, "hash: zero stands for an empty slot")
	}
	moved := 0
	for i, row := range c.Rows {
		ok, err := t.rotateRow(&u, c, row)
		if err != nil {
			return err
		}
		if !ok {
			t.res.Skipped = append(t.res.Skipped, uint16(i))
			continue
		}
		moved++
	}
	if moved == 0 {
		return refuse(AlreadyApplied, "no row of this chunk waits to be moved")
	}
	t.event("BlobRotated", attr("user", c.User), attr("epoch", c.To), number("count", uint64(moved)))
	return t.kv.Set(UserKey(c.User), u.Append(nil))
}

func (t *tx) rotateRow(u *User, c receipt.Rotated, row receipt.Row) (bool, error) {
	key := PointerKey(agentkeys.Slot{User: c.User, Agent: row.Agent, Service: row.Service})
	p, ok, err := get(t.kv, key, ParsePointer)
	if err != nil || !ok || p.Version != row.Version || p.Hash != row.OldHash || p.Epoch != c.From {
		return false, err
	}
	p.Epoch, p.Blob, p.Hash, p.Height, p.MissingSince = c.To, row.NewBlob, row.NewHash, t.b.Height, 0
	u.Active.LiveCount++
	t.leave(u, c.User, c.From)
	return true, t.kv.Set(key, p.Append(nil))
}

func (t *tx) rewrapDEK(s statement.RewrapDEK) error {
	if err := t.validUntil(s.ValidUntil); err != nil {
		return err
	}
	w := s.Receipt
	u, err := t.user(w.User)
	if err != nil {
		return err
	}
	place := &u.Active
	if w.Epoch == u.Draining.Epoch {
		place = &u.Draining
	}
	switch {
	case w.Epoch == 0 || place.Epoch != w.Epoch:
		return refuse(WrongEpoch, "epoch %d is not live", w.Epoch)
	case place.Wrapped == w.Wrapped:
		return refuse(AlreadyApplied, "wrapped so already")
	case place.DEKID != w.DEKID:
		return refuse(Refused, "receipt names another data key")
	case wrapVersion(place.Wrapped) != w.From || wrapVersion(w.Wrapped) <= w.From:
		return refuse(Stale, "wrap version is %d", wrapVersion(place.Wrapped))
	}
	place.Wrapped = w.Wrapped
	return t.kv.Set(UserKey(w.User), u.Append(nil))
}

// destroyEpoch notes that one anchor erased the share; the last live anchor's
// clears the place.
func (t *tx) destroyEpoch(s statement.DestroyEpoch, keeper agentkeys.ProcessKey) error {
	if err := t.validUntil(s.ValidUntil); err != nil {
		return err
	}
	u, err := t.user(s.User)
	switch {
	case err != nil:
		return err
	case s.Epoch != 0 && s.Epoch < u.Active.Epoch && s.Epoch != u.Draining.Epoch:
		return refuse(AlreadyApplied, "epoch %d is destroyed", s.Epoch)
	case s.Epoch == 0 || s.Epoch != u.Draining.Epoch:
		return refuse(WrongEpoch, "epoch %d is not draining", s.Epoch)
	case u.Draining.LiveCount != 0:
		return refuse(NotDrained, "%d credentials are still in epoch %d", u.Draining.LiveCount, s.Epoch)
	}
	a, err := t.keeper(s.Anchor, s.Term, keeper)
	if err != nil {
		return err
	}
	if a.State != AnchorLive || a.Generation != s.Generation {
		return refuse(Stale, "anchor is at generation %d", a.Generation)
	}
	bit, live, err := t.anchorBits(s.Anchor)
	if err != nil {
		return err
	}
	before := u.Draining.Erased
	u.Draining.Erased |= bit
	if u.Draining.Erased&live == live {
		u.Draining = EpochRow{}
		t.event("EpochDestroyed", attr("user", s.User), attr("epoch", s.Epoch))
		if err := t.countEpochs(-1); err != nil {
			return err
		}
	} else if before == u.Draining.Erased {
		return refuse(AlreadyApplied, "this anchor has reported; others have not")
	}
	return t.kv.Set(UserKey(s.User), u.Append(nil))
}

func (t *tx) countEpochs(by int64) error {
	t.system.LiveEpochs = uint64(int64(t.system.LiveEpochs) + by)
	t.res.Scope = TouchedSystem
	return t.kv.Set(SystemKey(), t.system.Append(nil))
}

// anchorBits gives the bit of one anchor and the bits of all that are live.
func (t *tx) anchorBits(id statement.AnchorID) (bit, live uint8, err error) {
	list, _, err := get(t.kv, AnchorsKey(), ParseAnchors)
	if err != nil {
		return 0, 0, err
	}
	for i, other := range list {
		a, _, err := get(t.kv, AnchorKey(other), ParseAnchor)
		if err != nil {
			return 0, 0, err
		}
		if other == id {
			bit = 1 << i
		}
		if a.State == AnchorLive {
			live |= 1 << i
		}
	}
	return bit, live, nil
}

// wrapVersion is the number of the shielding key a data key is wrapped under.
func wrapVersion(w agentkeys.WrappedDEK) uint32 { return binary.BigEndian.Uint32(w[:4]) }
