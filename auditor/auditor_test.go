package auditor_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/auditor"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/record"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// story is a vault in which one user wrote a credential twice, opened a second epoch
// and read three times; the first epoch is not empty.
type story struct {
	*chain
	kit     rulestest.Kit
	user    agentkeys.Wallet
	slot    agentkeys.Slot
	anchor  statement.AnchorID
	records [][]byte
	older   []byte // the pointer row of version 1
}

func newStory(t *testing.T) *story {
	t.Helper()
	id := agentkeys.VaultID(sha256.Sum256([]byte("audited vault")))
	v, err := rulestest.NewVault(id, statement.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	alice := rulestest.Wallet("alice")
	s := &story{chain: newChain(t, v), user: alice.Wallet(), anchor: statement.AnchorID{'a'},
		kit: rulestest.Kit{Vault: id, Custodian: rulestest.Process("custodian"), Rotator: rulestest.Process("rotator")}}
	s.slot = agentkeys.Slot{User: s.user, Agent: s.user, Service: eip712.ServiceID("github#00")}
	if err := s.kit.Found(v, s.anchor); err != nil {
		t.Fatal(err)
	}
	s.snapshot()
	s.ok(s.kit.SignUser(alice, statement.Enrol{User: s.user}))
	s.end()
	s.ok(s.open(1))
	s.ok(s.kit.SignProcess(s.write("first")))
	s.end()
	s.older = bytes.Clone(v.KV[string(rules.PointerKey(s.slot))])
	s.ok(s.kit.SignProcess(s.write("second")))
	s.ok(s.open(2))
	s.end()
	s.read()
	return s
}

func (s *story) ok(wire []byte) {
	s.t.Helper()
	if r, err := s.vault.Apply(wire); err != nil || r.Code != rules.OK {
		s.t.Fatalf("%v %v", r, err)
	}
}

func (s *story) valid() uint64 { return s.vault.Block.Time + 60 }

func (s *story) open(e agentkeys.Epoch) []byte {
	return s.kit.SignProcess(statement.OpenEpoch{ValidUntil: s.valid(), Receipt: receipt.Made{User: s.user, Epoch: e,
		DEKID: agentkeys.DEKID{byte(e)}, Wrapped: agentkeys.WrappedDEK{3: 1, 4: byte(e)}}})
}

func (s *story) write(content string) statement.RegisterBlob {
	h := agentkeys.Hash(sha256.Sum256([]byte(content)))
	p := s.vault.Pointer(s.slot)
	return statement.RegisterBlob{User: s.user, Agent: s.user, Service: s.slot.Service, Epoch: s.vault.User(s.user).Active.Epoch,
		Blob: agentkeys.BlobID(h[:16]), Hash: h, PreviousVersion: p.Version, PreviousHash: p.Hash, Idle: statement.IdleCarry, ValidUntil: s.valid()}
}

// read commits a boot record and three reads; the owner gets the reads.
func (s *story) read() {
	s.t.Helper()
	all := []record.Record{{Sequence: 1, Time: s.vault.Block.Time - 9, Kind: record.KindBoot, Boot: 1}}
	for n := uint64(2); n <= 4; n++ {
		r := record.Record{Sequence: n, Time: s.vault.Block.Time, Kind: record.KindRead, Mode: uint8(statement.ModeUse), User: s.user, Agent: s.user,
			Owner: s.user, Service: s.slot.Service, Version: 2, Epoch: 1, Height: s.vault.Block.Height, Boot: 1}
		all, s.records = append(all, r), append(s.records, r.Append(nil))
	}
	s.ok(s.kit.SignProcess(statement.RecordReads{First: 1, Count: 4, Root: record.Root(all), Boots: 1, ValidUntil: s.valid()}))
	s.end()
}

func (s *story) trust(b *auditor.Bundle) auditor.Trust {
	return auditor.Trust{ChainID: chainID, Vault: s.vault.ID, Header: ledger.Trust{Height: 2, Hash: b.Blocks[1].Header.Hash()},
		Now: b.Blocks[len(b.Blocks)-1].Header.Time.Add(time.Second)}
}

// lie has the chain accept a statement that the rules refuse, and what it pretends
// the statement did.
func (s *story) lie(wire []byte, did func(kv rulestest.MapKV)) {
	s.t.Helper()
	if r, err := s.vault.Apply(wire); err != nil || r.Code == rules.OK {
		s.t.Fatalf("the rules take it: %v %v", r, err)
	}
	s.lies = append(s.lies, rulestest.Entry{Block: s.vault.Block, Wire: wire})
	did(s.vault.KV)
	s.end()
}

func good(t *testing.T, r *auditor.Report) {
	t.Helper()
	for _, c := range r.Checks {
		if c.Verdict == auditor.Fails {
			t.Errorf("%s: %v", c.Name, c.Findings)
		}
	}
	if t.Failed() || !r.OK() || r.Attested != 2 || r.Assumed != 2 || r.Proved != 11 {
		t.Fatalf("a good bundle: %s", r.Summary())
	}
}

// found wants a check that fails with words in one of its findings.
func found(t *testing.T, r *auditor.Report, check, words string) {
	t.Helper()
	c := r.Check(check)
	if r.OK() || c.Verdict != auditor.Fails || !strings.Contains(strings.Join(c.Findings, "\n"), words) {
		t.Fatalf("%s must fail with %q; the report: %+v", check, words, r.Checks)
	}
}

func TestGoodBundle(t *testing.T) {
	s := newStory(t)
	b := s.bundle(s.records...)
	r := auditor.Verify(b, s.trust(b))
	good(t, r)
	if len(r.Users) != 1 || len(r.Users[0].Epochs) != 2 || r.Users[0].Epochs[0].State != "draining" || len(r.Users[0].Credentials[0].Changes) != 2 {
		t.Fatalf("%+v", r.Users)
	}
	if tr := r.Trails[0]; tr.Records != 4 || tr.Shown != 3 || tr.Rebuilt != 1 || tr.Proven != 1 || len(tr.Hidden) != 0 {
		t.Fatalf("%+v", tr)
	}
}

func TestFindsDroppedReadRecord(t *testing.T) {
	for i := range 3 {
		s := newStory(t)
		b := s.bundle(s.records...)
		good(t, auditor.Verify(b, s.trust(b)))
		b.Records = append(append([][]byte{}, s.records[:i]...), s.records[i+1:]...)
		found(t, auditor.Verify(b, s.trust(b)), "reads", []string{"seq 1-2", "seq 1, 3", "seq 1, 4"}[i])
	}
}

func TestFindsAlteredReadRecord(t *testing.T) {
	s := newStory(t)
	b := s.bundle(s.records...)
	c, err := record.Parse(b.Records[1])
	if err != nil {
		t.Fatal(err)
	}
	c.Mode = uint8(statement.ModeReveal)
	b.Records[1] = c.Append(nil)
	found(t, auditor.Verify(b, s.trust(b)), "reads", "seq 1")
}

func TestFindsRolledBackBlob(t *testing.T) {
	s := newStory(t)
	good(t, auditor.Verify(s.bundle(s.records...), s.trust(s.bundle())))
	s.vault.KV[string(rules.PointerKey(s.slot))] = s.older
	s.end()
	b := s.bundle(s.records...)
	found(t, auditor.Verify(b, s.trust(b)), "rows", "pointer row of "+s.user.String())
}

// A log that does not come from the statements, under a good count.
func TestFindsAlteredLog(t *testing.T) {
	s := newStory(t)
	u := s.vault.User(s.user)
	u.Log[5] ^= 1
	s.vault.KV[string(rules.UserKey(s.user))] = u.Append(nil)
	s.end()
	b := s.bundle(s.records...)
	found(t, auditor.Verify(b, s.trust(b)), "logs", "another log")
}

func TestFindsEarlyDestroy(t *testing.T) {
	s := newStory(t)
	a := s.vault.Anchor(s.anchor)
	s.lie(s.kit.SignProcess(statement.DestroyEpoch{Anchor: s.anchor, Term: a.Term, Generation: a.Generation, User: s.user, Epoch: 1, ValidUntil: s.valid()}),
		func(kv rulestest.MapKV) {
			u := s.vault.User(s.user)
			u.Draining = rules.EpochRow{}
			kv[string(rules.UserKey(s.user))] = u.Append(nil)
		})
	b := s.bundle(s.records...)
	r := auditor.Verify(b, s.trust(b))
	found(t, r, "epochs", "not_drained")
	found(t, r, "rows", "user row of "+s.user.String())
}

func TestFindsUnregisteredProcess(t *testing.T) {
	s := newStory(t)
	stranger := s.kit
	stranger.Custodian = rulestest.Process("stranger")
	w := s.write("by a stranger")
	s.lie(stranger.SignProcess(w), func(kv rulestest.MapKV) {
		p := s.vault.Pointer(s.slot)
		p.Version, p.Epoch, p.Blob, p.Hash = w.PreviousVersion+1, w.Epoch, w.Blob, w.Hash
		kv[string(rules.PointerKey(s.slot))] = p.Append(nil)
	})
	b := s.bundle(s.records...)
	found(t, auditor.Verify(b, s.trust(b)), "processes", "not_registered")
}

// The validator signs another header for a height; the bundle holds both.
func TestFindsForkedHeader(t *testing.T) {
	s := newStory(t)
	b := s.bundle(s.records...)
	good(t, auditor.Verify(b, s.trust(b)))
	other := b.Blocks[2]
	other.Header.AppHash = bytes.Repeat([]byte{7}, 32)
	s.sign(&other)
	b.Blocks = append(b.Blocks[:3:3], append([]auditor.Block{other}, b.Blocks[3:]...)...)
	r := auditor.Verify(b, s.trust(b))
	found(t, r, "forks", "FORK at height 3")
	if len(r.Forks) != 1 || r.Forks[0].Other == nil {
		t.Fatal("no evidence is kept")
	}
}

func TestFindsForkFromSeenHeader(t *testing.T) {
	s := newStory(t)
	b := s.bundle(s.records...)
	trust := s.trust(b)
	trust.Seen = []auditor.Seen{{Height: 3, Hash: b.Blocks[2].Header.Hash(), Source: "a client"}}
	good(t, auditor.Verify(b, trust))
	trust.Seen = append(trust.Seen, auditor.Seen{Height: 99, Source: "a third client"})
	if r := auditor.Verify(b, trust); !strings.Contains(r.Check("forks").Says, "ends before block 99, which a third client saw") {
		t.Errorf("what the bundle leaves out is not told: %+v", r.Check("forks"))
	}
	trust.Seen = append(trust.Seen, auditor.Seen{Height: 4, Hash: agentkeys.Hash{9}, Source: "another client"})
	r := auditor.Verify(b, trust)
	found(t, r, "forks", "another client saw")
	if len(r.Forks) != 1 {
		t.Fatal("no evidence is kept")
	}
}

// A forger without the validators' keys makes headers that fit.
func TestFindsForeignValidator(t *testing.T) {
	s := newStory(t)
	real := s.bundle()
	seed := sha256.Sum256([]byte("a forger"))
	s.key = ed25519.NewKeyFromSeed(seed[:])
	forged := s.bundle(s.records...)
	found(t, auditor.Verify(forged, s.trust(real)), "headers", "another chain")
	copy(forged.Blocks, real.Blocks[:3])
	found(t, auditor.Verify(forged, s.trust(real)), "headers", "header 4")
}

// Two readers' records cannot be told from missing ones, and the report says so.
func TestOtherUsersRecordsAreNotMissing(t *testing.T) {
	s := newStory(t)
	bob := rulestest.Wallet("bob")
	s.ok(s.kit.SignUser(bob, statement.Enrol{User: bob.Wallet()}))
	s.end()
	b := s.bundle(s.records[:2]...)
	r := auditor.Verify(b, s.trust(b))
	if c := r.Check("reads"); !r.OK() || c.Verdict != auditor.Attested || len(r.Trails[0].Hidden) != 2 {
		t.Fatalf("%+v %+v", c, r.Trails)
	}
}

func TestWithoutRecordsReadsAreAttested(t *testing.T) {
	s := newStory(t)
	b := s.bundle()
	if r := auditor.Verify(b, s.trust(b)); !r.OK() || r.Check("reads").Verdict != auditor.Attested {
		t.Fatalf("%+v", r.Check("reads"))
	}
}

// An anchor that went out of use is told of: nobody signed what it forgot.
func TestRetiredAnchorIsNotProvenErased(t *testing.T) {
	s := newStory(t)
	says := func() string {
		b := s.bundle(s.records...)
		r := auditor.Verify(b, s.trust(b))
		good(t, r)
		return r.Check("erasure").Says
	}
	if text := says(); strings.Contains(text, "not proven erased") {
		t.Errorf("with every anchor in use: %s", text)
	}
	second := statement.AnchorID{'b'}
	for _, act := range []statement.Body{statement.AddAnchor{Anchor: second, Type: statement.AnchorFile}, statement.RetireAnchor{Anchor: second}} {
		if r, err := s.vault.Act(act); err != nil || !r.Code.Done() {
			t.Fatalf("%T: %v %v", act, r, err)
		}
	}
	s.end()
	if text := says(); !strings.Contains(text, "not proven erased") || !strings.Contains(text, "62000000000000000000000000000000 was retired") {
		t.Errorf("with a retired anchor: %s", text)
	}
}
