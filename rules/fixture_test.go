package rules_test

import (
	"crypto/sha256"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// tb is what *testing.T, *testing.B and *rapid.T share.
type tb interface {
	Helper()
	Fatalf(string, ...any)
}

var (
	vaultID = agentkeys.VaultID(sha256.Sum256([]byte("vault of the tests")))
	anchorA = statement.AnchorID{'a'}
	anchorB = statement.AnchorID{'b'}
	github  = eip712.ServiceID("github#00000000000000000000000000000000")
	openai  = eip712.ServiceID("openai#00000000000000000000000000000000")
)

// fixture is a founded vault with one user and one agent that nobody admitted yet.
type fixture struct {
	*rulestest.Vault
	rulestest.Kit
	t           tb
	alice       eip712.Key
	user, agent agentkeys.Wallet
}

func newFixture(t tb, anchors ...statement.AnchorID) *fixture {
	t.Helper()
	v, err := rulestest.NewVault(vaultID, statement.DefaultParams())
	if err != nil {
		t.Fatalf("%v", err)
	}
	alice := rulestest.Wallet("alice")
	f := &fixture{Vault: v, t: t, alice: alice, user: alice.Wallet(), agent: rulestest.Wallet("scribe").Wallet(),
		Kit: rulestest.Kit{Vault: vaultID, Custodian: rulestest.Process("custodian"), Rotator: rulestest.Process("rotator")}}
	if err := f.Found(v, anchors...); err != nil {
		t.Fatalf("%v", err)
	}
	return f
}

// enrolled has the user enrolled and epoch 1 open.
func enrolled(t tb, anchors ...statement.AnchorID) *fixture {
	t.Helper()
	f := newFixture(t, anchors...)
	f.ok(f.sign(statement.Enrol{User: f.user}))
	f.ok(f.open(1))
	f.next(1)
	return f
}

func (f *fixture) sign(b statement.Body) []byte { return f.SignUser(f.alice, b) }

func (f *fixture) row() rules.User { return f.Vault.User(f.user) }

func (f *fixture) next(seconds uint64) {
	f.t.Helper()
	if err := f.NextBlock(seconds); err != nil {
		f.t.Fatalf("%v", err)
	}
}

// want applies a statement and fails unless it gets this code.
func (f *fixture) want(code rules.Code, wire []byte) rules.Result {
	f.t.Helper()
	r, err := f.Apply(wire)
	if err != nil {
		f.t.Fatalf("store: %v", err)
	}
	if r.Code != code {
		f.t.Fatalf("kind %d: got %v (%s), want %v", wire[0], r.Code, r.Reason, code)
	}
	return r
}

func (f *fixture) ok(wire []byte) rules.Result { f.t.Helper(); return f.want(rules.OK, wire) }

func (f *fixture) wantAct(code rules.Code, act statement.Body) rules.Result {
	f.t.Helper()
	r, err := f.Act(act)
	if err != nil {
		f.t.Fatalf("store: %v", err)
	}
	if r.Code != code {
		f.t.Fatalf("%T: got %v (%s), want %v", act, r.Code, r.Reason, code)
	}
	return r
}

func (f *fixture) soon() uint64 { return f.Block.Time + 300 }

func (f *fixture) slot(svc agentkeys.ServiceID) agentkeys.Slot {
	return agentkeys.Slot{User: f.user, Agent: f.user, Service: svc}
}

func dekID(user agentkeys.Wallet, e agentkeys.Epoch) agentkeys.DEKID {
	return sha256.Sum256(append(user[:], byte(e), byte(e>>8)))
}

func wrapped(version byte, tail byte) (w agentkeys.WrappedDEK) {
	w[3], w[63] = version, tail
	return w
}

// open opens an epoch with the key that belongs to its number.
func (f *fixture) open(e agentkeys.Epoch) []byte {
	return f.SignProcess(statement.OpenEpoch{ValidUntil: f.soon(), Receipt: receipt.Made{
		User: f.user, Epoch: e, DEKID: dekID(f.user, e), Wrapped: wrapped(1, byte(e))}})
}

// write is what an honest custodian signs over the rows as they stand.
func (f *fixture) write(svc agentkeys.ServiceID, content string) statement.RegisterBlob {
	h := agentkeys.Hash(sha256.Sum256([]byte(content)))
	s := statement.RegisterBlob{User: f.user, Agent: f.user, Service: svc, Epoch: f.row().Active.Epoch,
		Blob: agentkeys.BlobID(h[:16]), Hash: h, PreviousVersion: f.row().Floor, Idle: statement.IdleCarry, ValidUntil: f.soon()}
	if p := f.Pointer(f.slot(svc)); p.Version != 0 {
		s.PreviousVersion, s.PreviousHash = p.Version, p.Hash
	}
	return s
}

// rotate is an honest chunk over the given services.
func (f *fixture) rotate(services ...agentkeys.ServiceID) statement.RotateBlobs {
	u := f.row()
	c := receipt.Rotated{User: f.user, From: u.Draining.Epoch, To: u.Active.Epoch,
		FromDEKID: u.Draining.DEKID, ToDEKID: u.Active.DEKID}
	for _, svc := range services {
		p := f.Pointer(f.slot(svc))
		h := agentkeys.Hash(sha256.Sum256(append(p.Hash[:], byte(c.To))))
		c.Rows = append(c.Rows, receipt.Row{Agent: f.user, Service: svc, Version: p.Version, OldHash: p.Hash,
			NewBlob: agentkeys.BlobID(h[:16]), NewHash: h})
	}
	return statement.RotateBlobs{Receipt: c, ValidUntil: f.soon()}
}

func (f *fixture) destroy(id statement.AnchorID) statement.DestroyEpoch {
	a := f.Anchor(id)
	return statement.DestroyEpoch{Anchor: id, Term: a.Term, Generation: a.Generation, User: f.user,
		Epoch: f.row().Draining.Epoch, ValidUntil: f.soon()}
}

func (f *fixture) lost(svc agentkeys.ServiceID, missing bool) statement.ReportLost {
	p := f.Pointer(f.slot(svc))
	return statement.ReportLost{User: f.user, Agent: f.user, Service: svc, Version: p.Version, Hash: p.Hash,
		Height: p.Height, Missing: missing, ValidUntil: f.soon()}
}

func (f *fixture) drop(svc agentkeys.ServiceID, why statement.DropReason) statement.Drop {
	p := f.Pointer(f.slot(svc))
	return statement.Drop{User: f.user, Agent: f.user, Service: svc, Version: p.Version, Hash: p.Hash,
		Reason: why, ValidUntil: f.soon()}
}

// admit admits the fixture's agent for a year, at the counter as it stands.
func (f *fixture) admit() statement.AdmitAgent {
	return statement.AdmitAgent{User: f.user, Agent: f.agent, Role: statement.RoleAgent,
		Counter: f.Agent(f.user, f.agent).Counter, Expires: f.Block.Time + 365*86400}
}

func (f *fixture) grant(svc agentkeys.ServiceID) statement.Grant {
	return statement.Grant{User: f.user, Agent: f.agent, Service: svc, Counter: f.Agent(f.user, f.agent).Counter,
		Previous: f.Grant(agentkeys.Slot{User: f.user, Agent: f.agent, Service: svc}).Version,
		Mode:     statement.ModeUse, Slot: statement.SlotShared, Expires: f.Block.Time + 30*86400}
}

func (f *fixture) check() {
	f.t.Helper()
	if err := rules.CheckRows(f.KV.Rows()); err != nil {
		f.t.Fatalf("%v", err)
	}
}

func TestFoundedVaultPassesItsOwnCheck(t *testing.T) {
	f := enrolled(t, anchorA, anchorB)
	f.check()
	u := f.row()
	if u.Rev != 2 || u.Active.Epoch != 1 || u.Draining.Epoch != 0 || f.System().LiveEpochs != 1 || f.System().Users != 1 {
		t.Fatalf("user %+v, system %+v", u, f.System())
	}
}
