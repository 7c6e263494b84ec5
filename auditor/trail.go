package auditor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"example.org/agentkeys/record"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// batch is one accepted RecordReads.
type batch struct {
	statement.RecordReads
	block rules.Block
}

func (b batch) end() uint64 { return b.First + uint64(b.Count) }

// Trail is the audit trail of one custodian.
type Trail struct {
	Custodian string   `json:"custodian"`
	Records   uint64   `json:"records"` // committed on the chain
	Batches   int      `json:"batches"`
	Boots     uint64   `json:"boots"`
	Shown     int      `json:"shown"`    // records in the bundle
	Rebuilt   int      `json:"rebuilt"`  // boot records found by their hash
	Proven    int      `json:"proven"`   // batches whose root follows from the records
	Waiting   int      `json:"waiting"`  // records in the bundle that no block has yet
	Hidden    []string `json:"hidden"`   // sequences of others, or not shown
	Opened    int      `json:"revealed"` // of the shown, how many handed the value over
}

// clockSlack is how far the clocks of custodian and validators may differ, in
// seconds; maxIdle how long before its first read a boot is looked for.
const (
	clockSlack = 120
	maxIdle    = 7 * 86400
)

// reads holds the read records that the owner brought against the roots and heads on
// the chain.
func (v *verifier) reads() {
	var f findings
	records, err := parseRecords(v.bundle.Records)
	if err != nil {
		f.add("read records: %v", err)
	}
	h := v.replay.history
	alone := v.alone()
	batches, proven, committed := 0, 0, uint64(0)
	for key, list := range h.batches {
		t := Trail{Custodian: key.String(), Batches: len(list), Hidden: []string{}}
		if len(h.batches) == 1 && len(records) > 0 { // a record does not name its custodian
			t.Shown = len(records)
			v.trail(&t, &f, list, records, alone)
		}
		row, err := rules.ParseReads(v.replay.rows[string(rules.ReadsKey(key))])
		if err == nil {
			t.Records, t.Boots = row.Next-1, row.Boots
		}
		batches, proven, committed = batches+t.Batches, proven+t.Proven, committed+t.Records
		v.report.Trails = append(v.report.Trails, t)
	}
	slices.SortFunc(v.report.Trails, func(a, b Trail) int { return cmp.Compare(a.Custodian, b.Custodian) })
	switch {
	case len(records) == 0 && len(f.list) == 0:
		v.report.check("reads", Attested, f, "%d read records in %d batches without a gap; none are in the bundle, so what they say is not checked", committed, batches)
	case proven == batches || len(f.list) > 0:
		v.report.check("reads", Proved, f, "%d read records hash to the roots and heads of all %d batches: none is missing, added or altered", committed, batches)
	default:
		v.report.check("reads", Attested, f, "%d of %d batches hash to their roots; the others hold records that the bundle does not show, of other users or dropped", proven, batches)
	}
}

// alone reports whether the vault has one user: then every record that is not shown
// is a boot record or a missing one.
func (v *verifier) alone() bool {
	s, err := rules.ParseSystem(v.replay.rows[string(rules.SystemKey())])
	return err == nil && s.Users == 1
}

func parseRecords(raw [][]byte) (out []record.Record, err error) {
	for i, b := range raw {
		r, err := record.Parse(b)
		if err != nil {
			return out, fmt.Errorf("number %d: %w", i+1, err)
		}
		if i > 0 && r.Sequence <= out[i-1].Sequence {
			return out, fmt.Errorf("number %d: not in order", i+1)
		}
		out = append(out, r)
	}
	return out, nil
}

// trail checks the batches of one custodian, oldest first.
func (v *verifier) trail(t *Trail, f *findings, list []batch, records []record.Record, alone bool) {
	for _, r := range records {
		if r.Mode == uint8(statement.ModeReveal) {
			t.Opened++
		}
	}
	// The time of the newest record before the batch. A custodian starts on a chain.
	last := uint64(max(v.chain[0].Header.Time.Unix(), 0))
	for _, b := range list {
		var in []record.Record
		for len(records) > 0 && records[0].Sequence < b.end() {
			in, records = append(in, records[0]), records[1:]
		}
		boots := int(min(b.Boots, 1<<30)) - t.Rebuilt // that may be in this batch
		filled := in
		if holes := int(b.Count) - len(in); holes == 1 && boots > 0 {
			if filled = findBoot(b, in, last, uint64(t.Rebuilt)); len(filled) > len(in) {
				t.Rebuilt++
			}
		}
		switch {
		case len(filled) == int(b.Count) && record.Root(filled) == b.Root:
			t.Proven++
		case len(filled) == int(b.Count):
			f.add("read records %d to %d, committed in block %d, do not hash to their root: one of them is altered", b.First, b.end()-1, b.block.Height)
		case alone && (int(b.Count)-len(in) == 1 || int(b.Count)-len(in) > boots):
			f.add("read record missing at seq %s: what is shown does not hash to the root of %d to %d, committed in block %d",
				strings.Join(gaps(b, in), ", "), b.First, b.end()-1, b.block.Height)
		default:
			t.Hidden = append(t.Hidden, gaps(b, in)...)
		}
		if n := len(in); n > 0 {
			last = in[n-1].Time
		}
	}
	t.Waiting = len(records)
}

// gaps lists the sequences of a batch that are not shown, runs as first-last.
func gaps(b batch, in []record.Record) (out []string) {
	next := b.First
	add := func(until uint64) {
		switch {
		case until == next+1:
			out = append(out, fmt.Sprint(next))
		case until > next:
			out = append(out, fmt.Sprintf("%d-%d", next, until-1))
		}
	}
	for _, r := range in {
		add(r.Sequence)
		next = r.Sequence + 1
	}
	add(b.end())
	return out
}
