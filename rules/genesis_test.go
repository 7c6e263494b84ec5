package rules_test

import (
	"slices"
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// lived is a vault with a row of every kind.
func lived(t *testing.T) *fixture {
	f := enrolled(t, anchorA, anchorB)
	draining(f)
	f.ok(f.sign(f.admit()))
	f.ok(f.sign(f.grant(github)))
	f.wantAct(rules.OK, statement.SetOidcKey{KeyHash: agentkeys.Hash{1}, Active: true})
	f.ok(f.SignProcess(statement.Heartbeat{ValidUntil: f.soon()}))
	f.next(1)
	return f
}

func TestCheckRowsAcceptsAnExportWithEveryKindOfRow(t *testing.T) {
	f := lived(t)
	f.check()
	kinds := map[byte]bool{}
	for _, r := range f.KV.Rows() {
		kinds[r.Key[0]] = true
	}
	if len(kinds) != 15 {
		t.Fatalf("the vault of this test has %d kinds of row", len(kinds))
	}
	empty, err := rulestest.NewVault(vaultID, statement.DefaultParams())
	if err != nil || rules.CheckRows(empty.KV.Rows()) != nil {
		t.Fatal("an empty vault is refused")
	}
}

func TestInitGenesisRefusesParamsThatCannotWork(t *testing.T) {
	if _, err := rulestest.NewVault(vaultID, statement.Params{}); err == nil {
		t.Fatal("params of zeros pass")
	}
}

func TestCheckRowsRefuses(t *testing.T) {
	user := func(f *fixture, change func(u *rules.User)) {
		u := f.row()
		change(&u)
		f.KV[string(rules.UserKey(f.user))] = u.Append(nil)
	}
	system := func(f *fixture, change func(s *rules.System)) {
		s := f.System()
		change(&s)
		f.KV[string(rules.SystemKey())] = s.Append(nil)
	}
	stranger := agentkeys.Wallet{0xff}
	for name, spoil := range map[string]func(f *fixture){
		"no vault id":             func(f *fixture) { delete(f.KV, string(rules.VaultKey())) },
		"short vault id":          func(f *fixture) { f.KV[string(rules.VaultKey())] = []byte{1} },
		"no params":               func(f *fixture) { delete(f.KV, string(rules.ParamsKey())) },
		"params of zeros":         func(f *fixture) { f.KV[string(rules.ParamsKey())] = rules.ParamsRow{}.Append(nil) },
		"no system row":           func(f *fixture) { delete(f.KV, string(rules.SystemKey())) },
		"unknown kind":            func(f *fixture) { f.KV["z"] = []byte{1} },
		"key too long":            func(f *fixture) { f.KV[string(rules.UserKey(f.user))+"x"] = f.row().Append(nil) },
		"row does not parse":      func(f *fixture) { f.KV[string(rules.UserKey(f.user))] = []byte{1} },
		"users counted wrong":     func(f *fixture) { system(f, func(s *rules.System) { s.Users++ }) },
		"epochs counted wrong":    func(f *fixture) { system(f, func(s *rules.System) { s.LiveEpochs-- }) },
		"active counted wrong":    func(f *fixture) { user(f, func(u *rules.User) { u.Active.LiveCount++ }) },
		"draining counted wrong":  func(f *fixture) { user(f, func(u *rules.User) { u.Draining.LiveCount = 0 }) },
		"pointer into a dead one": func(f *fixture) { user(f, func(u *rules.User) { u.Draining.Epoch = 7 }) },
		"draining is not the one before": func(f *fixture) {
			user(f, func(u *rules.User) { u.Active.Epoch = 9 })
		},
		"due too far ahead":         func(f *fixture) { user(f, func(u *rules.User) { u.Due = 4 }) },
		"active marked as erased":   func(f *fixture) { user(f, func(u *rules.User) { u.Active.Erased = 1 }) },
		"no row as one's own agent": func(f *fixture) { delete(f.KV, string(rules.AgentKey(f.user, f.user))) },
		"agent of a stranger": func(f *fixture) {
			f.KV[string(rules.AgentKey(stranger, f.agent))] = f.Agent(f.user, f.agent).Append(nil)
		},
		"grant of a stranger": func(f *fixture) {
			g := f.Grant(agentkeys.Slot{User: f.user, Agent: f.agent, Service: github})
			f.KV[string(rules.GrantKey(agentkeys.Slot{User: stranger}))] = g.Append(nil)
		},
		"pointer of a stranger": func(f *fixture) {
			f.KV[string(rules.PointerKey(agentkeys.Slot{User: stranger}))] = f.Pointer(f.slot(github)).Append(nil)
		},
		"anchor not listed": func(f *fixture) {
			f.KV[string(rules.AnchorKey(statement.AnchorID{'x'}))] = f.Anchor(anchorA).Append(nil)
		},
		"anchor listed twice": func(f *fixture) {
			f.KV[string(rules.AnchorsKey())] = rules.Anchors{anchorA, anchorB, anchorA}.Append(nil)
		},
		"anchor without a row": func(f *fixture) { delete(f.KV, string(rules.AnchorKey(anchorB))) },
		"OIDC key neither there nor gone": func(f *fixture) {
			f.KV[string(rules.OidcKey(agentkeys.Hash{1}))] = []byte{0}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := lived(t)
			spoil(f)
			err := rules.CheckRows(f.KV.Rows())
			if err == nil || !strings.HasPrefix(err.Error(), "genesis: ") {
				t.Fatalf("got %v", err)
			}
		})
	}
	rows := lived(t).KV.Rows()
	slices.Reverse(rows)
	if rules.CheckRows(rows) == nil {
		t.Fatal("rows out of order pass")
	}
	rows = lived(t).KV.Rows()
	if rules.CheckRows(append(rows, rows[len(rows)-1])) == nil || rules.CheckRows(append([]rules.Row{{}}, rows...)) == nil {
		t.Fatal("a row twice or without a key passes")
	}
}

// A vault that goes on from an export must end where the first one does.
func TestExportedRowsGoOnAlike(t *testing.T) {
	f := lived(t)
	moved := rulestest.MapKV{}
	for _, r := range f.KV.Rows() {
		_ = moved.Set(r.Key, r.Value)
	}
	wire := f.SignProcess(f.rotate(github))
	entry := rulestest.Entry{Block: f.Block, Wire: wire}
	f.ok(wire)
	if r, err := entry.Run(moved); err != nil || r.Code != rules.OK || !sameRows(moved.Rows(), f.KV.Rows()) {
		t.Fatalf("%v %v", r, err)
	}
}

// broken fails at the n-th access: the error must come out as it is, and a row
// that does not parse must not pass as absent.
type broken struct {
	rules.KV
	left int
}

type errStore struct{}

func (errStore) Error() string { return "disk gone" }

func (b *broken) Get(key []byte) ([]byte, error) {
	if b.left--; b.left < 0 {
		return nil, errStore{}
	}
	return b.KV.Get(key)
}

func (b *broken) Set(key, value []byte) error {
	if b.left--; b.left < 0 {
		return errStore{}
	}
	return b.KV.Set(key, value)
}

func TestStoreErrorsAreNotRefusals(t *testing.T) {
	f := lived(t)
	statements := map[string][]byte{
		"admit": f.sign(func() statement.AdmitAgent { s := f.admit(); s.Expires += 9; return s }()),
		"write": f.SignProcess(f.write(github, "2")), "rotate": f.SignProcess(f.rotate(github)),
		"delete":  f.sign(statement.Delete{User: f.user, Agent: f.user, Service: github, Version: 1}),
		"revoke":  f.sign(statement.RevokeAgent{User: f.user, Agent: f.agent, Counter: 1}),
		"lost":    f.SignProcess(f.lost(github, true)),
		"reads":   f.SignProcess(statement.RecordReads{First: 1, Count: 1, ValidUntil: f.soon()}),
		"grant":   f.sign(f.grant(openai)),
		"request": f.sign(statement.AskRotation{User: f.user, Due: 3}),
	}
	for name, wire := range statements {
		for n := range 60 {
			r, err := rules.Apply(&broken{rulestest.NewLayer(f.KV), n}, f.Block, wire)
			if err == nil {
				if r.Code != rules.OK || n < 5 {
					t.Errorf("%s: %v after %d accesses", name, r.Code, n)
				}
				break
			}
			if err.Error() == "" || r.Code != rules.OK || n == 59 {
				t.Errorf("%s: %v %v after %d accesses", name, r.Code, err, n)
			}
		}
	}
	f.KV[string(rules.UserKey(f.user))] = []byte("not a row")
	if r, err := rules.Apply(f.KV, f.Block, statements["write"]); err == nil {
		t.Fatalf("a broken row is taken for %v", r.Code)
	}
	if _, err := rules.Apply(rulestest.MapKV{}, f.Block, statements["write"]); err == nil {
		t.Fatal("a store without a vault id works")
	}
}
