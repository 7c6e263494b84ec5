package rules_test

import (
	"bytes"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// refusal is one way for a statement to be refused: prep brings the vault there
// and returns the wire bytes.
type refusal struct {
	name string
	want rules.Code
	prep func(f *fixture) []byte
}

// runRefusals also holds that a refused statement leaves every row as it was, and
// that each code differs from OK, so that none of these tests passes by accident.
func runRefusals(t *testing.T, cases []refusal) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := enrolled(t, anchorA)
			wire := c.prep(f)
			before, rev := f.KV.Rows(), len(f.History)
			if r := f.want(c.want, wire); r.Reason == "" {
				t.Fatal("a refusal without a reason")
			}
			if len(f.History) != rev || !sameRows(before, f.KV.Rows()) {
				t.Fatal("a refused statement changed rows")
			}
			f.check()
		})
	}
}

func sameRows(a, b []rules.Row) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Key, b[i].Key) || !bytes.Equal(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}

func TestRefusalsOfSignatures(t *testing.T) {
	other := agentkeys.VaultID{1}
	runRefusals(t, []refusal{
		{"empty", rules.BadLayout, func(f *fixture) []byte { return nil }},
		{"unknown kind", rules.BadLayout, func(f *fixture) []byte { return []byte{15} }},
		{"an act among statements", rules.BadLayout, func(f *fixture) []byte {
			return statement.AppendAct(nil, statement.RotateAll{})
		}},
		{"trailing byte", rules.BadLayout, func(f *fixture) []byte { return append(f.sign(f.admit()), 0) }},
		{"another wallet", rules.BadSignature, func(f *fixture) []byte {
			return f.SignUser(rulestest.Wallet("mallory"), f.admit())
		}},
		{"a user of another vault", rules.BadSignature, func(f *fixture) []byte {
			f.Kit.Vault = other
			return f.sign(f.admit())
		}},
		{"a custodian of another vault", rules.BadSignature, func(f *fixture) []byte {
			f.Kit.Vault = other
			return f.SignProcess(f.write(github, "x"))
		}},
		{"body changed after signing", rules.BadSignature, func(f *fixture) []byte {
			wire := f.SignProcess(f.write(github, "x"))
			wire[30] ^= 1
			return wire
		}},
		{"receipt by another rotator than it names", rules.BadSignature, func(f *fixture) []byte {
			b := statement.OpenEpoch{Receipt: receipt.Made{User: f.user, Epoch: 2}, ValidUntil: f.soon()}
			sig := receipt.Sign(rulestest.Process("x"), vaultID, receipt.KindMade, b.Receipt.Append(nil))
			sig.Key = rulestest.PublicKey(f.Rotator)
			return statement.SignProcess(f.Custodian, vaultID, b, &sig)
		}},
		{"receipt of another kind", rules.BadSignature, func(f *fixture) []byte {
			b := statement.OpenEpoch{Receipt: receipt.Made{User: f.user, Epoch: 2}, ValidUntil: f.soon()}
			sig := receipt.Sign(f.Rotator, vaultID, receipt.KindRewrapped, b.Receipt.Append(nil))
			return statement.SignProcess(f.Custodian, vaultID, b, &sig)
		}},
	})
}

func TestRefusalsOfEnclaves(t *testing.T) {
	custodian := func(f *fixture) agentkeys.ProcessKey { return rulestest.PublicKey(f.Custodian) }
	register := func(f *fixture, role statement.EnclaveRole, k agentkeys.ProcessKey, expiry uint64) {
		f.wantAct(rules.OK, statement.RegisterEnclave{Role: role, Key: k, Platform: statement.PlatformSoftware, Expiry: expiry})
	}
	runRefusals(t, []refusal{
		{"unregistered custodian", rules.NotRegistered, func(f *fixture) []byte {
			f.Custodian = rulestest.Process("unknown")
			return f.SignProcess(f.write(github, "x"))
		}},
		{"a rotator in a custodian's place", rules.NotRegistered, func(f *fixture) []byte {
			f.Custodian = f.Rotator
			return f.SignProcess(f.write(github, "x"))
		}},
		{"a custodian in a rotator's place", rules.NotRegistered, func(f *fixture) []byte {
			f.Rotator = f.Custodian
			return f.open(2)
		}},
		{"revoked custodian", rules.NotRegistered, func(f *fixture) []byte {
			f.wantAct(rules.OK, statement.RevokeEnclave{Role: statement.EnclaveCustodian, Key: custodian(f)})
			return f.SignProcess(f.write(github, "x"))
		}},
		{"revoked rotator", rules.NotRegistered, func(f *fixture) []byte {
			f.wantAct(rules.OK, statement.RevokeEnclave{Role: statement.EnclaveRotator, Key: rulestest.PublicKey(f.Rotator)})
			return f.open(2)
		}},
		{"expired custodian, at its second of expiry", rules.NotRegistered, func(f *fixture) []byte {
			f.Custodian = rulestest.Process("short")
			register(f, statement.EnclaveCustodian, custodian(f), f.Block.Time+10)
			f.next(10)
			return f.SignProcess(f.write(github, "x"))
		}},
	})
	f := enrolled(t, anchorA)
	f.Custodian = rulestest.Process("short")
	register(f, statement.EnclaveCustodian, custodian(f), f.Block.Time+10)
	f.next(9)
	f.ok(f.SignProcess(f.write(github, "the second before it expires")))
}

func TestRefusalsOfUsers(t *testing.T) {
	mallory := rulestest.Wallet("mallory")
	edit := func(f *fixture, change func(*statement.AdmitAgent)) []byte {
		s := f.admit()
		change(&s)
		return f.sign(s)
	}
	runRefusals(t, []refusal{
		{"enrol twice", rules.AlreadyApplied, func(f *fixture) []byte { return f.sign(statement.Enrol{User: f.user}) }},
		{"admit before enrolling", rules.NotFound, func(f *fixture) []byte {
			return f.SignUser(mallory, statement.AdmitAgent{User: mallory.Wallet(), Agent: f.agent, Role: statement.RoleAgent, Expires: 1 << 40})
		}},
		{"revoke before enrolling", rules.NotFound, func(f *fixture) []byte {
			return f.SignUser(mallory, statement.RevokeAgent{User: mallory.Wallet(), Agent: f.agent})
		}},
		{"grant before enrolling", rules.NotFound, func(f *fixture) []byte {
			return f.SignUser(mallory, statement.Grant{User: mallory.Wallet(), Agent: f.agent, Slot: statement.SlotOwn})
		}},
		{"delete before enrolling", rules.NotFound, func(f *fixture) []byte {
			return f.SignUser(mallory, statement.Delete{User: mallory.Wallet(), Agent: f.agent})
		}},
		{"ask before enrolling", rules.NotFound, func(f *fixture) []byte {
			return f.SignUser(mallory, statement.AskRotation{User: mallory.Wallet(), Due: 2})
		}},
		{"admit oneself", rules.Refused, func(f *fixture) []byte {
			return edit(f, func(s *statement.AdmitAgent) { s.Agent = s.User })
		}},
		{"admit nobody", rules.Refused, func(f *fixture) []byte {
			return edit(f, func(s *statement.AdmitAgent) { s.Agent = agentkeys.Wallet{} })
		}},
		{"admit at a counter without a row", rules.Stale, func(f *fixture) []byte {
			return edit(f, func(s *statement.AdmitAgent) { s.Counter = 1 })
		}},
		{"admit into the past without a row", rules.Stale, func(f *fixture) []byte {
			return edit(f, func(s *statement.AdmitAgent) { s.Expires = f.Block.Time })
		}},
		{"admit again the same", rules.AlreadyApplied, func(f *fixture) []byte {
			wire := f.sign(f.admit())
			f.ok(wire)
			return wire
		}},
		{"admit at counter 0 for longer, row there", rules.Stale, func(f *fixture) []byte {
			f.ok(f.sign(f.admit()))
			return edit(f, func(s *statement.AdmitAgent) { s.Counter, s.Expires = 0, s.Expires+1 })
		}},
		{"shorten an admission", rules.Stale, func(f *fixture) []byte {
			f.ok(f.sign(f.admit()))
			return edit(f, func(s *statement.AdmitAgent) { s.Expires-- })
		}},
		{"change only the role", rules.Stale, func(f *fixture) []byte {
			f.ok(f.sign(f.admit()))
			return edit(f, func(s *statement.AdmitAgent) { s.Role = statement.RoleProxy })
		}},
		{"admit into the past after a revocation", rules.Expired, func(f *fixture) []byte {
			f.ok(f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent}))
			return edit(f, func(s *statement.AdmitAgent) { s.Expires = f.Block.Time })
		}},
		{"admit at the last counter", rules.Refused, func(f *fixture) []byte {
			f.ok(f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent, Counter: 1<<62 - 1}))
			return f.sign(f.admit())
		}},
		{"revoke beyond the last counter", rules.Refused, func(f *fixture) []byte {
			return f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent, Counter: 1 << 62})
		}},
		{"revoke below the counter", rules.AlreadyApplied, func(f *fixture) []byte {
			f.ok(f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent, Counter: 5}))
			return f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent, Counter: 5})
		}},
		{"ask for an epoch that is open", rules.AlreadyApplied, func(f *fixture) []byte {
			return f.sign(statement.AskRotation{User: f.user, Due: 1})
		}},
		{"ask for the one after next", rules.WrongEpoch, func(f *fixture) []byte {
			return f.sign(statement.AskRotation{User: f.user, Due: 3})
		}},
		{"ask twice", rules.AlreadyApplied, func(f *fixture) []byte {
			f.ok(f.sign(statement.AskRotation{User: f.user, Due: 2}))
			return f.sign(statement.AskRotation{User: f.user, Due: 2})
		}},
		{"ask without an epoch", rules.WrongEpoch, func(f *fixture) []byte {
			f.ok(f.SignUser(mallory, statement.Enrol{User: mallory.Wallet()}))
			return f.SignUser(mallory, statement.AskRotation{User: mallory.Wallet(), Due: 1})
		}},
	})
}

func TestRefusalsOfGrants(t *testing.T) {
	edit := func(f *fixture, change func(*statement.Grant)) []byte {
		f.ok(f.sign(f.admit()))
		s := f.grant(github)
		change(&s)
		return f.sign(s)
	}
	runRefusals(t, []refusal{
		{"agent without a row", rules.NotAdmitted, func(f *fixture) []byte { return f.sign(f.grant(github)) }},
		{"revoked agent", rules.NotAdmitted, func(f *fixture) []byte {
			f.ok(f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent}))
			return f.sign(f.grant(github))
		}},
		{"admission over, at its second", rules.NotAdmitted, func(f *fixture) []byte {
			s := f.admit()
			s.Expires = f.Block.Time + 10
			f.ok(f.sign(s))
			f.next(10)
			return f.sign(f.grant(github))
		}},
		{"the user itself", rules.NotAdmitted, func(f *fixture) []byte {
			return edit(f, func(s *statement.Grant) { s.Agent, s.Counter = s.User, 1 })
		}},
		{"another counter", rules.Stale, func(f *fixture) []byte { return edit(f, func(s *statement.Grant) { s.Counter++ }) }},
		{"in the past", rules.Expired, func(f *fixture) []byte {
			return edit(f, func(s *statement.Grant) { s.Expires = f.Block.Time })
		}},
		{"version ahead", rules.Stale, func(f *fixture) []byte { return edit(f, func(s *statement.Grant) { s.Previous = 1 }) }},
		{"version at the end of numbers", rules.Stale, func(f *fixture) []byte {
			return edit(f, func(s *statement.Grant) { s.Previous = ^uint64(0) })
		}},
		{"the same again", rules.AlreadyApplied, func(f *fixture) []byte {
			f.ok(f.sign(f.admit()))
			wire := f.sign(f.grant(github))
			f.ok(wire)
			return wire
		}},
		{"other content at a version that is taken", rules.Stale, func(f *fixture) []byte {
			f.ok(f.sign(f.admit()))
			s := f.grant(github)
			f.ok(f.sign(s))
			s.Mode = statement.ModeReveal
			return f.sign(s)
		}},
		{"withdrawal of a version behind", rules.Stale, func(f *fixture) []byte {
			f.ok(f.sign(f.admit()))
			s := f.grant(github)
			f.ok(f.sign(s))
			s.Mode = statement.ModeNone
			return f.sign(s)
		}},
	})
}

func TestRefusalsOfDeletes(t *testing.T) {
	del := func(f *fixture, version uint64) []byte {
		return f.sign(statement.Delete{User: f.user, Agent: f.user, Service: github, Version: version})
	}
	runRefusals(t, []refusal{
		{"nothing there", rules.NotFound, func(f *fixture) []byte { return del(f, 1) }},
		{"twice", rules.AlreadyApplied, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			f.ok(del(f, 1))
			return del(f, 1)
		}},
		{"version ahead", rules.Stale, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			return del(f, 2)
		}},
		{"version behind: the newer value stays and the owner hears of it", rules.Stale, func(f *fixture) []byte {
			f.ok(f.SignProcess(f.write(github, "1")))
			f.ok(f.SignProcess(f.write(github, "2")))
			return del(f, 1)
		}},
	})
}
