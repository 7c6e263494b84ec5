package rules

import (
	"fmt"
	"slices"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// authority runs one act. Acts are k-of-n decisions made outside; repeats are
// answered as such.
func (t *tx) authority(act statement.Body) error {
	switch a := act.(type) {
	case statement.SetParams:
		return t.setParams(a)
	case statement.AllowMeasurement:
		key := MeasurementKey(a.Role, a.Platform, a.Measurement)
		if _, ok, err := get(t.kv, key, ParseMeasurement); err != nil || ok {
			return orRepeat(err)
		}
		return t.kv.Set(key, Measurement{t.b.Time + t.params.MeasurementWait}.Append(nil))
	case statement.RemoveMeasurement:
		key := MeasurementKey(a.Role, a.Platform, a.Measurement)
		if _, ok, err := get(t.kv, key, ParseMeasurement); err != nil || !ok {
			return orRepeat(err)
		}
		return t.kv.Delete(key)
	case statement.RegisterEnclave:
		return t.register(a.Role, a.Key, Enclave{Platform: a.Platform, Measurement: a.Measurement,
			Evidence: a.Evidence, Activation: t.b.Time, Expiry: a.Expiry}, true)
	case statement.RevokeEnclave:
		return t.revokeEnclave(a)
	case statement.SetOidcKey:
		return t.setOidcKey(a)
	case statement.AddAnchor:
		return t.addAnchor(a)
	case statement.RetireAnchor:
		return t.endAnchor(a.Anchor, AnchorRetired)
	case statement.EvictAnchor:
		return t.endAnchor(a.Anchor, AnchorEvicted)
	case statement.RotateUser:
		return t.rotateUser(a)
	case statement.RotateAll:
		t.system.RotateBefore = t.b.Time + 1
		return nil // written with the log
	}
	return refuse(BadLayout, "act: unknown kind")
}

func orRepeat(err error) error {
	if err != nil {
		return err
	}
	return refuse(AlreadyApplied, "done before")
}

func (t *tx) setParams(a statement.SetParams) error {
	if err := checkParams(a.Params); err != nil {
		return refuse(Refused, "%v", err)
	}
	if a.Activation <= t.b.Height {
		return refuse(TooEarly, "activation must lie above height %d", t.b.Height)
	}
	row, _, err := get(t.kv, ParamsKey(), ParseParams)
	if err != nil {
		return err
	}
	next := ParamsRow{row.At(t.b.Height), a.Params, a.Activation}
	return t.kv.Set(ParamsKey(), next.Append(nil))
}

// maxSeconds keeps sums of a block time and a param from wrapping: 136 years.
const maxSeconds = 1 << 32

func checkParams(p statement.Params) error {
	for _, n := range []uint64{p.Cadence, p.MaxHeadAge, p.MaxValidity, p.LostAfter} {
		if n == 0 || n > maxSeconds {
			return fmt.Errorf("params: cadence, head age, validity and lost-after must be 1 to %d s", uint64(maxSeconds))
		}
	}
	if p.DrainWindow > p.Cadence || p.MeasurementWait > maxSeconds {
		return fmt.Errorf("params: the drain window is at most the cadence, the wait for a measurement %d s", uint64(maxSeconds))
	}
	return nil
}

func (t *tx) setOidcKey(a statement.SetOidcKey) error {
	key := OidcKey(a.KeyHash)
	v, err := t.kv.Get(key)
	if err != nil || a.Active == (v != nil) {
		return orRepeat(err)
	}
	if !a.Active {
		return t.kv.Delete(key)
	}
	return t.kv.Set(key, []byte{1})
}

func (t *tx) revokeEnclave(a statement.RevokeEnclave) error {
	e, ok, err := get(t.kv, EnclaveKey(a.Role, a.Key), ParseEnclave)
	if err != nil {
		return err
	}
	if ok && e.Revoked {
		return orRepeat(nil)
	}
	e.Revoked = true // a row for a key never seen: it cannot be registered later
	t.event("EnclaveRevoked", attr("key", a.Key), number("role", uint64(a.Role)))
	return t.kv.Set(EnclaveKey(a.Role, a.Key), e.Append(nil))
}

func (t *tx) addAnchor(a statement.AddAnchor) error {
	list, _, err := get(t.kv, AnchorsKey(), ParseAnchors)
	if err != nil || slices.Contains(list, a.Anchor) {
		return orRepeat(err)
	}
	if len(list) == MaxAnchors {
		return refuse(Refused, "a vault has at most %d anchors", MaxAnchors)
	}
	if err := t.kv.Set(AnchorsKey(), append(list, a.Anchor).Append(nil)); err != nil {
		return err
	}
	return t.kv.Set(AnchorKey(a.Anchor), Anchor{Type: a.Type, State: AnchorJoining}.Append(nil))
}

// endAnchor never takes the last live anchor: every credential would be lost. An
// anchor out of use stays in the state it ended in.
func (t *tx) endAnchor(id statement.AnchorID, state AnchorState) error {
	a, ok, err := get(t.kv, AnchorKey(id), ParseAnchor)
	if err != nil {
		return err
	}
	if !ok {
		return refuse(NotFound, "anchor is unknown")
	}
	if a.State == state {
		return orRepeat(nil)
	}
	if a.State != AnchorLive && a.State != AnchorJoining {
		return refuse(Refused, "anchor is out of use already")
	}
	bit, live, err := t.anchorBits(id)
	if err != nil {
		return err
	}
	if a.State == AnchorLive && live&^bit == 0 {
		return refuse(Refused, "this is the last live anchor: without it every credential is lost")
	}
	a.State = state
	return t.kv.Set(AnchorKey(id), a.Append(nil))
}

func (t *tx) rotateUser(a statement.RotateUser) error {
	u, err := t.user(a.User)
	if err != nil {
		return err
	}
	if u.Active.Epoch == 0 || u.Active.Epoch == ^agentkeys.Epoch(0) || u.Due > u.Active.Epoch {
		return refuse(AlreadyApplied, "the next epoch is due")
	}
	t.due(&u)
	return t.kv.Set(UserKey(a.User), u.Append(nil))
}
