package rules_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// layout is one kind of row: a value, its size, and parse-then-append.
type layout struct {
	name  string
	size  int
	bytes []byte
	again func([]byte) ([]byte, error)
}

func reappend[T interface{ Append([]byte) []byte }](parse func([]byte) (T, error)) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		return v.Append(nil), nil
	}
}

// fill sets every field of a row to something that is not zero, so that a field
// that Append forgets shows.
func fill(v reflect.Value, r *rand.Rand) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), r)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1 + r.Uint64()>>1&(1<<(v.Type().Bits()-1)-1))
	default:
		panic("row field of kind " + v.Kind().String())
	}
}

func filled[T any](seed uint64) (v T) {
	fill(reflect.ValueOf(&v).Elem(), rand.New(rand.NewPCG(seed, 0)))
	return v
}

func layouts() []layout {
	pointer, agent, grant, anchor := filled[rules.Pointer](1), filled[rules.Agent](2), filled[rules.Grant](3), filled[rules.Anchor](4)
	pointer.Idle, agent.Role, grant.Mode, grant.Slot, anchor.State = statement.IdleExpire, statement.RoleProxy, statement.ModeReveal, statement.SlotShared, rules.AnchorEvicted
	touched := rules.Touched{Height: 9, Previous: 8, Scope: 2, Users: []agentkeys.Wallet{{1}, {2}}}
	return []layout{
		{"user", 8 + 32 + 8 + 4 + 2*114, filled[rules.User](5).Append(nil), reappend(rules.ParseUser)},
		{"pointer", 8 + 4 + 16 + 32 + 8 + 1 + 8 + 92, pointer.Append(nil), reappend(rules.ParsePointer)},
		{"agent", 17, agent.Append(nil), reappend(rules.ParseAgent)},
		{"grant", 8 + 8 + 1 + 1 + 8 + 92, grant.Append(nil), reappend(rules.ParseGrant)},
		{"enclave", 1 + 48 + 32*3 + 8 + 8 + 1, filled[rules.Enclave](6).Append(nil), reappend(rules.ParseEnclave)},
		{"reads", 8 + 32 + 8 + 16 + 8 + 8, filled[rules.Reads](7).Append(nil), reappend(rules.ParseReads)},
		{"anchor", 1 + 32 + 8 + 8 + 1 + 8 + 32, anchor.Append(nil), reappend(rules.ParseAnchor)},
		{"anchors", 32, rules.Anchors{anchorA, anchorB}.Append(nil), reappend(rules.ParseAnchors)},
		{"measurement", 8, rules.Measurement{Activation: 9}.Append(nil), reappend(rules.ParseMeasurement)},
		{"params", 104, filled[rules.ParamsRow](8).Append(nil), reappend(rules.ParseParams)},
		{"system", 8 + 32 + 8 + 8 + 8, filled[rules.System](9).Append(nil), reappend(rules.ParseSystem)},
		{"touched", 8 + 8 + 1 + 4 + 40, touched.Append(nil), reappend(rules.ParseTouched)},
	}
}

func TestRowsRoundTripAndRefuseOtherLengths(t *testing.T) {
	for _, l := range layouts() {
		if len(l.bytes) != l.size {
			t.Errorf("%s: %d bytes, the layout says %d", l.name, len(l.bytes), l.size)
		}
		if b, err := l.again(l.bytes); err != nil || !bytes.Equal(b, l.bytes) {
			t.Errorf("%s: %v, %x became %x", l.name, err, l.bytes, b)
		}
		if _, err := l.again(append(bytes.Clone(l.bytes), 0)); err == nil {
			t.Errorf("%s: a trailing byte passes", l.name)
		}
		for n := range l.bytes {
			if l.name == "anchors" && n%16 == 0 {
				continue // a shorter list
			}
			if _, err := l.again(l.bytes[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes pass", l.name, n, len(l.bytes))
			}
		}
	}
}

// Every field must survive the round trip, not only the bytes.
func TestRowsKeepEveryField(t *testing.T) {
	u := filled[rules.User](11)
	if got, err := rules.ParseUser(u.Append(nil)); err != nil || got != u {
		t.Errorf("user: %+v, %v", got, err)
	}
	e := filled[rules.Enclave](12)
	if got, err := rules.ParseEnclave(e.Append(nil)); err != nil || got != e {
		t.Errorf("enclave: %+v, %v", got, err)
	}
	r := filled[rules.Reads](13)
	if got, err := rules.ParseReads(r.Append(nil)); err != nil || got != r {
		t.Errorf("reads: %+v, %v", got, err)
	}
	s := filled[rules.System](14)
	if got, err := rules.ParseSystem(s.Append(nil)); err != nil || got != s {
		t.Errorf("system: %+v, %v", got, err)
	}
	p := filled[rules.Pointer](15)
	p.Idle = statement.IdleCarry
	if got, err := rules.ParsePointer(p.Append(nil)); err != nil || got != p {
		t.Errorf("pointer: %+v, %v", got, err)
	}
	g := filled[rules.Grant](16)
	g.Mode, g.Slot = statement.ModeUse, statement.SlotOwn
	if got, err := rules.ParseGrant(g.Append(nil)); err != nil || got != g {
		t.Errorf("grant: %+v, %v", got, err)
	}
	a := filled[rules.Anchor](17)
	a.State = rules.AnchorRetired
	if got, err := rules.ParseAnchor(a.Append(nil)); err != nil || got != a {
		t.Errorf("anchor: %+v, %v", got, err)
	}
	m := filled[rules.ParamsRow](18)
	if got, err := rules.ParseParams(m.Append(nil)); err != nil || got != m {
		t.Errorf("params: %+v, %v", got, err)
	}
}

func TestRowsRefuseValuesOutOfRange(t *testing.T) {
	at := func(name string, i int, v byte) (layout, []byte) {
		for _, l := range layouts() {
			if l.name == name {
				b := bytes.Clone(l.bytes)
				b[i] = v
				return l, b
			}
		}
		t.Fatal(name)
		return layout{}, nil
	}
	for _, c := range []struct {
		name  string
		at    int
		value byte
	}{
		{"user", 52 + 112, 2}, {"pointer", 68, 0}, {"pointer", 68, 3}, {"agent", 0, 0}, {"agent", 0, 3},
		{"grant", 16, 3}, {"grant", 17, 0}, {"grant", 17, 3}, {"enclave", 161, 2}, {"anchor", 49, 0}, {"anchor", 49, 5},
		{"touched", 16, 3}, {"touched", 20, 3},
	} {
		l, b := at(c.name, c.at, c.value)
		if _, err := l.again(b); err == nil {
			t.Errorf("%s: byte %d = %d passes", c.name, c.at, c.value)
		}
	}
}

func TestKeysAreDistinctAndNamedByOwner(t *testing.T) {
	u, a, svc := agentkeys.Wallet{1}, agentkeys.Wallet{2}, eip712.ServiceID("x")
	slot := agentkeys.Slot{User: u, Agent: a, Service: svc}
	owned := [][]byte{rules.UserKey(u), rules.PointerKey(slot), rules.AgentKey(u, a), rules.GrantKey(slot)}
	for i, k := range owned {
		if w, ok := rules.Owner(k); !ok || w != u {
			t.Errorf("%x: owner %v %v", k, w, ok)
		}
		if p := rules.UserPrefixes(u)[i]; !bytes.HasPrefix(k, p) {
			t.Errorf("%x is not under %x", k, p)
		}
	}
	others := [][]byte{rules.VaultKey(), rules.ParamsKey(), rules.SystemKey(), rules.AnchorsKey(), rules.TouchedHeadKey(), rules.TouchedKey(1),
		rules.EnclaveKey(1, agentkeys.ProcessKey{}), rules.ReadsKey(agentkeys.ProcessKey{}), rules.AnchorKey(anchorA),
		rules.MeasurementKey(1, 1, [48]byte{}), rules.OidcKey(agentkeys.Hash{})}
	seen := map[string]bool{}
	for _, k := range append(others, owned...) {
		if seen[string(k[:1])] {
			t.Errorf("two kinds of row share %q", k[:1])
		}
		seen[string(k[:1])] = true
	}
	for _, k := range others {
		if _, ok := rules.Owner(k); ok {
			t.Errorf("%x belongs to nobody", k)
		}
	}
	if s, ok := rules.ParsePointerKey(owned[1]); !ok || s != slot {
		t.Errorf("%+v", s)
	}
	if s, ok := rules.ParseGrantKey(owned[3]); !ok || s != slot {
		t.Errorf("%+v", s)
	}
	if _, ok := rules.ParseGrantKey(owned[1]); ok {
		t.Error("a pointer key passes as a grant key")
	}
	if x, y, ok := rules.ParseAgentKey(owned[2]); !ok || x != u || y != a {
		t.Errorf("%v %v", x, y)
	}
}

func FuzzParseRow(f *testing.F) {
	all := layouts()
	for i, l := range all {
		f.Add(uint8(i), l.bytes)
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		l := all[int(kind)%len(all)]
		if got, err := l.again(b); err == nil && !bytes.Equal(got, b) {
			t.Fatalf("%s: %x and %x are the same row", l.name, b, got)
		}
	})
}
