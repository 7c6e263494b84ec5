package rules_test

import (
	"crypto/ed25519"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// draining has github in the draining epoch 1 and openai in the active epoch 2.
func draining(f *fixture) {
	f.ok(f.SignProcess(f.write(github, "old")))
	f.next(1)
	f.ok(f.open(2))
	f.ok(f.SignProcess(f.write(openai, "new")))
	f.next(1)
}

func TestRefusalsOfWrites(t *testing.T) {
	edit := func(change func(f *fixture, s *statement.RegisterBlob)) func(f *fixture) []byte {
		return func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			s := f.write(github, "2")
			change(f, &s)
			return f.SignProcess(s)
		}
	}
	empty := func(change func(f *fixture, s *statement.RegisterBlob)) func(f *fixture) []byte {
		return func(f *fixture) []byte {
			s := f.write(openai, "1")
			change(f, &s)
			return f.SignProcess(s)
		}
	}
	runRefusals(t, []refusal{
		{"too late by a second", rules.Expired, edit(func(f *fixture, s *statement.RegisterBlob) { s.ValidUntil = f.Block.Time - 1 })},
		{"valid for too long", rules.Expired, edit(func(f *fixture, s *statement.RegisterBlob) { s.ValidUntil = f.Block.Time + 601 })},
		{"user unknown", rules.NotFound, edit(func(f *fixture, s *statement.RegisterBlob) { s.User = f.agent })},
		{"no epoch", rules.WrongEpoch, edit(func(f *fixture, s *statement.RegisterBlob) { s.Epoch = 0 })},
		{"next epoch", rules.WrongEpoch, edit(func(f *fixture, s *statement.RegisterBlob) { s.Epoch = 2 })},
		{"draining epoch", rules.WrongEpoch, func(f *fixture) []byte {
			draining(f)
			s := f.write(github, "2")
			s.Epoch = 1
			return f.SignProcess(s)
		}},
		{"no epoch at all", rules.WrongEpoch, func(f *fixture) []byte {
			bob := rulestest.Wallet("bob")
			f.ok(f.SignUser(bob, statement.Enrol{User: bob.Wallet()}))
			s := f.write(github, "2")
			s.User, s.Epoch = bob.Wallet(), 0
			return f.SignProcess(s)
		}},
		{"version behind", rules.Stale, edit(func(f *fixture, s *statement.RegisterBlob) { s.PreviousVersion = 0 })},
		{"version ahead", rules.Stale, edit(func(f *fixture, s *statement.RegisterBlob) { s.PreviousVersion = 2 })},
		{"other hash", rules.Stale, edit(func(f *fixture, s *statement.RegisterBlob) { s.PreviousHash[0] ^= 1 })},
		{"hash zero", rules.Refused, edit(func(f *fixture, s *statement.RegisterBlob) { s.Hash = agentkeys.Hash{} })},
		{"empty slot, hash named", rules.Stale, empty(func(f *fixture, s *statement.RegisterBlob) { s.PreviousHash[0] = 1 })},
		{"empty slot, version above the floor", rules.Stale, empty(func(f *fixture, s *statement.RegisterBlob) { s.PreviousVersion = 1 })},
		{"empty slot, version that would use up all numbers", rules.Stale, empty(func(f *fixture, s *statement.RegisterBlob) {
			s.PreviousVersion = 1<<62 - 1
		})},
		{"empty slot, version below the floor", rules.Stale, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			f.ok(f.sign(statement.Delete{User: f.user, Agent: f.user, Service: github, Version: 1}))
			s := f.write(openai, "1")
			s.PreviousVersion = 0
			return f.SignProcess(s)
		}},
		{"the same again", rules.AlreadyApplied, func(f *fixture) []byte {
			wire := f.SignProcess(f.write(github, "1"))
			f.ok(wire)
			return wire
		}},
	})
}

func TestRefusalsOfDropsAndReports(t *testing.T) {
	runRefusals(t, []refusal{
		{"drop nothing", rules.NotFound, func(f *fixture) []byte {
			s := f.drop(github, statement.DropLost)
			s.Version = 1
			return f.SignProcess(s)
		}},
		{"drop what is gone", rules.AlreadyApplied, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			s := f.drop(github, statement.DropLost)
			f.ok(f.sign(statement.Delete{User: f.user, Agent: f.user, Service: github, Version: 1}))
			return f.SignProcess(s)
		}},
		{"drop another version", rules.Stale, func(f *fixture) []byte {
			draining(f)
			s := f.drop(github, statement.DropExpired)
			s.Version++
			return f.SignProcess(s)
		}},
		{"drop another hash", rules.Stale, func(f *fixture) []byte {
			draining(f)
			s := f.drop(github, statement.DropExpired)
			s.Hash[0] ^= 1
			return f.SignProcess(s)
		}},
		{"expired, but carried", rules.Refused, func(f *fixture) []byte {
			draining(f)
			f.next(80 * 3600)
			return f.SignProcess(f.drop(github, statement.DropExpired))
		}},
		{"expired, but in the active epoch", rules.Refused, func(f *fixture) []byte {
			s := f.write(github, "1")
			s.Idle = statement.IdleExpire
			f.ok(f.SignProcess(s))
			f.next(80 * 3600)
			return f.SignProcess(f.drop(github, statement.DropExpired))
		}},
		{"expired at the last second of the window", rules.TooEarly, func(f *fixture) []byte {
			s := f.write(github, "1")
			s.Idle = statement.IdleExpire
			f.ok(f.SignProcess(s))
			f.ok(f.open(2))
			f.next(72 * 3600)
			return f.SignProcess(f.drop(github, statement.DropExpired))
		}},
		{"lost, never reported", rules.TooEarly, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			return f.SignProcess(f.drop(github, statement.DropLost))
		}},
		{"lost, a second early", rules.TooEarly, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			f.next(1)
			f.ok(f.SignProcess(f.lost(github, true)))
			f.next(72*3600 - 1)
			return f.SignProcess(f.drop(github, statement.DropLost))
		}},
		{"drop too late", rules.Expired, func(f *fixture) []byte {
			s := f.drop(github, statement.DropLost)
			s.ValidUntil = f.Block.Time - 1
			return f.SignProcess(s)
		}},
		{"report at another height", rules.Stale, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			s := f.lost(github, true)
			s.Height++
			return f.SignProcess(s)
		}},
		{"report twice", rules.AlreadyApplied, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			wire := f.SignProcess(f.lost(github, true))
			f.ok(wire)
			return wire
		}},
		{"found what is not missing", rules.AlreadyApplied, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			return f.SignProcess(f.lost(github, false))
		}},
	})
}

func TestRefusalsOfRotation(t *testing.T) {
	openWith := func(change func(m *receipt.Made)) func(f *fixture) []byte {
		return func(f *fixture) []byte {
			m := receipt.Made{User: f.user, Epoch: 2, DEKID: dekID(f.user, 2), Wrapped: wrapped(1, 2)}
			change(&m)
			return f.SignProcess(statement.OpenEpoch{Receipt: m, ValidUntil: f.soon()})
		}
	}
	rotate := func(change func(s *statement.RotateBlobs)) func(f *fixture) []byte {
		return func(f *fixture) []byte {
			draining(f)
			s := f.rotate(github)
			change(&s)
			return f.SignProcess(s)
		}
	}
	rewrap := func(change func(s *receipt.Rewrapped)) func(f *fixture) []byte {
		return func(f *fixture) []byte {
			w := receipt.Rewrapped{User: f.user, Epoch: 1, DEKID: dekID(f.user, 1), From: 1, Wrapped: wrapped(2, 1)}
			change(&w)
			return f.SignProcess(statement.RewrapDEK{Receipt: w, ValidUntil: f.soon()})
		}
	}
	runRefusals(t, []refusal{
		{"open for nobody", rules.NotFound, openWith(func(m *receipt.Made) { m.User = agentkeys.Wallet{1} })},
		{"open epoch 0", rules.WrongEpoch, openWith(func(m *receipt.Made) { m.Epoch = 0 })},
		{"open the one after next", rules.WrongEpoch, openWith(func(m *receipt.Made) { m.Epoch = 3 })},
		{"open what is open", rules.AlreadyApplied, func(f *fixture) []byte { return f.open(1) }},
		{"open what is open, with another key", rules.Stale, openWith(func(m *receipt.Made) { m.Epoch = 1 })},
		{"open with the old key", rules.Refused, openWith(func(m *receipt.Made) { m.DEKID = dekID(m.User, 1) })},
		{"open with an id of zeros", rules.Refused, openWith(func(m *receipt.Made) { m.DEKID = agentkeys.DEKID{} })},
		{"open without a wrap version", rules.Refused, openWith(func(m *receipt.Made) { m.Wrapped = wrapped(0, 1) })},
		{"open while one drains", rules.NotDrained, func(f *fixture) []byte {
			f.ok(f.open(2))
			return f.open(3)
		}},
		{"open too late", rules.Expired, func(f *fixture) []byte {
			wire := f.open(2)
			f.next(301)
			return wire
		}},
		{"rotate too late", rules.Expired, rotate(func(s *statement.RotateBlobs) { s.ValidUntil = 1 })},
		{"rotate for nobody", rules.NotFound, rotate(func(s *statement.RotateBlobs) { s.Receipt.User[0] ^= 1 })},
		{"rotate from 0", rules.WrongEpoch, rotate(func(s *statement.RotateBlobs) { s.Receipt.From = 0 })},
		{"rotate from an epoch to come", rules.WrongEpoch, rotate(func(s *statement.RotateBlobs) { s.Receipt.From = 9 })},
		{"rotate from the active epoch", rules.WrongEpoch, rotate(func(s *statement.RotateBlobs) { s.Receipt.From = 2 })},
		{"rotate into another", rules.WrongEpoch, rotate(func(s *statement.RotateBlobs) { s.Receipt.To = 1 })},
		{"rotate with another old key", rules.Refused, rotate(func(s *statement.RotateBlobs) { s.Receipt.FromDEKID[0] ^= 1 })},
		{"rotate with another new key", rules.Refused, rotate(func(s *statement.RotateBlobs) { s.Receipt.ToDEKID[0] ^= 1 })},
		{"rotate to hash zero", rules.Refused, rotate(func(s *statement.RotateBlobs) { s.Receipt.Rows[0].NewHash = agentkeys.Hash{} })},
		{"rotate nothing that matches", rules.AlreadyApplied, rotate(func(s *statement.RotateBlobs) { s.Receipt.Rows[0].Version++ })},
		{"rotate from a destroyed epoch", rules.AlreadyApplied, func(f *fixture) []byte {
			draining(f)
			wire := f.SignProcess(f.rotate(github))
			f.ok(wire)
			f.ok(f.SignProcess(f.destroy(anchorA)))
			return wire
		}},
		{"rewrap too late", rules.Expired, func(f *fixture) []byte {
			wire := rewrap(func(*receipt.Rewrapped) {})(f)
			f.next(301)
			return wire
		}},
		{"rewrap for nobody", rules.NotFound, rewrap(func(w *receipt.Rewrapped) { w.User[0] ^= 1 })},
		{"rewrap epoch 0", rules.WrongEpoch, rewrap(func(w *receipt.Rewrapped) { w.Epoch = 0 })},
		{"rewrap an epoch that is not live", rules.WrongEpoch, rewrap(func(w *receipt.Rewrapped) { w.Epoch = 2 })},
		{"rewrap another key", rules.Refused, rewrap(func(w *receipt.Rewrapped) { w.DEKID[0] ^= 1 })},
		{"rewrap from another version", rules.Stale, rewrap(func(w *receipt.Rewrapped) { w.From = 7 })},
		{"rewrap to the same version", rules.Stale, rewrap(func(w *receipt.Rewrapped) { w.Wrapped = wrapped(1, 9) })},
		{"rewrap to an older version", rules.Stale, rewrap(func(w *receipt.Rewrapped) { w.Wrapped = wrapped(0, 9) })},
		{"rewrap twice", rules.AlreadyApplied, func(f *fixture) []byte {
			wire := rewrap(func(*receipt.Rewrapped) {})(f)
			f.ok(wire)
			return wire
		}},
	})
}

func TestRefusalsOfDestruction(t *testing.T) {
	drained := func(f *fixture) statement.DestroyEpoch {
		draining(f)
		f.ok(f.SignProcess(f.rotate(github)))
		return f.destroy(anchorA)
	}
	edit := func(change func(f *fixture, s *statement.DestroyEpoch)) func(f *fixture) []byte {
		return func(f *fixture) []byte {
			s := drained(f)
			change(f, &s)
			return f.SignProcess(s)
		}
	}
	runRefusals(t, []refusal{
		{"too late", rules.Expired, edit(func(f *fixture, s *statement.DestroyEpoch) { s.ValidUntil = f.Block.Time - 1 })},
		{"for nobody", rules.NotFound, edit(func(f *fixture, s *statement.DestroyEpoch) { s.User[0] ^= 1 })},
		{"epoch 0", rules.WrongEpoch, edit(func(f *fixture, s *statement.DestroyEpoch) { s.Epoch = 0 })},
		{"the active epoch", rules.WrongEpoch, edit(func(f *fixture, s *statement.DestroyEpoch) { s.Epoch = 2 })},
		{"epoch 0 when nothing drains", rules.WrongEpoch, func(f *fixture) []byte { return f.SignProcess(f.destroy(anchorA)) }},
		{"not drained", rules.NotDrained, func(f *fixture) []byte {
			draining(f)
			return f.SignProcess(f.destroy(anchorA))
		}},
		{"unknown anchor", rules.NotFound, edit(func(f *fixture, s *statement.DestroyEpoch) { s.Anchor = anchorB })},
		{"another term", rules.NotKeeper, edit(func(f *fixture, s *statement.DestroyEpoch) { s.Term++ })},
		{"another generation", rules.Stale, edit(func(f *fixture, s *statement.DestroyEpoch) { s.Generation++ })},
		{"lease over", rules.NotKeeper, func(f *fixture) []byte {
			drained(f)
			f.next(rules.MaxLease + 1)
			return f.SignProcess(f.destroy(anchorA))
		}},
		{"another custodian than the keeper", rules.NotKeeper, func(f *fixture) []byte {
			s := drained(f)
			f.Custodian = second(f)
			return f.SignProcess(s)
		}},
		{"an anchor that is still joining", rules.Stale, edit(func(f *fixture, s *statement.DestroyEpoch) {
			f.wantAct(rules.OK, statement.AddAnchor{Anchor: anchorB, Type: statement.AnchorFile})
			f.ok(f.SignProcess(statement.TakeKeeper{Anchor: anchorB, Term: 1, LeaseUntil: f.Block.Time + 60, ValidUntil: f.soon()}))
			s.Anchor, s.Term, s.Generation = anchorB, 1, 0
		})},
		{"twice", rules.AlreadyApplied, func(f *fixture) []byte {
			wire := f.SignProcess(drained(f))
			f.ok(wire)
			return wire
		}},
	})
}

// second registers another custodian and returns its key.
func second(f *fixture) ed25519.PrivateKey {
	k := rulestest.Process("second")
	f.wantAct(rules.OK, statement.RegisterEnclave{Role: statement.EnclaveCustodian, Key: rulestest.PublicKey(k), Platform: statement.PlatformSoftware})
	return k
}

func TestRefusalsOfAnchors(t *testing.T) {
	commit := func(f *fixture) statement.CommitTree {
		a := f.Anchor(anchorA)
		return statement.CommitTree{Anchor: anchorA, Term: a.Term, Previous: a.Generation, IndexHash: agentkeys.Hash{1}, ValidUntil: f.soon()}
	}
	take := func(f *fixture, term uint64) statement.TakeKeeper {
		return statement.TakeKeeper{Anchor: anchorA, Term: term, LeaseUntil: f.Block.Time + 3600, ValidUntil: f.soon()}
	}
	runRefusals(t, []refusal{
		{"commit too late", rules.Expired, func(f *fixture) []byte {
			s := commit(f)
			s.ValidUntil = 1
			return f.SignProcess(s)
		}},
		{"commit an unknown anchor", rules.NotFound, func(f *fixture) []byte {
			s := commit(f)
			s.Anchor = anchorB
			return f.SignProcess(s)
		}},
		{"commit in another term", rules.NotKeeper, func(f *fixture) []byte {
			s := commit(f)
			s.Term = 0
			return f.SignProcess(s)
		}},
		{"commit on another generation", rules.Stale, func(f *fixture) []byte {
			s := commit(f)
			s.Previous++
			return f.SignProcess(s)
		}},
		{"commit another tree on a generation that is taken", rules.Stale, func(f *fixture) []byte {
			s := commit(f)
			f.ok(f.SignProcess(s))
			s.IndexHash[0]++
			return f.SignProcess(s)
		}},
		{"commit twice", rules.AlreadyApplied, func(f *fixture) []byte {
			wire := f.SignProcess(commit(f))
			f.ok(wire)
			return wire
		}},
		{"commit an evicted anchor", rules.NotFound, func(f *fixture) []byte {
			g := withSecondAnchor(f)
			f.wantAct(rules.OK, statement.EvictAnchor{Anchor: anchorB})
			return f.SignProcess(g)
		}},
		{"take too late", rules.Expired, func(f *fixture) []byte {
			s := take(f, 2)
			s.ValidUntil = 1
			return f.SignProcess(s)
		}},
		{"take an unknown anchor", rules.NotFound, func(f *fixture) []byte {
			s := take(f, 1)
			s.Anchor = anchorB
			return f.SignProcess(s)
		}},
		{"a lease that is over", rules.Refused, func(f *fixture) []byte {
			s := take(f, 2)
			s.LeaseUntil = f.Block.Time
			return f.SignProcess(s)
		}},
		{"a lease for longer than a day", rules.Refused, func(f *fixture) []byte {
			s := take(f, 2)
			s.LeaseUntil = f.Block.Time + rules.MaxLease + 1
			return f.SignProcess(s)
		}},
		{"renew for no longer", rules.AlreadyApplied, func(f *fixture) []byte { return f.SignProcess(take(f, 1)) }},
		{"skip a term", rules.Stale, func(f *fixture) []byte { return f.SignProcess(take(f, 3)) }},
		{"take what another holds", rules.NotKeeper, func(f *fixture) []byte {
			f.Custodian = second(f)
			return f.SignProcess(take(f, 2))
		}},
		{"take what another holds, in its term", rules.Stale, func(f *fixture) []byte {
			f.Custodian = second(f)
			return f.SignProcess(take(f, 1))
		}},
	})
}

// withSecondAnchor makes anchor B live and returns its next commit.
func withSecondAnchor(f *fixture) statement.CommitTree {
	f.wantAct(rules.OK, statement.AddAnchor{Anchor: anchorB, Type: statement.AnchorFile})
	f.ok(f.SignProcess(statement.TakeKeeper{Anchor: anchorB, Term: 1, LeaseUntil: f.Block.Time + rules.MaxLease, ValidUntil: f.soon()}))
	s := statement.CommitTree{Anchor: anchorB, Term: 1, IndexHash: agentkeys.Hash{2}, ValidUntil: f.soon()}
	f.ok(f.SignProcess(s))
	s.Previous++
	return s
}

func TestRefusalsOfTheTrail(t *testing.T) {
	reads := func(change func(s *statement.RecordReads)) func(f *fixture) []byte {
		return func(f *fixture) []byte {
			f.ok(f.SignProcess(statement.RecordReads{First: 1, Count: 3, Boots: 2, SeenHeight: 5, ValidUntil: f.soon()}))
			r := f.Reads(rulestest.PublicKey(f.Custodian))
			s := statement.RecordReads{First: 4, Count: 1, Previous: r.Head, Boots: 2, SeenHeight: 5, ValidUntil: f.soon()}
			change(&s)
			return f.SignProcess(s)
		}
	}
	beat := func(change func(s *statement.Heartbeat)) func(f *fixture) []byte {
		return func(f *fixture) []byte {
			s := statement.Heartbeat{Nonce: [16]byte{1}, ValidUntil: f.soon()}
			f.ok(f.SignProcess(s))
			change(&s)
			return f.SignProcess(s)
		}
	}
	vouch := func(change func(f *fixture, s *statement.Vouch)) func(f *fixture) []byte {
		return func(f *fixture) []byte {
			s := statement.Vouch{Rotator: agentkeys.ProcessKey{9}, Platform: statement.PlatformSoftware, ValidUntil: f.soon()}
			change(f, &s)
			return f.SignProcess(s)
		}
	}
	runRefusals(t, []refusal{
		{"reads too late", rules.Expired, reads(func(s *statement.RecordReads) { s.ValidUntil = 1 })},
		{"reads from 0", rules.Stale, reads(func(s *statement.RecordReads) { s.First = 0 })},
		{"reads with a gap", rules.Stale, reads(func(s *statement.RecordReads) { s.First++ })},
		{"reads that overlap", rules.Stale, reads(func(s *statement.RecordReads) { s.First-- })},
		{"no reads", rules.Stale, reads(func(s *statement.RecordReads) { s.Count = 0 })},
		{"reads on another head", rules.Stale, reads(func(s *statement.RecordReads) { s.Previous[0] ^= 1 })},
		{"boots went back", rules.Stale, reads(func(s *statement.RecordReads) { s.Boots-- })},
		{"height went back", rules.Stale, reads(func(s *statement.RecordReads) { s.SeenHeight-- })},
		{"reads twice, even late", rules.AlreadyApplied, func(f *fixture) []byte {
			wire := f.SignProcess(statement.RecordReads{First: 1, Count: 3, ValidUntil: f.soon()})
			f.ok(wire)
			f.next(4000)
			return wire
		}},
		{"beat too late", rules.Expired, beat(func(s *statement.Heartbeat) { s.Previous, s.ValidUntil = 1, 1 })},
		{"beat behind", rules.Stale, beat(func(s *statement.Heartbeat) { s.Nonce[0]++ })},
		{"beat ahead", rules.Stale, beat(func(s *statement.Heartbeat) { s.Previous = 2 })},
		{"beat twice", rules.AlreadyApplied, beat(func(s *statement.Heartbeat) {})},
		{"vouch too late", rules.Expired, vouch(func(f *fixture, s *statement.Vouch) { s.ValidUntil = 1 })},
		{"vouch for another measurement", rules.NotRegistered, vouch(func(f *fixture, s *statement.Vouch) { s.Measurement[0] = 1 })},
		{"vouch for another platform", rules.NotRegistered, vouch(func(f *fixture, s *statement.Vouch) { s.Platform = statement.PlatformSNP })},
		{"vouch for what is over", rules.Expired, vouch(func(f *fixture, s *statement.Vouch) { s.Expiry = f.Block.Time })},
		{"vouch for a key that was revoked before", rules.Refused, vouch(func(f *fixture, s *statement.Vouch) {
			f.wantAct(rules.OK, statement.RevokeEnclave{Role: statement.EnclaveRotator, Key: s.Rotator})
		})},
		{"vouch twice", rules.AlreadyApplied, vouch(func(f *fixture, s *statement.Vouch) {
			f.ok(f.SignProcess(*s))
			f.next(1)
		})},
		{"vouch twice with another Noise key", rules.Refused, vouch(func(f *fixture, s *statement.Vouch) {
			f.ok(f.SignProcess(*s))
			s.Noise[0]++
		})},
	})
}
