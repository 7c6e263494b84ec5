package rules_test

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/record"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

func TestRecordReadsChain(t *testing.T) {
	f := newFixture(t)
	key := rulestest.PublicKey(f.Custodian)
	var head agentkeys.Hash
	first := uint64(1)
	for i, count := range []uint32{3, 1, 500} {
		root := agentkeys.Hash{byte(i)}
		s := statement.RecordReads{First: first, Count: count, Root: root, Previous: head, Boots: uint64(i), SeenHeight: uint64(10 * i), ValidUntil: f.soon()}
		f.ok(f.SignProcess(s))
		head = record.NextHead(vaultID, head, first, count, root)
		first += uint64(count)
		if r := f.Reads(key); r.Next != first || r.Head != head || r.Boots != uint64(i) || r.SeenHeight != uint64(10*i) {
			t.Fatalf("%+v", r)
		}
		f.next(1)
	}
}

// After an idle gap the block time is old: a statement that keeps the head fresh
// must be accepted whatever lies between.
func TestTrailHasNoUpperBoundOnValidity(t *testing.T) {
	f := newFixture(t)
	far := f.Block.Time + 30*86400
	f.ok(f.SignProcess(statement.Heartbeat{Nonce: [16]byte{1}, SeenHeight: 9, ValidUntil: far}))
	f.ok(f.SignProcess(statement.Heartbeat{Previous: 1, Nonce: [16]byte{1}, SeenHeight: 4, ValidUntil: far}))
	f.ok(f.SignProcess(statement.RecordReads{First: 1, Count: 1, SeenHeight: 9, ValidUntil: far}))
	if r := f.Reads(rulestest.PublicKey(f.Custodian)); r.Beat != 2 || r.SeenHeight != 9 || r.Next != 2 {
		t.Fatalf("%+v", r)
	}
}

func TestLogCommitsToPlaceAndSignatures(t *testing.T) {
	f := newFixture(t)
	user := func() (log agentkeys.Hash) { return f.row().Log }
	f.ok(f.SignUser(rulestest.Wallet("bob"), statement.Enrol{User: rulestest.Wallet("bob").Wallet()})) // position 0
	want := agentkeys.Hash{}
	for i, wire := range [][]byte{f.sign(statement.Enrol{User: f.user}), f.sign(f.admit())} {
		h := sha256.Sum256(wire)
		b := append([]byte(nil), want[:]...)
		b = binary.BigEndian.AppendUint64(b, f.Block.Height)
		b = binary.BigEndian.AppendUint64(b, f.Block.Time)
		b = binary.BigEndian.AppendUint32(b, uint32(1+i))
		want = sha256.Sum256(append(b, h[:]...))
		f.ok(wire)
		if user() != want || f.row().Rev != uint64(1+i) {
			t.Fatalf("statement %d: log %s, want %s", i, user(), want)
		}
	}
	before := f.System()
	f.ok(f.open(1))
	if f.System().Log != before.Log || f.System().Rev != before.Rev {
		t.Fatal("a user's statement went into the system's log")
	}
	f.ok(f.SignProcess(statement.Heartbeat{ValidUntil: f.soon()}))
	if f.System().Rev != before.Rev+1 || f.row().Rev != 3 {
		t.Fatal("a heartbeat belongs to the system's log")
	}
}

func TestResultSaysWhatIsTouched(t *testing.T) {
	f := newFixture(t, anchorA)
	for _, c := range []struct {
		name  string
		wire  func() []byte
		users int
		scope uint8
	}{
		{"enrol", func() []byte { return f.sign(statement.Enrol{User: f.user}) }, 1, rules.TouchedSystem},
		{"open", func() []byte { return f.open(1) }, 1, rules.TouchedSystem},
		{"admit", func() []byte { return f.sign(f.admit()) }, 1, rules.TouchedUsers},
		{"write", func() []byte { return f.SignProcess(f.write(github, "1")) }, 1, rules.TouchedUsers},
		{"vouch", func() []byte {
			return f.SignProcess(statement.Vouch{Rotator: agentkeys.ProcessKey{9}, Platform: statement.PlatformSoftware, ValidUntil: f.soon()})
		}, 0, rules.TouchedSystem},
		{"heartbeat", func() []byte { return f.SignProcess(statement.Heartbeat{ValidUntil: f.soon()}) }, 0, rules.TouchedSystem},
	} {
		r := f.ok(c.wire())
		if len(r.Users) != c.users || r.Scope != c.scope || c.users == 1 && r.Users[0] != f.user {
			t.Errorf("%s: users %v, scope %d", c.name, r.Users, r.Scope)
		}
	}
}

func TestTouchedRowsLinkBack(t *testing.T) {
	kv := rulestest.MapKV{}
	a, b := agentkeys.Wallet{1}, agentkeys.Wallet{2}
	many := make([]agentkeys.Wallet, rules.MaxTouched+1)
	for i := range many {
		binary.BigEndian.PutUint32(many[i][:], uint32(i+1))
	}
	steps := []struct {
		height uint64
		users  []agentkeys.Wallet
		scope  uint8
		want   rules.Touched
	}{
		{3, []agentkeys.Wallet{b, a, b}, rules.TouchedUsers, rules.Touched{Height: 3, Users: []agentkeys.Wallet{a, b}}},
		{7, nil, rules.TouchedSystem, rules.Touched{Height: 7, Previous: 3, Scope: rules.TouchedSystem, Users: []agentkeys.Wallet{}}},
		{8, many, rules.TouchedUsers, rules.Touched{Height: 8, Previous: 7, Scope: rules.TouchedAll, Users: []agentkeys.Wallet{}}},
		{9, many[1:], rules.TouchedUsers, rules.Touched{Height: 9, Previous: 8, Users: many[1:]}},
		{11, []agentkeys.Wallet{a}, rules.TouchedAll, rules.Touched{Height: 11, Previous: 9, Scope: rules.TouchedAll, Users: []agentkeys.Wallet{}}},
	}
	for _, s := range steps {
		if err := rules.Touch(kv, s.height, s.users, s.scope); err != nil {
			t.Fatal(err)
		}
		for _, key := range [][]byte{rules.TouchedKey(s.height), rules.TouchedHeadKey()} {
			got, err := rules.ParseTouched(kv[string(key)])
			if err != nil || got.Height != s.want.Height || got.Previous != s.want.Previous || got.Scope != s.want.Scope || !slices.Equal(got.Users, s.want.Users) {
				t.Fatalf("height %d: %+v %v", s.height, got, err)
			}
		}
	}
	if err := rules.Touch(kv, 11, nil, rules.TouchedSystem); err == nil {
		t.Fatal("a row that names itself as the one before")
	}
}

func TestSignaturesArePriced(t *testing.T) {
	for _, c := range []struct {
		wire     []byte
		secp, ed int
	}{
		{nil, 0, 0}, {[]byte{0}, 0, 0}, {[]byte{byte(statement.KindRotateAll)}, 0, 0},
		{[]byte{byte(statement.KindEnrol)}, 1, 0}, {[]byte{byte(statement.KindAskRotation)}, 1, 0},
		{[]byte{byte(statement.KindRegisterBlob)}, 0, 1}, {[]byte{byte(statement.KindVouch)}, 0, 1},
		{[]byte{byte(statement.KindOpenEpoch)}, 0, 2}, {[]byte{byte(statement.KindRewrapDEK)}, 0, 2},
	} {
		if secp, ed := rules.Signatures(c.wire); secp != c.secp || ed != c.ed {
			t.Errorf("%x: %d %d", c.wire, secp, ed)
		}
	}
}

func TestCodesKeepTheirNames(t *testing.T) {
	for c, name := range map[rules.Code]string{rules.OK: "ok", rules.AlreadyApplied: "already_applied", rules.Stale: "stale",
		rules.TooEarly: "too_early", rules.Refused: "refused", 14: "unknown"} {
		if c.String() != name || c.Done() != (c <= 1) {
			t.Errorf("%d: %s", c, c)
		}
	}
}
