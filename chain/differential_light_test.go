package chain_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cometjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/light"
	cometproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/proto/tendermint/version"
	comettypes "github.com/cometbft/cometbft/types"

	"example.org/agentkeys/ledger"
)

const lightChain = "light-chain"

var lightStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// blocks makes a chain of CometBFT's own types whose validators change and
// sometimes do not vote.
func blocks(t *testing.T, r *rand.Rand, keys []ed25519.PrivKey, n int) []*comettypes.LightBlock {
	t.Helper()
	sets := make([]*comettypes.ValidatorSet, n+1)
	for i := range sets {
		if i == 0 || r.IntN(3) == 0 {
			sets[i] = someValidators(r, keys)
		} else {
			sets[i] = sets[i-1]
		}
	}
	out := make([]*comettypes.LightBlock, n)
	last := comettypes.BlockID{}
	for i := range out {
		h := &comettypes.Header{
			Version: version.Consensus{Block: 11}, ChainID: lightChain, Height: int64(i + 1),
			Time: lightStart.Add(time.Duration(i)*time.Minute + time.Duration(r.IntN(1e9))), LastBlockID: last,
			LastCommitHash: bytesOf(r, 32), DataHash: bytesOf(r, 32), ValidatorsHash: sets[i].Hash(),
			NextValidatorsHash: sets[i+1].Hash(), ConsensusHash: bytesOf(r, 32), AppHash: bytesOf(r, 32),
			LastResultsHash: bytesOf(r, 32), EvidenceHash: bytesOf(r, 32), ProposerAddress: sets[i].Validators[0].Address,
		}
		last = comettypes.BlockID{Hash: h.Hash(), PartSetHeader: comettypes.PartSetHeader{Total: 1 + uint32(r.IntN(3)), Hash: bytesOf(r, 32)}}
		commit := vote(t, r, keys, sets[i], h, last)
		out[i] = &comettypes.LightBlock{SignedHeader: &comettypes.SignedHeader{Header: h, Commit: commit}, ValidatorSet: sets[i]}
	}
	return out
}

func someValidators(r *rand.Rand, keys []ed25519.PrivKey) *comettypes.ValidatorSet {
	var vals []*comettypes.Validator
	for _, i := range r.Perm(len(keys))[:1+r.IntN(len(keys))] {
		vals = append(vals, comettypes.NewValidator(keys[i].PubKey(), 1+r.Int64N(20)))
	}
	return comettypes.NewValidatorSet(vals)
}

func vote(t *testing.T, r *rand.Rand, keys []ed25519.PrivKey, set *comettypes.ValidatorSet, h *comettypes.Header, id comettypes.BlockID) *comettypes.Commit {
	t.Helper()
	c := &comettypes.Commit{Height: h.Height, Round: int32(r.IntN(3)), BlockID: id}
	lazy := r.IntN(3) == 0
	for i, v := range set.Validators {
		flag := comettypes.BlockIDFlagCommit
		if lazy && r.IntN(3) == 0 {
			flag = comettypes.BlockIDFlagNil
		}
		if lazy && r.IntN(4) == 0 {
			c.Signatures = append(c.Signatures, comettypes.NewCommitSigAbsent())
			continue
		}
		c.Signatures = append(c.Signatures, comettypes.CommitSig{BlockIDFlag: flag, ValidatorAddress: v.Address, Timestamp: h.Time.Add(time.Duration(r.IntN(1e9)))})
		sign(t, keys, c, i, v)
	}
	return c
}

func sign(t *testing.T, keys []ed25519.PrivKey, c *comettypes.Commit, i int, v *comettypes.Validator) {
	t.Helper()
	for _, k := range keys {
		if k.PubKey().Equals(v.PubKey) {
			sig, err := k.Sign(c.VoteSignBytes(lightChain, int32(i)))
			if err != nil {
				t.Fatal(err)
			}
			c.Signatures[i].Signature = sig
		}
	}
}

func bytesOf(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// clone copies a block deeply, by its encoding.
func clone(t *testing.T, b *comettypes.LightBlock) *comettypes.LightBlock {
	t.Helper()
	block, err := b.ToProto()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := block.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var copied cometproto.LightBlock
	if err := copied.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	out, err := comettypes.LightBlockFromProto(&copied)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ours reads a block the way the ledger reads a node's JSON.
func ours(b *comettypes.LightBlock) (*ledger.LightBlock, error) {
	out := new(ledger.LightBlock)
	var members []ledger.Validator
	for _, part := range []struct{ from, to any }{{b.Header, &out.Header}, {b.Commit, &out.Commit}, {b.ValidatorSet.Validators, &members}} {
		raw, err := cometjson.Marshal(part.from)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, part.to); err != nil {
			return nil, err
		}
	}
	set, err := ledger.NewValidators(members)
	out.Validators = set
	return out, err
}

// theirs is CometBFT's verdict; it panics on some broken blocks, which is a refusal.
func theirs(trusted, next *comettypes.LightBlock, period time.Duration, now time.Time) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	if err := next.ValidateBasic(lightChain); err != nil {
		return err
	}
	return light.Verify(trusted.SignedHeader, trusted.ValidatorSet, next.SignedHeader, next.ValidatorSet,
		period, now, 10*time.Second, light.DefaultTrustLevel)
}

// harm changes one thing in a block.
func harm(r *rand.Rand, b *comettypes.LightBlock, other *comettypes.LightBlock) {
	h, c, vals := b.Header, b.Commit, b.ValidatorSet.Validators
	i := r.IntN(len(c.Signatures))
	switch r.IntN(24) {
	case 0:
		flip(r, h.AppHash)
	case 1:
		flip(r, h.ValidatorsHash)
	case 2:
		flip(r, h.NextValidatorsHash)
	case 3:
		h.Height += int64(r.IntN(3)) - 1
	case 4:
		h.Time = h.Time.Add(time.Duration(r.IntN(7)-3) * time.Hour)
	case 5:
		h.ChainID += "x"
	case 6:
		h.ProposerAddress = h.ProposerAddress[:r.IntN(20)]
	case 7:
		h.LastBlockID = comettypes.BlockID{}
	case 8:
		h.Version.Block++
	case 9:
		c.Height++
	case 10:
		c.Round += int32(r.IntN(3)) - 1
	case 11:
		flip(r, c.BlockID.Hash)
	case 12:
		c.BlockID.PartSetHeader.Total++
	case 13:
		flip(r, c.Signatures[i].Signature)
	case 14:
		c.Signatures[i] = comettypes.NewCommitSigAbsent()
	case 15:
		c.Signatures[i].BlockIDFlag = comettypes.BlockIDFlag(r.IntN(5))
	case 16:
		c.Signatures[i].Timestamp = c.Signatures[i].Timestamp.Add(1)
	case 17:
		flip(r, c.Signatures[i].ValidatorAddress)
	case 18:
		c.Signatures = append(c.Signatures, c.Signatures[i])
	case 19:
		j := r.IntN(len(c.Signatures))
		c.Signatures[i], c.Signatures[j] = c.Signatures[j], c.Signatures[i]
	case 20:
		vals[r.IntN(len(vals))].VotingPower += int64(r.IntN(5)) - 2
	case 21:
		b.ValidatorSet.Validators = append(vals, vals[0].Copy())
	case 22:
		b.ValidatorSet = other.ValidatorSet.Copy()
	case 23:
		b.SignedHeader.Commit = other.Commit
	}
}

func flip(r *rand.Rand, b []byte) {
	if len(b) > 0 {
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	}
}

func TestLightRulesAreNeverLaxerThanCometBFTs(t *testing.T) {
	cases := 3000
	if testing.Short() {
		cases = 600
	}
	r := rand.New(rand.NewPCG(1, 2))
	var keys []ed25519.PrivKey
	for i := range 6 {
		keys = append(keys, ed25519.GenPrivKeyFromSecret([]byte{byte(i)}))
	}
	var both, neither, stricter int
	var chain []*comettypes.LightBlock
	for i := range cases {
		if i%60 == 0 {
			chain = blocks(t, r, keys, 8)
		}
		a := r.IntN(len(chain) - 1)
		b := a + 1 + r.IntN(len(chain)-1-a)
		trusted, next := chain[a], clone(t, chain[b])
		sound := r.IntN(3) == 0
		if !sound {
			harm(r, next, chain[r.IntN(len(chain))])
		}
		period, now := 24*time.Hour, lightStart.Add(time.Duration(r.IntN(20))*time.Minute)
		if r.IntN(20) == 0 {
			period = time.Minute
		}
		reference := theirs(trusted, next, period, now)
		rules := ledger.Rules{ChainID: lightChain, TrustingPeriod: period, ClockDrift: 10 * time.Second}
		base, err := ours(trusted)
		if err != nil {
			t.Fatal(err)
		}
		candidate, err := ours(next)
		if err == nil {
			err = rules.Verify(base, candidate, now)
		}
		switch {
		case err == nil && reference != nil:
			t.Fatalf("case %d: the ledger accepts what CometBFT refuses: %v", i, reference)
		case err == nil:
			both++
		case reference != nil:
			neither++
		default:
			stricter++
			if sound && !lazyVotes(next) {
				t.Fatalf("case %d: the ledger refuses a sound block: %v", i, err)
			}
		}
	}
	t.Logf("%d accepted by both, %d by neither, %d by CometBFT alone", both, neither, stricter)
	if both < cases/10 || neither < cases/10 {
		t.Fatalf("%d accepted and %d refused of %d show little", both, neither, cases)
	}
}

// lazyVotes reports whether somebody voted nil or not at all: then a sound block
// may fail for lack of votes in one counting.
func lazyVotes(b *comettypes.LightBlock) bool {
	for _, s := range b.Commit.Signatures {
		if s.BlockIDFlag != comettypes.BlockIDFlagCommit {
			return true
		}
	}
	return false
}

func TestHashesEqualCometBFTs(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	keys := []ed25519.PrivKey{ed25519.GenPrivKeyFromSecret([]byte("a")), ed25519.GenPrivKeyFromSecret([]byte("b")), ed25519.GenPrivKeyFromSecret([]byte("c"))}
	for range 20 {
		for _, b := range blocks(t, r, keys, 4) {
			mine, err := ours(b)
			if err != nil {
				t.Fatal(err)
			}
			header, set := mine.Header.Hash(), mine.Validators.Hash()
			if string(header[:]) != string(b.Header.Hash()) || string(set[:]) != string(b.ValidatorSet.Hash()) {
				t.Fatalf("height %d: header %x, want %x; validators %x, want %x", b.Height, header, b.Header.Hash(), set, b.ValidatorSet.Hash())
			}
		}
	}
	for n := range 9 {
		var txs comettypes.Txs
		var raw [][]byte
		for range n {
			tx := bytesOf(r, r.IntN(200))
			txs, raw = append(txs, tx), append(raw, tx)
		}
		if got := ledger.TxsHash(raw); string(got[:]) != string(txs.Hash()) {
			t.Fatalf("%d transactions: %x, want %x", n, got, txs.Hash())
		}
	}
}
