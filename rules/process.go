package rules

import (
	"example.org/agentkeys"
	"example.org/agentkeys/record"
	"example.org/agentkeys/statement"
)

// MaxLease is how long a keeper may hold an anchor without renewing, in seconds.
const MaxLease = 86400

// keeper refuses anyone who does not hold the anchor's lease in this term.
func (t *tx) keeper(id statement.AnchorID, term uint64, key agentkeys.ProcessKey) (Anchor, error) {
	a, ok, err := get(t.kv, AnchorKey(id), ParseAnchor)
	switch {
	case err != nil:
		return a, err
	case !ok || a.State != AnchorJoining && a.State != AnchorLive:
		return a, refuse(NotFound, "anchor is unknown or out of use")
	case a.Keeper != key || a.Term != term || t.b.Time > a.LeaseUntil:
		return a, refuse(NotKeeper, "the lease is not held in term %d; take it first", term)
	}
	return a, nil
}

// commitTree moves an anchor to its next generation. The first one makes a
// joining anchor live: by then its tree holds every live share.
func (t *tx) commitTree(s statement.CommitTree, key agentkeys.ProcessKey) error {
	if err := t.validUntil(s.ValidUntil); err != nil {
		return err
	}
	a, err := t.keeper(s.Anchor, s.Term, key)
	if err != nil {
		return err
	}
	if a.Generation == s.Previous+1 && a.IndexHash == s.IndexHash {
		return refuse(AlreadyApplied, "anchor is at generation %d", a.Generation)
	}
	if a.Generation != s.Previous {
		return refuse(Stale, "anchor is at generation %d", a.Generation)
	}
	a.Generation, a.IndexHash, a.State = a.Generation+1, s.IndexHash, AnchorLive
	t.event("AnchorCommitted", number("generation", a.Generation))
	return t.kv.Set(AnchorKey(s.Anchor), a.Append(nil))
}

// takeKeeper takes a lease that has run out, in the next term, or renews one's own.
func (t *tx) takeKeeper(s statement.TakeKeeper, key agentkeys.ProcessKey) error {
	if err := t.validUntil(s.ValidUntil); err != nil {
		return err
	}
	a, ok, err := get(t.kv, AnchorKey(s.Anchor), ParseAnchor)
	switch {
	case err != nil:
		return err
	case !ok || a.State != AnchorJoining && a.State != AnchorLive:
		return refuse(NotFound, "anchor is unknown or out of use")
	case s.LeaseUntil <= t.b.Time || s.LeaseUntil-t.b.Time > MaxLease:
		return refuse(Refused, "lease: at most %d s ahead", MaxLease)
	case a.Keeper == key && a.Term == s.Term && s.LeaseUntil <= a.LeaseUntil:
		return refuse(AlreadyApplied, "lease is held until %d", a.LeaseUntil)
	case a.Keeper == key && a.Term == s.Term:
	case s.Term != a.Term+1:
		return refuse(Stale, "the term is %d", a.Term)
	case a.Keeper != key && t.b.Time <= a.LeaseUntil:
		return refuse(NotKeeper, "the lease is held until %d", a.LeaseUntil)
	}
	a.Keeper, a.Term, a.LeaseUntil = key, s.Term, s.LeaseUntil
	return t.kv.Set(AnchorKey(s.Anchor), a.Append(nil))
}

func (t *tx) recordReads(s statement.RecordReads, key agentkeys.ProcessKey) error {
	r, err := t.reads(key)
	if err != nil {
		return err
	}
	head := record.NextHead(t.vault, s.Previous, s.First, s.Count, s.Root)
	switch {
	case s.First != 0 && r.Next == s.First+uint64(s.Count) && r.Head == head:
		return refuse(AlreadyApplied, "recorded")
	case t.b.Time > s.ValidUntil:
		return refuse(Expired, "valid until %d, block time is %d; sign it again", s.ValidUntil, t.b.Time)
	case s.Count == 0 || r.Next != s.First || r.Head != s.Previous:
		return refuse(Stale, "the next record is %d", r.Next)
	case s.Boots < r.Boots || s.SeenHeight < r.SeenHeight:
		return refuse(Stale, "boots or height went back")
	}
	r.Next, r.Head, r.Boots, r.SeenHeight = s.First+uint64(s.Count), head, s.Boots, s.SeenHeight
	t.event("CredsRead", attr("custodian", key), number("count", uint64(s.Count)))
	return t.kv.Set(ReadsKey(key), r.Append(nil))
}

// heartbeat makes a block. It has no upper bound on its validity: after an idle
// gap the block time is old, and the beat number alone stops repeats.
func (t *tx) heartbeat(s statement.Heartbeat, key agentkeys.ProcessKey) error {
	r, err := t.reads(key)
	switch {
	case err != nil:
		return err
	case r.Beat == s.Previous+1 && r.Nonce == s.Nonce:
		return refuse(AlreadyApplied, "beat %d", r.Beat)
	case t.b.Time > s.ValidUntil:
		return refuse(Expired, "valid until %d, block time is %d; sign it again", s.ValidUntil, t.b.Time)
	case r.Beat != s.Previous:
		return refuse(Stale, "the beat is %d", r.Beat)
	}
	r.Beat, r.Nonce, r.SeenHeight = r.Beat+1, s.Nonce, max(r.SeenHeight, s.SeenHeight)
	return t.kv.Set(ReadsKey(key), r.Append(nil))
}

func (t *tx) reads(key agentkeys.ProcessKey) (Reads, error) {
	r, ok, err := get(t.kv, ReadsKey(key), ParseReads)
	if !ok {
		r.Next = 1
	}
	return r, err
}

// vouch registers a rotator, active at once: a live custodian checked its
// evidence against the allow-list that the chain keeps.
func (t *tx) vouch(s statement.Vouch) error {
	if err := t.validUntil(s.ValidUntil); err != nil {
		return err
	}
	e := Enclave{Platform: s.Platform, Measurement: s.Measurement, Evidence: s.Evidence, Noise: s.Noise,
		MLKEMHash: s.MLKEMHash, Activation: t.b.Time, Expiry: s.Expiry}
	return t.register(statement.EnclaveRotator, s.Rotator, e, false)
}

// register refuses measurements that are not allowed, and keys that exist: a key
// once revoked stays so. Only the authority may renew the evidence of a key: a
// custodian of a newer build keeps its instance key. The system log holds both.
func (t *tx) register(role statement.EnclaveRole, key agentkeys.ProcessKey, e Enclave, renew bool) error {
	if key == (agentkeys.ProcessKey{}) {
		return refuse(Refused, "key: zero is nobody's")
	}
	m, ok, err := get(t.kv, MeasurementKey(role, e.Platform, e.Measurement), ParseMeasurement)
	switch {
	case err != nil:
		return err
	case !ok || t.b.Time < m.Activation:
		return refuse(NotRegistered, "measurement is not allowed, or not yet")
	case e.Expiry != 0 && e.Expiry <= t.b.Time:
		return refuse(Expired, "expiry lies behind")
	}
	old, ok, err := get(t.kv, EnclaveKey(role, key), ParseEnclave)
	if err != nil {
		return err
	}
	if ok && old.Revoked {
		return refuse(Refused, "this key was revoked; make a new one")
	}
	if ok {
		e.Activation = old.Activation
		if renew { // an act names no channel keys, so it cannot take a rotator's away
			e.Noise, e.MLKEMHash = old.Noise, old.MLKEMHash
		}
		if e == old {
			return refuse(AlreadyApplied, "process is registered")
		}
		if !renew {
			return refuse(Refused, "this key is registered with other evidence or keys; make a new one")
		}
	}
	t.event("EnclaveRegistered", attr("key", key), number("role", uint64(role)))
	return t.kv.Set(EnclaveKey(role, key), e.Append(nil))
}
