package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRecordedHeadersVerify(t *testing.T) {
	tests := []struct{ chain, trusted, next string }{
		{"one", "1", "2"}, {"one", "4", "5"}, {"one", "1", "100"}, {"one", "50", "100"},
		{"four", "1", "2"}, {"four", "5", "6"}, {"four", "1", "20"}, {"four", "6", "absent"},
	}
	for _, tt := range tests {
		t.Run(tt.chain+" "+tt.trusted+" to "+tt.next, func(t *testing.T) {
			trusted, next := recordedBlock(t, tt.chain, tt.trusted), recordedBlock(t, tt.chain, tt.next)
			rules, now := recordedRules(next)
			if err := rules.Check(trusted); err != nil {
				t.Fatal(err)
			}
			if err := rules.Verify(trusted, next, now); err != nil {
				t.Fatal(err)
			}
			if rules.Verify(next, trusted, now) == nil {
				t.Error("a lower header was accepted")
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	trusted, next := recordedBlock(t, "four", "1"), recordedBlock(t, "four", "20")
	rules, now := recordedRules(next)
	tests := []struct {
		name string
		edit func(r *Rules, trusted, next *LightBlock, now *time.Time)
		want error
	}{
		{"another chain", func(r *Rules, _, _ *LightBlock, _ *time.Time) { r.ChainID = "other" }, nil},
		{"expired", func(_ *Rules, _, _ *LightBlock, now *time.Time) { *now = now.Add(2 * time.Hour) }, ErrExpired},
		{"from the future", func(_ *Rules, _, _ *LightBlock, now *time.Time) { *now = now.Add(-2 * time.Minute) }, nil},
		{"time not later", func(_ *Rules, tr, n *LightBlock, _ *time.Time) { tr.Header.Time = n.Header.Time }, nil},
		{"two of four votes", func(_ *Rules, _, n *LightBlock, _ *time.Time) {
			n.Commit.Signatures[0] = CommitSig{Flag: flagAbsent}
			n.Commit.Signatures[1] = CommitSig{Flag: flagAbsent}
		}, nil},
		{"votes swapped", func(_ *Rules, _, n *LightBlock, _ *time.Time) {
			s := n.Commit.Signatures
			s[0], s[1] = s[1], s[0]
		}, nil},
		{"one vote four times", func(_ *Rules, _, n *LightBlock, _ *time.Time) {
			for i := range n.Commit.Signatures {
				n.Commit.Signatures[i] = n.Commit.Signatures[0]
			}
		}, nil},
		{"votes for nil", func(_ *Rules, _, n *LightBlock, _ *time.Time) {
			for i := range n.Commit.Signatures {
				n.Commit.Signatures[i].Flag = flagNil
			}
		}, nil},
		{"stranger's set", func(_ *Rules, _, n *LightBlock, _ *time.Time) { n.Validators = recordedSet(t, "one") }, nil},
		{"trusted set disjoint", func(_ *Rules, tr, _ *LightBlock, _ *time.Time) { tr.Validators = recordedSet(t, "one") }, errTrust},
		{"adjacent set not announced", func(_ *Rules, tr, n *LightBlock, _ *time.Time) {
			tr.Header.Height = n.Header.Height - 1
			tr.Header.NextValidatorsHash = tr.Header.AppHash
		}, nil},
		{"no votes", func(_ *Rules, _, n *LightBlock, _ *time.Time) { n.Commit.Signatures = nil }, nil},
		{"no validators", func(_ *Rules, _, n *LightBlock, _ *time.Time) { n.Validators = nil }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, tr, n, at := rules, *trusted, clonedBlock(t, next), now
			tt.edit(&r, &tr, n, &at)
			err := r.Verify(&tr, n, at)
			if err == nil {
				t.Fatal("accepted")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestSignedNonsenseIsRefused has all validators sign what honest ones never do.
func TestSignedNonsenseIsRefused(t *testing.T) {
	f := newFakeChain(t, 3)
	trusted, good := f.at(1), f.at(3)
	rules, now := Rules{f.id, time.Hour, 10 * time.Second}, time.Now()
	header := func(edit func(h *Header)) *LightBlock {
		h := good.Header
		edit(&h)
		return f.sign(h, good.Validators)
	}
	tests := map[string]*LightBlock{
		"chain id":         header(func(h *Header) { h.ChainID = "other" }),
		"validators hash":  header(func(h *Header) { h.ValidatorsHash = h.ConsensusHash }),
		"block protocol":   header(func(h *Header) { h.Version.Block = 12 }),
		"short app hash":   header(func(h *Header) { h.AppHash = h.AppHash[:20] }),
		"no parent":        header(func(h *Header) { h.LastBlockID = BlockID{} }),
		"proposer":         header(func(h *Header) { h.ProposerAddress = nil }),
		"time before 1970": header(func(h *Header) { h.Time = time.Unix(-1, 0).UTC() }),
		"height too large": header(func(h *Header) { h.Height = 1 << 63 }),
	}
	other := clonedBlock(t, good)
	other.Commit.Height++
	tests["commit of another height"] = f.vote(other)
	parts := clonedBlock(t, good)
	parts.Commit.BlockID.Parts = PartsHeader{}
	tests["no parts"] = f.vote(parts)
	round := clonedBlock(t, good)
	round.Commit.Round = -1
	tests["negative round"] = f.vote(round)
	two := clonedBlock(t, good)
	two.Commit.Signatures[1] = CommitSig{Flag: flagAbsent}
	tests["exactly two thirds"] = two
	for name, b := range tests {
		if rules.Verify(trusted, b, now) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := rules.Verify(trusted, f.vote(clonedBlock(t, good)), now); err != nil {
		t.Errorf("the same way of signing without nonsense: %v", err)
	}
}

// TestBorrowedAddresses: a set of strangers where most of the power signs under its own
// address and some members under those of trusted validators, to look like them.
func TestBorrowedAddresses(t *testing.T) {
	f := newFakeChain(t, 3)
	trusted, good := f.at(1), f.at(3)
	f.rotate(20, 4)
	members := f.next.Members()
	members[3].Power = 1000
	strangers, err := NewValidators(members)
	if err != nil {
		t.Fatal(err)
	}
	h, hash := good.Header, strangers.Hash()
	h.ValidatorsHash = hash[:]
	b := f.sign(h, strangers)
	rules := Rules{f.id, time.Hour, 10 * time.Second}
	if err := rules.Check(b); err != nil {
		t.Fatal(err)
	}
	for i, m := range trusted.Validators.members {
		b.Commit.Signatures[i].Address = m.Address
	}
	if err := rules.Verify(trusted, b, time.Now()); err == nil || errors.Is(err, errTrust) {
		t.Errorf("got %v", err)
	}
}

func TestOneVoteCountsOnce(t *testing.T) {
	b := newFakeChain(t, 3).at(3)
	c := b.Commit
	c.Signatures = []CommitSig{c.Signatures[0], c.Signatures[0], c.Signatures[0]}
	if got := c.power(b.Validators); got != 10 {
		t.Errorf("one validator of power 10 voting three times counts %d", got)
	}
}

func clonedBlock(t testing.TB, b *LightBlock) *LightBlock {
	return &LightBlock{clone(t, b.Header), clone(t, b.Commit), b.Validators}
}

// TestEveryBitCounts flips bits of recorded headers and commits, as the node sends them:
// what still decodes is either the same content or refused. Every bit with one
// validator, every fifth with four, whose signatures take time.
func TestEveryBitCounts(t *testing.T) {
	for _, tt := range []struct {
		chain, trusted, next string
		stride, least        int
	}{
		{"one", "4", "5", 1, 2000}, {"four", "6", "absent", 5, 500},
	} {
		trusted := recordedBlock(t, tt.chain, tt.trusted)
		want := recordedBlock(t, tt.chain, tt.next)
		rules, now := recordedRules(want)
		raw := recorded(t, tt.chain+"/commit_"+tt.next+".json")
		tried := 0
		for i := 0; i < len(raw)*8; i += tt.stride {
			flipped := bytes.Clone(raw)
			flipped[i/8] ^= 1 << (i % 8)
			var r commitResult
			if decodeAnswer(flipped, "commit", true, &r) != nil {
				continue
			}
			next := &LightBlock{r.Signed.Header, r.Signed.Commit, want.Validators}
			if reflect.DeepEqual(next, want) {
				continue
			}
			tried++
			if rules.Verify(trusted, next, now) == nil {
				t.Fatalf("%s %s: bit %d of byte %d (%q) does not count", tt.chain, tt.next, i%8, i/8, nearby(raw, i/8))
			}
		}
		if tried < tt.least {
			t.Errorf("only %d flips decoded: the test lost its teeth", tried)
		}
	}
}

func nearby(b []byte, at int) []byte { return b[max(0, at-30):min(len(b), at+30)] }

func TestValidatorsRefuses(t *testing.T) {
	good := recordedSet(t, "four").Members()
	edit := func(f func(m []Validator) []Validator) []Validator {
		return f(clone(t, good))
	}
	tests := map[string][]Validator{
		"empty":         {},
		"twice":         edit(func(m []Validator) []Validator { return append(m, m[0]) }),
		"no power":      edit(func(m []Validator) []Validator { m[1].Power = 0; return m }),
		"negative":      edit(func(m []Validator) []Validator { m[1].Power = -5; return m }),
		"overflow":      edit(func(m []Validator) []Validator { m[0].Power, m[1].Power = maxPower, 1; return m }),
		"key type":      edit(func(m []Validator) []Validator { m[0].Key.Type = "tendermint/PubKeySecp256k1"; return m }),
		"short key":     edit(func(m []Validator) []Validator { m[0].Key.Value = m[0].Key.Value[:31]; return m }),
		"wrong address": edit(func(m []Validator) []Validator { m[0].Address = m[1].Address; return m }),
		"too many":      make([]Validator, MaxValidators+1),
	}
	for name, members := range tests {
		if _, err := NewValidators(members); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	reordered := edit(func(m []Validator) []Validator { m[0], m[1] = m[1], m[0]; return m })
	set, err := NewValidators(reordered)
	if err != nil || set.Hash() == recordedSet(t, "four").Hash() {
		t.Errorf("another order has the same hash (%v)", err)
	}
}

func TestHexHasOneSpelling(t *testing.T) {
	for _, bad := range []string{`"ab"`, `"A"`, `"0G"`, `12`, `" AB"`} {
		var h Hex
		if json.Unmarshal([]byte(bad), &h) == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
	var h Hex
	if err := json.Unmarshal([]byte(`"AB01"`), &h); err != nil || !bytes.Equal(h, []byte{0xab, 1}) {
		t.Errorf("got %x, %v", []byte(h), err)
	}
}

func TestRecordedJSONRoundTrips(t *testing.T) {
	raw := string(recorded(t, "four/commit_absent.json"))
	b := recordedBlock(t, "four", "absent")
	for name, v := range map[string]any{"header": b.Header, "commit": b.Commit} {
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(raw, string(out)) {
			t.Errorf("%s is written differently than the node does: %s", name, out)
		}
	}
}

func FuzzCommit(f *testing.F) {
	f.Add(recorded(f, "four/commit_20.json"))
	trusted, want := recordedBlock(f, "four", "1"), recordedBlock(f, "four", "20")
	rules, now := recordedRules(want)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r commitResult
		if decodeAnswer(b, "commit", true, &r) != nil {
			return
		}
		next := &LightBlock{r.Signed.Header, r.Signed.Commit, want.Validators}
		if rules.Verify(trusted, next, now) == nil && !reflect.DeepEqual(next, want) {
			t.Fatalf("accepted another header or commit: %+v", next)
		}
	})
}

func FuzzValidators(f *testing.F) {
	f.Add(recorded(f, "four/validators.json"))
	want := recordedSet(f, "four")
	f.Fuzz(func(t *testing.T, b []byte) {
		var r validatorsResult
		if decodeAnswer(b, "validators", true, &r) != nil {
			return
		}
		set, err := r.set()
		if err == nil && set.Hash() == want.Hash() && !reflect.DeepEqual(set, want) {
			t.Fatalf("another set has the same hash: %+v", set)
		}
	})
}

// FuzzState reads state files that somebody else wrote.
func FuzzState(f *testing.F) {
	want := recordedBlock(f, "four", "20")
	rules, _ := recordedRules(want)
	block, err := json.Marshal(keep(want))
	if err != nil {
		f.Fatal(err)
	}
	raw, err := json.Marshal(keptState{Block: block})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	c := &Client{rules: rules}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := c.parseState(b)
		if err == nil && got.Header.Hash() != want.Header.Hash() {
			t.Fatal("a header that nobody signed")
		}
	})
}

func BenchmarkVerifyAdjacent(b *testing.B) {
	for _, chain := range []struct{ name, trusted, next string }{{"one", "4", "5"}, {"four", "5", "6"}} {
		b.Run(chain.name, func(b *testing.B) {
			trusted, next := recordedBlock(b, chain.name, chain.trusted), recordedBlock(b, chain.name, chain.next)
			rules, now := recordedRules(next)
			for b.Loop() {
				if err := rules.Verify(trusted, next, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
