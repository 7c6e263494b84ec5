package rules_test

import (
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

func TestRefusalsOfActs(t *testing.T) {
	params := func(change func(p *statement.Params)) func(f *fixture) statement.Body {
		return func(f *fixture) statement.Body {
			p := statement.DefaultParams()
			change(&p)
			return statement.SetParams{Params: p, Activation: f.Block.Height + 1}
		}
	}
	twice := func(act statement.Body) func(f *fixture) statement.Body {
		return func(f *fixture) statement.Body {
			f.wantAct(rules.OK, act)
			return act
		}
	}
	for _, c := range []struct {
		name string
		want rules.Code
		act  func(f *fixture) statement.Body
	}{
		{"params without a cadence", rules.Refused, params(func(p *statement.Params) { p.Cadence = 0 })},
		{"params without a head age", rules.Refused, params(func(p *statement.Params) { p.MaxHeadAge = 0 })},
		{"params without a validity", rules.Refused, params(func(p *statement.Params) { p.MaxValidity = 0 })},
		{"params without a time until lost", rules.Refused, params(func(p *statement.Params) { p.LostAfter = 0 })},
		{"drain window above the cadence", rules.Refused, params(func(p *statement.Params) { p.DrainWindow = p.Cadence + 1 })},
		{"a cadence that makes times wrap", rules.Refused, params(func(p *statement.Params) { p.Cadence, p.DrainWindow = ^uint64(0), ^uint64(0) })},
		{"a time until lost that wraps", rules.Refused, params(func(p *statement.Params) { p.LostAfter = ^uint64(0) - 5 })},
		{"a wait that wraps", rules.Refused, params(func(p *statement.Params) { p.MeasurementWait = ^uint64(0) - 5 })},
		{"params from this block on", rules.TooEarly, func(f *fixture) statement.Body {
			return statement.SetParams{Params: statement.DefaultParams(), Activation: f.Block.Height}
		}},
		{"allow twice", rules.AlreadyApplied, twice(statement.AllowMeasurement{Role: statement.EnclaveCustodian, Platform: statement.PlatformSNP})},
		{"remove what is not allowed", rules.AlreadyApplied, func(f *fixture) statement.Body {
			return statement.RemoveMeasurement{Role: statement.EnclaveCustodian, Platform: statement.PlatformSNP}
		}},
		{"register a measurement that is not allowed", rules.NotRegistered, func(f *fixture) statement.Body {
			s := softCustodian(f, 7)
			s.Measurement[47] = 1
			return s
		}},
		{"register a measurement of the other role", rules.NotRegistered, func(f *fixture) statement.Body {
			f.wantAct(rules.OK, statement.AllowMeasurement{Role: statement.EnclaveRotator, Platform: statement.PlatformTDX})
			s := softCustodian(f, 7)
			s.Platform = statement.PlatformTDX
			return s
		}},
		{"register a removed measurement", rules.NotRegistered, func(f *fixture) statement.Body {
			f.wantAct(rules.OK, statement.RemoveMeasurement{Role: statement.EnclaveCustodian, Platform: statement.PlatformSoftware})
			return softCustodian(f, 7)
		}},
		{"register what is over", rules.Expired, func(f *fixture) statement.Body {
			s := softCustodian(f, 7)
			s.Expiry = f.Block.Time
			return s
		}},
		{"register the zero key", rules.Refused, func(f *fixture) statement.Body { return softCustodian(f, 0) }},
		{"register twice", rules.AlreadyApplied, func(f *fixture) statement.Body { return twice(softCustodian(f, 7))(f) }},
		{"register a revoked key", rules.Refused, func(f *fixture) statement.Body {
			f.wantAct(rules.OK, statement.RevokeEnclave{Role: statement.EnclaveCustodian, Key: agentkeys.ProcessKey{7}})
			return softCustodian(f, 7)
		}},
		{"revoke twice", rules.AlreadyApplied, twice(statement.RevokeEnclave{Role: statement.EnclaveRotator, Key: agentkeys.ProcessKey{7}})},
		{"OIDC key twice", rules.AlreadyApplied, twice(statement.SetOidcKey{KeyHash: agentkeys.Hash{7}, Active: true})},
		{"withdraw an OIDC key that is not there", rules.AlreadyApplied, func(f *fixture) statement.Body {
			return statement.SetOidcKey{KeyHash: agentkeys.Hash{7}}
		}},
		{"add an anchor twice", rules.AlreadyApplied, func(f *fixture) statement.Body {
			return statement.AddAnchor{Anchor: anchorA, Type: statement.AnchorTPM}
		}},
		{"a ninth anchor", rules.Refused, func(f *fixture) statement.Body {
			for i := range byte(rules.MaxAnchors - 1) {
				f.wantAct(rules.OK, statement.AddAnchor{Anchor: statement.AnchorID{'x', i}, Type: statement.AnchorFile})
			}
			return statement.AddAnchor{Anchor: anchorB, Type: statement.AnchorFile}
		}},
		{"retire the last live anchor", rules.Refused, func(f *fixture) statement.Body { return statement.RetireAnchor{Anchor: anchorA} }},
		{"evict the last live anchor, one joining", rules.Refused, func(f *fixture) statement.Body {
			f.wantAct(rules.OK, statement.AddAnchor{Anchor: anchorB, Type: statement.AnchorFile})
			return statement.EvictAnchor{Anchor: anchorA}
		}},
		{"evict an unknown anchor", rules.NotFound, func(f *fixture) statement.Body { return statement.EvictAnchor{Anchor: anchorB} }},
		{"evict twice", rules.AlreadyApplied, func(f *fixture) statement.Body {
			withSecondAnchor(f)
			return twice(statement.EvictAnchor{Anchor: anchorB})(f)
		}},
		{"call an evicted anchor retired", rules.Refused, func(f *fixture) statement.Body {
			withSecondAnchor(f)
			f.wantAct(rules.OK, statement.EvictAnchor{Anchor: anchorB})
			return statement.RetireAnchor{Anchor: anchorB}
		}},
		{"rotate nobody", rules.NotFound, func(f *fixture) statement.Body { return statement.RotateUser{User: agentkeys.Wallet{1}} }},
		{"rotate a user twice", rules.AlreadyApplied, func(f *fixture) statement.Body { return twice(statement.RotateUser{User: f.user})(f) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := enrolled(t, anchorA)
			act := c.act(f)
			before := f.KV.Rows()
			if r := f.wantAct(c.want, act); r.Reason == "" || !sameRows(before, f.KV.Rows()) {
				t.Fatalf("reason %q, or rows changed", r.Reason)
			}
			f.check()
		})
	}
	f := enrolled(t)
	for _, b := range [][]byte{nil, {byte(statement.KindEnrol)}, {75}, {byte(statement.KindRotateAll), 0}, f.sign(f.admit())} {
		if r, err := rules.ApplyAuthority(f.KV, f.Block, b); err != nil || r.Code != rules.BadLayout {
			t.Errorf("%x: %v %v", b, r.Code, err)
		}
	}
}

func TestParamsActivateAtTheirHeight(t *testing.T) {
	f := enrolled(t, anchorA)
	p := statement.DefaultParams()
	p.MaxValidity = 10
	f.wantAct(rules.OK, statement.SetParams{Params: p, Activation: f.Block.Height + 2})
	far := func() []byte {
		s := f.write(github, "x")
		s.ValidUntil = f.Block.Time + 11
		return f.SignProcess(s)
	}
	f.next(1)
	f.ok(far())
	f.next(1)
	f.want(rules.Expired, far())
	s := f.write(github, "y")
	s.ValidUntil = f.Block.Time + 10
	f.ok(f.SignProcess(s))

	// A second change while the first waits replaces it; the params in force stay.
	q := p
	q.MaxValidity = 1
	f.wantAct(rules.OK, statement.SetParams{Params: q, Activation: f.Block.Height + 9})
	q.MaxValidity = 2
	f.wantAct(rules.OK, statement.SetParams{Params: q, Activation: f.Block.Height + 5})
	row, err := rules.ParseParams(f.KV[string(rules.ParamsKey())])
	if err != nil || row.At(f.Block.Height) != p || row.At(f.Block.Height+4) != p || row.At(f.Block.Height+5) != q {
		t.Fatalf("%+v, %v", row, err)
	}
	f.check()
}

func TestMeasurementWaitsBeforeItCounts(t *testing.T) {
	f := enrolled(t, anchorA)
	p := statement.DefaultParams()
	p.MeasurementWait = 1000
	f.wantAct(rules.OK, statement.SetParams{Params: p, Activation: f.Block.Height + 1})
	f.next(1)
	allow := statement.AllowMeasurement{Role: statement.EnclaveRotator, Platform: statement.PlatformNitro, Measurement: [48]byte{1}}
	f.wantAct(rules.OK, allow)
	vouch := func() []byte {
		return f.SignProcess(statement.Vouch{Rotator: agentkeys.ProcessKey{9}, Platform: allow.Platform, Measurement: allow.Measurement, ValidUntil: f.soon()})
	}
	f.next(999)
	f.want(rules.NotRegistered, vouch())
	f.next(1)
	f.ok(vouch())
	if e := f.Enclave(statement.EnclaveRotator, agentkeys.ProcessKey{9}); e.Activation != f.Block.Time || e.Revoked {
		t.Fatalf("%+v", e)
	}
	// Allowing again after a removal waits again.
	f.wantAct(rules.OK, statement.RemoveMeasurement(allow))
	f.wantAct(rules.OK, allow)
	f.next(1)
	f.want(rules.NotRegistered, f.SignProcess(statement.Vouch{Rotator: agentkeys.ProcessKey{8}, Platform: allow.Platform,
		Measurement: allow.Measurement, ValidUntil: f.soon()}))
}

func TestRotateAllMakesOpenEpochsDueAndEager(t *testing.T) {
	f := enrolled(t, anchorA)
	f.wantAct(rules.OK, statement.RotateAll{})
	if s := f.System(); s.RotateBefore != f.Block.Time+1 || f.row().Active.Opened >= s.RotateBefore {
		t.Fatalf("%+v", s)
	}
	f.next(1)
	f.ok(f.open(2))
	if u := f.row(); !u.Draining.Eager || u.Active.Opened < f.System().RotateBefore {
		t.Fatalf("%+v", u)
	}
}

func TestRotateUserMakesDrainingEager(t *testing.T) {
	f := enrolled(t, anchorA)
	draining(f)
	if f.row().Draining.Eager {
		t.Fatal("nobody asked yet")
	}
	f.wantAct(rules.OK, statement.RotateUser{User: f.user})
	if u := f.row(); !u.Draining.Eager || u.Due != 3 {
		t.Fatalf("%+v", u)
	}
}

func TestOidcKeysComeAndGo(t *testing.T) {
	f := newFixture(t)
	key := rules.OidcKey(agentkeys.Hash{7})
	f.wantAct(rules.OK, statement.SetOidcKey{KeyHash: agentkeys.Hash{7}, Active: true})
	if v := f.KV[string(key)]; len(v) != 1 || v[0] != 1 {
		t.Fatalf("%x", v)
	}
	f.check()
	f.wantAct(rules.OK, statement.SetOidcKey{KeyHash: agentkeys.Hash{7}})
	if _, ok := f.KV[string(key)]; ok {
		t.Fatal("still there")
	}
}

func TestJoiningAnchorCanAlwaysLeave(t *testing.T) {
	f := newFixture(t)
	f.wantAct(rules.OK, statement.AddAnchor{Anchor: anchorA, Type: statement.AnchorTPM})
	f.wantAct(rules.OK, statement.EvictAnchor{Anchor: anchorA})
	f.want(rules.NotFound, f.SignProcess(statement.TakeKeeper{Anchor: anchorA, Term: 1, LeaseUntil: f.Block.Time + 60, ValidUntil: f.soon()}))
	f.check()
}

func TestActsTouchEverythingAndFillTheSystemLog(t *testing.T) {
	f := newFixture(t)
	for _, act := range []statement.Body{statement.SetOidcKey{KeyHash: agentkeys.Hash{1}, Active: true}, softCustodian(f, 7), statement.RotateAll{}} {
		before, block := f.System(), f.Block
		if r := f.wantAct(rules.OK, act); r.Scope != rules.TouchedAll || len(r.Users) != 0 {
			t.Fatalf("%T: %+v", act, r)
		}
		want := rules.NextLog(before.Log, block, statement.Hash(statement.AppendAct(nil, act)))
		if s := f.System(); s.Rev != before.Rev+1 || s.Log != want {
			t.Fatalf("%T: %+v", act, s)
		}
	}
}

func softCustodian(_ *fixture, key byte) statement.RegisterEnclave {
	return statement.RegisterEnclave{Role: statement.EnclaveCustodian, Key: agentkeys.ProcessKey{key}, Platform: statement.PlatformSoftware}
}

// A custodian of a newer build keeps its instance key: the authority renews its
// evidence, and nobody else can.
func TestAuthorityRenewsEvidence(t *testing.T) {
	f := newFixture(t)
	act := softCustodian(f, 7)
	f.wantAct(rules.OK, act)
	act.Evidence[0]++
	f.wantAct(rules.OK, act)
	f.wantAct(rules.AlreadyApplied, act)
}

func TestRenewalKeepsChannelKeysAndActivation(t *testing.T) {
	f := newFixture(t)
	vouch := statement.Vouch{Rotator: agentkeys.ProcessKey{9}, Noise: [32]byte{1}, MLKEMHash: agentkeys.Hash{2},
		Platform: statement.PlatformSoftware, ValidUntil: f.soon()}
	f.ok(f.SignProcess(vouch))
	before := f.Enclave(statement.EnclaveRotator, vouch.Rotator)
	f.next(1)
	f.wantAct(rules.OK, statement.RegisterEnclave{Role: statement.EnclaveRotator, Key: vouch.Rotator, Platform: statement.PlatformSoftware, Evidence: agentkeys.Hash{3}})
	before.Evidence = agentkeys.Hash{3}
	if got := f.Enclave(statement.EnclaveRotator, vouch.Rotator); got != before {
		t.Fatalf("%+v, want %+v", got, before)
	}
	f.want(rules.Refused, f.SignProcess(vouch)) // a vouch never renews
}
