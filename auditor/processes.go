package auditor

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"example.org/agentkeys/attest"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// processes lists who signed, and says how far their evidence goes.
func (v *verifier) processes() {
	h := v.replay.history
	software := 0
	for id, p := range h.processes {
		row, _ := rules.ParseEnclave(v.replay.rows[string(rules.EnclaveKey(id.role, id.key))])
		p.Role = "custodian"
		if id.role == statement.EnclaveRotator {
			p.Role = "rotator"
		}
		p.Platform, p.Evidence, p.Revoked = platform(row.Platform), row.Evidence.String(), row.Revoked
		p.Measurement, p.Shows = hex.EncodeToString(row.Measurement[:]), attest.Limit(row.Platform)
		if row.Platform == statement.PlatformSoftware {
			software++
		}
		v.report.Processes = append(v.report.Processes, *p)
	}
	slices.SortFunc(v.report.Processes, func(a, b Process) int { return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Key, b.Key)) })
	v.report.check("processes", Proved, v.replay.strangers, "every process that signed (%d) was registered under an allowed measurement, active and not revoked at that block",
		len(h.processes))
	v.report.check("evidence", Attested, findings{}, "what those processes ran is what they said: %d of %d by software evidence, attested, no protection from root",
		software, len(h.processes))
}

func platform(p uint8) string {
	switch p {
	case statement.PlatformSoftware:
		return "software"
	case statement.PlatformNitro:
		return "nitro"
	case statement.PlatformSNP:
		return "snp"
	case statement.PlatformTDX:
		return "tdx"
	}
	return "unknown"
}

// epochs separates what the chain shows about an epoch's end from what a keeper says.
func (v *verifier) epochs() {
	live, gone := 0, 0
	for _, list := range v.replay.history.epochs {
		for _, e := range list {
			if e.Destroyed != 0 {
				gone++
			} else {
				live++
			}
		}
	}
	v.report.check("epochs", Proved, v.replay.destroyed, "%d epochs were destroyed, each only when no credential was left in it and the keeper of every live anchor had signed; %d live",
		gone, live)
	v.report.check("erasure", Attested, findings{}, "that the anchors forgot the shares of %d epochs and the store deleted their objects is signed by the keepers; no proof of forgetting exists%s",
		gone, v.replay.kinds()+v.replay.unproven())
}

// kinds tells of what the live anchors are.
func (r *replay) kinds() string {
	list, err := rules.ParseAnchors(r.rows[string(rules.AnchorsKey())])
	if err != nil {
		return ""
	}
	count := map[string]int{}
	for _, id := range list {
		if a, err := rules.ParseAnchor(r.rows[string(rules.AnchorKey(id))]); err == nil && a.State == rules.AnchorLive {
			count[statement.AnchorTypeName(a.Type)]++
		}
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		text := fmt.Sprintf("%d %s", count[name], name)
		if name == statement.AnchorTypeName(statement.AnchorFile) {
			text += " (for development: root undoes it)"
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return ""
	}
	return "; anchors in use: " + strings.Join(all, ", ")
}

// unproven tells of anchors that went out of use by an act of the authority: what they
// held then, nobody has signed as forgotten.
func (r *replay) unproven() string {
	list, err := rules.ParseAnchors(r.rows[string(rules.AnchorsKey())])
	if err != nil {
		return ""
	}
	var all []string
	for _, id := range list {
		a, err := rules.ParseAnchor(r.rows[string(rules.AnchorKey(id))])
		if err == nil && (a.State == rules.AnchorRetired || a.State == rules.AnchorEvicted) {
			state := map[rules.AnchorState]string{rules.AnchorRetired: "retired", rules.AnchorEvicted: "evicted"}[a.State]
			all = append(all, fmt.Sprintf("%x was %s", id, state))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "; not proven erased is what an anchor held when it went out of use: " + strings.Join(all, ", ")
}

// assumed says what is believed.
func (v *verifier) assumed() {
	v.report.check("validators", Assumed, findings{}, "more than two thirds of the validators signed one chain only and checked who sent acts of the authority")
	v.report.check("trust", Assumed, findings{}, "the header you trust at height %d is right, and nobody with the live vault read what was live", v.trust.Header.Height)
}
