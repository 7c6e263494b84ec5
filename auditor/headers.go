package auditor

import (
	"bytes"
	"fmt"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
)

// clockDrift is how far a header may be ahead of the verifier's clock.
const clockDrift = 10 * time.Second

// order finds the blocks of heights 1, 2, ... and refuses a bundle that has no use:
// then nothing else is looked at.
func (v *verifier) order() bool {
	var f findings
	b := v.bundle
	if b.ChainID != v.trust.ChainID {
		f.add("the bundle is of chain %q, you trust %q", b.ChainID, v.trust.ChainID)
	}
	for i, block := range b.Blocks {
		if i > 0 && block.Header.Height < b.Blocks[i-1].Header.Height {
			f.add("blocks are not in the order of their heights")
		}
		if block.Header.Height == uint64(len(v.chain)+1) {
			v.chain = append(v.chain, block)
		}
	}
	if b.StateHeight < 2 || b.EarlyHeight < 2 || b.EarlyHeight > b.StateHeight || uint64(len(v.chain)) != b.StateHeight+1 {
		f.add("blocks 1 to %d are wanted for the state after block %d; the bundle has an unbroken run to %d", b.StateHeight+1, b.StateHeight, len(v.chain))
	}
	if h := v.trust.Header.Height; h == 0 || h > uint64(len(v.chain)) {
		f.add("the trusted height %d is not in the bundle; give one from 1 to %d", h, len(v.chain))
	}
	if len(f.list) > 0 {
		v.report.check("bundle", Proved, f, "the bundle is complete")
		return false
	}
	top := v.chain[len(v.chain)-1].Header
	hash := agentkeys.Hash(top.Hash())
	v.report.Height, v.report.Hash, v.report.Time, v.report.StateHeight = top.Height, hash.String(), top.Time, b.StateHeight
	return true
}

// headers walks from the trusted header up by the light rules and down by the hash
// that each header gives for its parent.
func (v *verifier) headers() {
	var f findings
	rules := ledger.Rules{ChainID: v.trust.ChainID, TrustingPeriod: v.trust.Period, ClockDrift: clockDrift}
	at := int(v.trust.Header.Height) - 1
	if hash := agentkeys.Hash(v.chain[at].Header.Hash()); hash != v.trust.Header.Hash {
		f.add("header %d is %s, you trust %s: the bundle is of another chain", at+1, hash, v.trust.Header.Hash)
	}
	trusted, err := v.chain[at].light()
	if err == nil {
		err = rules.Check(trusted)
	}
	for i := at + 1; err == nil && i < len(v.chain); i++ {
		var next *ledger.LightBlock
		if next, err = v.chain[i].light(); err != nil {
			break
		}
		if err = rules.Verify(trusted, next, v.trust.Now); err == nil && !v.linked(i) {
			f.add("header %d names another parent than header %d", i+1, i)
		}
		if err != nil {
			f.add("header %d: %v", i+1, err)
		}
		trusted = next
	}
	if err != nil && len(f.list) == 0 {
		f.add("header %d: %v", at+1, err)
	}
	for i := at; i > 0; i-- {
		if !v.linked(i) {
			f.add("header %d is not the parent that header %d names", i, i+1)
		}
	}
	v.report.check("headers", Proved, f, "%d headers follow from the one you trust at height %d: signed by more than two thirds of the validators, or named by hash",
		len(v.chain), v.trust.Header.Height)
}

func (v *verifier) linked(i int) bool {
	parent := v.chain[i-1].Header.Hash()
	return bytes.Equal(v.chain[i].Header.LastBlockID.Hash, parent[:])
}

// forks looks for a second header at a height, in the bundle and in what clients saw.
func (v *verifier) forks() {
	var f findings
	rules := ledger.Rules{ChainID: v.trust.ChainID}
	counted := map[uint64]bool{}
	for i := range v.bundle.Blocks {
		b := &v.bundle.Blocks[i]
		h := b.Header.Height
		first := h > 0 && h <= uint64(len(v.chain)) && !counted[h]
		counted[h] = true
		if first {
			continue
		}
		hash := agentkeys.Hash(b.Header.Hash())
		if h == 0 || h > uint64(len(v.chain)) {
			f.add("a header of height %d lies outside the chain", h)
			continue
		}
		ours := &v.chain[h-1]
		light, err := b.light()
		if err == nil {
			err = rules.Check(light)
		}
		switch {
		case hash == agentkeys.Hash(ours.Header.Hash()):
			f.add("block %d stands twice in the bundle", h)
		case err != nil:
			f.add("a second header %s of height %d: %v", hash, h, err)
		default:
			f.add("FORK at height %d: validators signed %s and %s", h, agentkeys.Hash(ours.Header.Hash()), hash)
			v.report.Forks = append(v.report.Forks, Fork{Height: h, Hash: hash, Ours: *ours, Other: b})
		}
	}
	compared, later := 0, ""
	for _, s := range v.trust.Seen {
		if s.Height == 0 || s.Height > uint64(len(v.chain)) {
			later = fmt.Sprintf("; the bundle ends before block %d, which %s saw", s.Height, s.Source)
			continue
		}
		compared++
		ours := &v.chain[s.Height-1]
		if hash := agentkeys.Hash(ours.Header.Hash()); hash != s.Hash {
			f.add("FORK at height %d: the bundle has %s, %s saw %s", s.Height, hash, s.Source, s.Hash)
			v.report.Forks = append(v.report.Forks, Fork{Height: s.Height, Hash: s.Hash, Ours: *ours, Seen: s.Source + " " + s.Hash.String()})
		}
	}
	v.report.check("forks", Proved, f, "one header at each height; headers that your own clients saw and that are among them: %d%s", compared, later)
}
