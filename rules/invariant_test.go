package rules_test

import (
	"fmt"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// The tests of this file carry the numbers of the invariants in
// docs/spec/rules.md.

func TestInvariant1AtMostOneActiveAndOneDrainingEpoch(t *testing.T) {
	f := enrolled(t, anchorA)
	f.ok(f.SignProcess(f.write(github, "1")))
	f.next(1)
	f.ok(f.open(2))
	u := f.row()
	if u.Active.Epoch != 2 || u.Draining.Epoch != 1 || u.Draining.LiveCount != 1 || u.Active.LiveCount != 0 || u.Draining.Eager {
		t.Fatalf("%+v", u)
	}
	if f.System().LiveEpochs != 2 {
		t.Fatalf("%+v", f.System())
	}
	f.want(rules.NotDrained, f.open(3))
	f.ok(f.SignProcess(f.rotate(github)))
	f.want(rules.NotDrained, f.open(3)) // empty, but its share exists
	f.ok(f.SignProcess(f.destroy(anchorA)))
	if u := f.row(); u.Draining != (rules.EpochRow{}) || f.System().LiveEpochs != 1 {
		t.Fatalf("%+v", u)
	}
	f.ok(f.open(3))
	f.check()
}

func TestInvariant1RevocationAndRequestMakeTheNextEpochDue(t *testing.T) {
	revoke := func(f *fixture) []byte { return f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent}) }
	ask := func(f *fixture) []byte {
		return f.sign(statement.AskRotation{User: f.user, Due: f.row().Active.Epoch + 1})
	}
	for name, due := range map[string]func(f *fixture) []byte{"revoke": revoke, "ask": ask} {
		t.Run(name, func(t *testing.T) {
			f := enrolled(t, anchorA)
			f.ok(due(f))
			if u := f.row(); u.Due != 2 {
				t.Fatalf("%+v", u)
			}
			f.ok(f.open(2))
			if u := f.row(); !u.Draining.Eager || u.Due > u.Active.Epoch {
				t.Fatalf("%+v", u)
			}
			g := enrolled(t, anchorA)
			draining(g)
			g.ok(due(g))
			if u := g.row(); !u.Draining.Eager || u.Due != 3 {
				t.Fatalf("already draining: %+v", u)
			}
		})
	}
}

func TestInvariant2NothingSignedBeforeADeleteAppliesAfterIt(t *testing.T) {
	f := enrolled(t, anchorA)
	intoEmpty := f.SignProcess(f.write(github, "held, slot was empty"))
	f.ok(f.SignProcess(f.write(github, "1")))
	overwrite := f.SignProcess(f.write(github, "held, slot had version 1"))
	f.ok(f.SignProcess(f.write(openai, "1")))
	f.next(1)
	del := f.sign(statement.Delete{User: f.user, Agent: f.user, Service: github, Version: 1})
	f.ok(del)
	f.want(rules.Stale, intoEmpty)
	f.want(rules.Stale, overwrite)
	if p := f.Pointer(f.slot(github)); p.Version != 0 {
		t.Fatalf("came back: %+v", p)
	}
	// A new write gets a version that no earlier one had, and the old delete does
	// not touch it.
	f.ok(f.SignProcess(f.write(github, "2")))
	if p := f.Pointer(f.slot(github)); p.Version != 2 {
		t.Fatalf("%+v", p)
	}
	f.want(rules.Stale, del)
	f.want(rules.Stale, intoEmpty)
	f.want(rules.Stale, overwrite)
	f.check()
}

func TestInvariant2OverwriteByCompareAndSwapKeepsCounts(t *testing.T) {
	f := enrolled(t, anchorA)
	draining(f)
	f.ok(f.SignProcess(f.write(github, "2"))) // leaves the draining epoch
	u, p := f.row(), f.Pointer(f.slot(github))
	if u.Draining.LiveCount != 0 || u.Active.LiveCount != 2 || p.Epoch != 2 || p.Version != 2 || p.Height != f.Block.Height {
		t.Fatalf("%+v %+v", u, p)
	}
	f.ok(f.SignProcess(f.write(github, "3")))
	if u := f.row(); u.Active.LiveCount != 2 {
		t.Fatalf("%+v", u)
	}
	f.check()
}

func TestInvariant2RotateBlobsSkipsRowsThatChanged(t *testing.T) {
	f := enrolled(t, anchorA)
	svcs := []agentkeys.ServiceID{github, openai, eip712.ServiceID("c"), eip712.ServiceID("d"), eip712.ServiceID("e")}
	for _, s := range svcs {
		f.ok(f.SignProcess(f.write(s, "1")))
	}
	f.next(1)
	f.ok(f.open(2))
	chunk := f.rotate(append(svcs, svcs[4])...) // the last row comes twice
	f.ok(f.SignProcess(f.write(svcs[1], "overwritten")))
	f.ok(f.sign(statement.Delete{User: f.user, Agent: f.user, Service: svcs[2], Version: 1}))
	chunk.Receipt.Rows[3].OldHash[0] ^= 1
	f.next(1)
	r := f.ok(f.SignProcess(chunk))
	if want := []uint16{1, 2, 3, 5}; len(r.Skipped) != len(want) || r.Skipped[0] != 1 || r.Skipped[1] != 2 || r.Skipped[2] != 3 || r.Skipped[3] != 5 {
		t.Fatalf("skipped %v, want %v", r.Skipped, want)
	}
	p := f.Pointer(f.slot(svcs[0]))
	row := chunk.Receipt.Rows[0]
	if p.Version != 1 || p.Epoch != 2 || p.Hash != row.NewHash || p.Blob != row.NewBlob || p.Height != f.Block.Height {
		t.Fatalf("%+v", p)
	}
	if u := f.row(); u.Draining.LiveCount != 1 || u.Active.LiveCount != 3 {
		t.Fatalf("%+v", u)
	}
	f.check()
}

func TestInvariant2RotateBlobsLeavesTheActiveEpochAlone(t *testing.T) {
	f := enrolled(t, anchorA)
	draining(f)
	before := f.Pointer(f.slot(openai)) // lies in the active epoch; version and hash match
	if r := f.ok(f.SignProcess(f.rotate(openai, github))); len(r.Skipped) != 1 || r.Skipped[0] != 0 {
		t.Fatalf("skipped %v", r.Skipped)
	}
	if p := f.Pointer(f.slot(openai)); p != before {
		t.Fatalf("%+v", p)
	}
	f.check()
}

func TestInvariant3EpochRotatedComesFromTheModuleAtCountZero(t *testing.T) {
	rotated := func(r rules.Result) (n int) {
		for _, e := range r.Events {
			if e.Name == "EpochRotated" {
				n++
			}
		}
		return n
	}
	for name, last := range map[string]func(f *fixture) []byte{
		"re-sealed":   func(f *fixture) []byte { return f.SignProcess(f.rotate(github)) },
		"overwritten": func(f *fixture) []byte { return f.SignProcess(f.write(github, "2")) },
		"deleted": func(f *fixture) []byte {
			return f.sign(statement.Delete{User: f.user, Agent: f.user, Service: github, Version: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := enrolled(t, anchorA)
			draining(f)
			f.want(rules.NotDrained, f.SignProcess(f.destroy(anchorA)))
			if n := rotated(f.ok(last(f))); n != 1 {
				t.Fatalf("%d EpochRotated", n)
			}
			f.ok(f.SignProcess(f.destroy(anchorA)))
			f.check()
		})
	}
	f := enrolled(t, anchorA)
	if n := rotated(f.ok(f.open(2))); n != 1 {
		t.Fatalf("an epoch that drains empty: %d EpochRotated", n)
	}
}

func TestInvariant3DestroyNeedsEveryLiveAnchor(t *testing.T) {
	f := enrolled(t, anchorA, anchorB)
	f.ok(f.open(2))
	a := f.SignProcess(f.destroy(anchorA))
	f.ok(a)
	if u := f.row(); u.Draining.Epoch != 1 || u.Draining.Erased != 1 {
		t.Fatalf("%+v", u)
	}
	f.want(rules.AlreadyApplied, a)
	f.want(rules.NotDrained, f.open(3))
	f.ok(f.SignProcess(f.destroy(anchorB)))
	if u := f.row(); u.Draining != (rules.EpochRow{}) {
		t.Fatalf("%+v", u)
	}
	f.want(rules.AlreadyApplied, a)
	f.check()
}

func TestInvariant3EvictionOfADeadAnchorLetsDestructionGoOn(t *testing.T) {
	f := enrolled(t, anchorA, anchorB)
	f.ok(f.open(2))
	a := f.SignProcess(f.destroy(anchorA))
	f.ok(a)
	f.next(1)
	f.want(rules.AlreadyApplied, a)
	f.wantAct(rules.OK, statement.EvictAnchor{Anchor: anchorB})
	if u := f.row(); u.Draining.Epoch != 1 {
		t.Fatalf("an eviction alone clears nothing: %+v", u)
	}
	f.want(rules.NotFound, f.SignProcess(f.destroy(anchorB)))
	f.ok(a) // the keeper says it again, and now it is the last one
	if u := f.row(); u.Draining.Epoch != 0 {
		t.Fatalf("%+v", u)
	}
	f.check()
}

func TestInvariant3ErasedBitOfAnEvictedAnchorDoesNotStandForALiveOne(t *testing.T) {
	f := enrolled(t, anchorA, anchorB)
	f.ok(f.open(2))
	f.ok(f.SignProcess(f.destroy(anchorB)))
	f.wantAct(rules.OK, statement.EvictAnchor{Anchor: anchorB})
	if u := f.row(); u.Draining.Epoch != 1 || u.Draining.Erased != 2 {
		t.Fatalf("A has not erased: %+v", u)
	}
	f.ok(f.SignProcess(f.destroy(anchorA)))
	if u := f.row(); u.Draining.Epoch != 0 {
		t.Fatalf("%+v", u)
	}
}

func TestInvariant4ProcessRevokedInABlockSignsNothingMoreInIt(t *testing.T) {
	f := enrolled(t, anchorA)
	signed := f.SignProcess(f.write(github, "1"))
	f.wantAct(rules.OK, statement.RevokeEnclave{Role: statement.EnclaveCustodian, Key: rulestest.PublicKey(f.Custodian)})
	f.want(rules.NotRegistered, signed)
	f.want(rules.NotRegistered, f.open(2))
	f.ok(f.sign(f.admit())) // wallets go on
}

func TestInvariant5HeldAdmissionAndGrantCannotUndoARevocation(t *testing.T) {
	f := enrolled(t, anchorA)
	admitted := f.sign(f.admit())
	f.ok(admitted)
	granted := f.sign(f.grant(github))
	f.ok(granted)
	longer := f.admit()
	longer.Expires++
	heldAdmit, heldGrant := f.sign(longer), f.sign(f.grant(openai))
	revoke := f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent, Counter: 1})
	f.ok(revoke)
	gone := func() {
		t.Helper()
		if a := f.Agent(f.user, f.agent); a.Counter != 2 || a.Expires != 0 {
			t.Fatalf("%+v", a)
		}
	}
	gone()
	for _, wire := range [][]byte{admitted, heldAdmit} {
		f.want(rules.Stale, wire)
	}
	for _, wire := range [][]byte{granted, heldGrant} {
		f.want(rules.NotAdmitted, wire)
	}
	gone()
	// Admitted anew, the old grants still belong to the old counter.
	f.ok(f.sign(f.admit()))
	f.want(rules.Stale, granted)
	f.want(rules.Stale, heldGrant)
	f.want(rules.Stale, heldAdmit)
	if g := f.Grant(agentkeys.Slot{User: f.user, Agent: f.agent, Service: github}); g.Counter == f.Agent(f.user, f.agent).Counter {
		t.Fatal("the grant came back")
	}
	// And the old revocation does not hit the new admission.
	f.want(rules.AlreadyApplied, revoke)
	if a := f.Agent(f.user, f.agent); a.Expires == 0 || a.Counter != 2 {
		t.Fatalf("%+v", a)
	}
}

func TestInvariant5RevocationSignedWithoutARowStopsTheAdmissionInFlight(t *testing.T) {
	for name, admitFirst := range map[string]bool{"admission comes first": true, "admission comes later": false} {
		t.Run(name, func(t *testing.T) {
			f := enrolled(t, anchorA)
			admit := f.sign(f.admit())
			revoke := f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent, Counter: 0}) // no row yet
			if admitFirst {
				f.ok(admit)
				f.ok(revoke)
			} else {
				f.ok(revoke)
				f.want(rules.Stale, admit)
			}
			if a := f.Agent(f.user, f.agent); a.Expires != 0 || a.Counter != 2 {
				t.Fatalf("still admitted: %+v", a)
			}
			f.want(rules.AlreadyApplied, revoke)
			f.want(rules.Stale, admit)
			f.ok(f.sign(f.admit()))
			f.check()
		})
	}
}

func TestInvariant5RevokingOneselfEndsOwnSessionsOnly(t *testing.T) {
	f := enrolled(t, anchorA)
	f.ok(f.sign(statement.RevokeAgent{User: f.user, Agent: f.user, Counter: 1}))
	if a := f.Agent(f.user, f.user); a.Counter != 2 || a.Expires != rules.NeverExpires {
		t.Fatalf("%+v", a)
	}
	f.ok(f.sign(f.admit()))
}

func TestInvariant5AnAdmissionIsOnlyExtended(t *testing.T) {
	f := enrolled(t, anchorA)
	short := f.admit()
	f.ok(f.sign(short))
	longer := f.admit()
	longer.Expires, longer.Role = longer.Expires+5, statement.RoleProxy
	f.ok(f.sign(longer))
	f.want(rules.Stale, f.sign(short))
	if a := f.Agent(f.user, f.agent); a.Expires != longer.Expires || a.Role != statement.RoleProxy || a.Counter != 1 {
		t.Fatalf("%+v", a)
	}
}

func TestInvariant5AWithdrawnGrantStaysWithdrawn(t *testing.T) {
	f := enrolled(t, anchorA)
	f.ok(f.sign(f.admit()))
	held := f.sign(f.grant(github))
	withdraw := f.grant(github)
	withdraw.Mode = statement.ModeNone
	f.ok(f.sign(withdraw)) // before the grant ever came
	f.want(rules.Stale, held)
	f.ok(f.sign(f.grant(github)))
	f.want(rules.Stale, f.sign(withdraw))
	f.next(400 * 86400)
	again := f.grant(github)
	again.Mode = statement.ModeNone
	f.ok(f.sign(again)) // needs no admission
	if g := f.Grant(agentkeys.Slot{User: f.user, Agent: f.agent, Service: github}); g.Version != 3 || g.Mode != statement.ModeNone {
		t.Fatalf("%+v", g)
	}
}

func TestInvariant6AReplayedReportOfAMissingObjectCountsForNothing(t *testing.T) {
	f := enrolled(t, anchorA)
	f.ok(f.SignProcess(f.write(github, "1")))
	f.next(1)
	missing := f.lost(github, true)
	missing.ValidUntil = f.Block.Time + 600
	report := f.SignProcess(missing)
	f.ok(report)
	since := f.Pointer(f.slot(github)).MissingSince
	f.next(1)
	found := f.SignProcess(f.lost(github, false))
	f.ok(found)
	f.next(1)
	f.want(rules.Stale, report) // within its validity
	f.want(rules.AlreadyApplied, found)
	if p := f.Pointer(f.slot(github)); p.MissingSince != 0 || since == 0 {
		t.Fatalf("%+v, was missing since %d", p, since)
	}
	f.ok(f.SignProcess(f.lost(github, true)))
	f.next(1)
	f.want(rules.Stale, found)
	f.next(72 * 3600)
	f.want(rules.Expired, report)
	f.ok(f.SignProcess(f.drop(github, statement.DropLost)))
	if u := f.row(); u.Floor != 1 || u.Active.LiveCount != 0 {
		t.Fatalf("%+v", u)
	}
	f.check()
}

func TestInvariant6WritingOrReSealingEndsMissing(t *testing.T) {
	for name, wire := range map[string]func(f *fixture) []byte{
		"written":   func(f *fixture) []byte { return f.SignProcess(f.write(github, "2")) },
		"re-sealed": func(f *fixture) []byte { return f.SignProcess(f.rotate(github)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := enrolled(t, anchorA)
			draining(f)
			f.ok(f.SignProcess(f.lost(github, true)))
			f.next(1)
			f.ok(wire(f))
			if p := f.Pointer(f.slot(github)); p.MissingSince != 0 {
				t.Fatalf("%+v", p)
			}
		})
	}
}

func TestInvariant6OneMissingObjectCannotStopRotation(t *testing.T) {
	f := enrolled(t, anchorA)
	draining(f)
	f.ok(f.SignProcess(f.lost(github, true)))
	f.next(72 * 3600)
	f.ok(f.SignProcess(f.drop(github, statement.DropLost)))
	f.next(1)
	lease := statement.TakeKeeper{Anchor: anchorA, Term: 1, LeaseUntil: f.Block.Time + 60, ValidUntil: f.soon()}
	f.ok(f.SignProcess(lease))
	f.ok(f.SignProcess(f.destroy(anchorA)))
	f.ok(f.open(3))
	f.check()
}

func TestInvariant6ExpiresWhenTheDrainWindowIsOver(t *testing.T) {
	f := enrolled(t, anchorA)
	s := f.write(github, "1")
	s.Idle = statement.IdleExpire
	f.ok(f.SignProcess(s))
	f.ok(f.open(2))
	f.next(72*3600 + 1)
	f.ok(f.SignProcess(f.drop(github, statement.DropExpired)))
	if u := f.row(); u.Draining.LiveCount != 0 || u.Floor != 1 {
		t.Fatalf("%+v", u)
	}
}

// A lazy end of an epoch with something in it is announced, with the time before which the
// rules let nothing expire. An eager one and an empty one are not.
func TestDrainingIsAnnounced(t *testing.T) {
	announced := func(r rules.Result) (until uint64) {
		for _, e := range r.Events {
			if e.Name == "EpochDraining" {
				fmt.Sscan(e.Attributes[3][1], &until)
			}
		}
		return until
	}
	f := enrolled(t, anchorA)
	if r := f.ok(f.open(2)); announced(r) != 0 {
		t.Error("an empty epoch was announced")
	}
	f = enrolled(t, anchorA)
	s := f.write(github, "1")
	s.Idle = statement.IdleExpire
	f.ok(f.SignProcess(s))
	until := announced(f.ok(f.open(2)))
	if until <= f.Block.Time {
		t.Fatalf("announced until %d, block time %d", until, f.Block.Time)
	}
	f.next(until - f.Block.Time)
	f.want(rules.TooEarly, f.SignProcess(f.drop(github, statement.DropExpired)))
	f.next(1)
	f.ok(f.SignProcess(f.drop(github, statement.DropExpired)))

	f = enrolled(t, anchorA)
	f.ok(f.SignProcess(f.write(github, "1")))
	f.ok(f.sign(statement.AskRotation{User: f.user, Due: 2}))
	if r := f.ok(f.open(2)); announced(r) != 0 {
		t.Error("an eager end was announced: there nothing expires")
	}
}

func TestInvariant7NumbersNeverRepeat(t *testing.T) {
	f := enrolled(t, anchorA)
	slots := []agentkeys.ServiceID{github, openai}
	seen := map[agentkeys.ServiceID]uint64{}
	for i := range 6 {
		svc := slots[i%2]
		f.ok(f.SignProcess(f.write(svc, string(rune('a'+i)))))
		p := f.Pointer(f.slot(svc))
		if p.Version <= seen[svc] {
			t.Fatalf("version %d of a slot after %d", p.Version, seen[svc])
		}
		seen[svc] = p.Version
		f.ok(f.sign(statement.Delete{User: f.user, Agent: f.user, Service: svc, Version: p.Version}))
	}
}

func TestRewrapMovesOnlyForward(t *testing.T) {
	f := enrolled(t, anchorA)
	draining(f)
	rewrap := func(e agentkeys.Epoch, from uint32, to byte) []byte {
		return f.SignProcess(statement.RewrapDEK{ValidUntil: f.soon(), Receipt: receipt.Rewrapped{User: f.user, Epoch: e,
			DEKID: dekID(f.user, e), From: from, Wrapped: wrapped(to, byte(e))}})
	}
	first := rewrap(1, 1, 2)
	f.ok(first)
	f.ok(rewrap(2, 1, 2))
	f.ok(rewrap(2, 2, 5))
	f.want(rules.Stale, rewrap(2, 2, 3))
	f.want(rules.AlreadyApplied, first)
	u := f.row()
	if u.Draining.Wrapped != wrapped(2, 1) || u.Active.Wrapped != wrapped(5, 2) || u.Active.DEKID != dekID(f.user, 2) {
		t.Fatalf("%+v", u)
	}
	f.ok(rewrap(1, 2, 3))
	f.want(rules.Stale, first)
}

func TestLeaseHandover(t *testing.T) {
	f := enrolled(t, anchorA)
	first := f.Custodian
	next := second(f)
	take := func(term, until uint64) []byte {
		return f.SignProcess(statement.TakeKeeper{Anchor: anchorA, Term: term, LeaseUntil: until, ValidUntil: f.soon()})
	}
	f.next(1)
	held := f.SignProcess(statement.TakeKeeper{Anchor: anchorA, Term: 1, LeaseUntil: f.Block.Time + rules.MaxLease, ValidUntil: f.soon() + 300})
	f.next(f.Anchor(anchorA).LeaseUntil - f.Block.Time)
	f.Custodian = next
	f.want(rules.NotKeeper, take(2, f.Block.Time+100)) // at the last second it is still held
	f.next(1)
	f.ok(take(2, f.Block.Time+100))
	f.Custodian = first
	f.want(rules.Expired, held)
	f.want(rules.Stale, take(1, f.Block.Time+100))
	f.want(rules.NotKeeper, f.SignProcess(statement.CommitTree{Anchor: anchorA, Term: 1, Previous: 1, ValidUntil: f.soon()}))
	f.want(rules.NotKeeper, f.SignProcess(statement.CommitTree{Anchor: anchorA, Term: 2, Previous: 1, ValidUntil: f.soon()}))
	f.Custodian = next
	f.ok(f.SignProcess(statement.CommitTree{Anchor: anchorA, Term: 2, Previous: 1, ValidUntil: f.soon()}))
	f.ok(take(2, f.Block.Time+200)) // renewed
	f.ok(take(3, f.Block.Time+50))  // one's own next term: everything signed in term 2 is void
	f.want(rules.NotKeeper, f.SignProcess(statement.CommitTree{Anchor: anchorA, Term: 2, Previous: 2, ValidUntil: f.soon()}))
	if a := f.Anchor(anchorA); a.Term != 3 || a.Generation != 2 || a.Keeper != rulestest.PublicKey(next) || a.LeaseUntil != f.Block.Time+50 {
		t.Fatalf("%+v", a)
	}
}

func TestFirstCommitMakesAnAnchorLive(t *testing.T) {
	f := newFixture(t)
	f.wantAct(rules.OK, statement.AddAnchor{Anchor: anchorA, Type: statement.AnchorTPM})
	f.ok(f.SignProcess(statement.TakeKeeper{Anchor: anchorA, Term: 1, LeaseUntil: f.Block.Time + 60, ValidUntil: f.soon()}))
	if a := f.Anchor(anchorA); a.State != rules.AnchorJoining || a.Type != statement.AnchorTPM {
		t.Fatalf("%+v", a)
	}
	f.ok(f.SignProcess(statement.CommitTree{Anchor: anchorA, Term: 1, IndexHash: agentkeys.Hash{5}, ValidUntil: f.soon()}))
	if a := f.Anchor(anchorA); a.State != rules.AnchorLive || a.Generation != 1 || a.IndexHash != (agentkeys.Hash{5}) {
		t.Fatalf("%+v", a)
	}
}
