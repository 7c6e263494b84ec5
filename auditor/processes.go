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
		gone, v.replay.anchors())
}

// anchors tells of what the live ones are, and of those that went out of use by an act of
// the authority: what they held then, nobody has signed as forgotten.
func (r *replay) anchors() (text string) {
	list, err := rules.ParseAnchors(r.rows[string(rules.AnchorsKey())])
	if err != nil {
		return ""
	}
	live, gone := map[uint8]int{}, []string(nil)
	for _, id := range list {
		a, err := rules.ParseAnchor(r.rows[string(rules.AnchorKey(id))])
		switch {
		case err != nil:
		case a.State == rules.AnchorLive:
			live[a.Type]++
		case a.State == rules.AnchorRetired:
			gone = append(gone, fmt.Sprintf("%x was retired", id))
		case a.State == rules.AnchorEvicted:
			gone = append(gone, fmt.Sprintf("%x was evicted", id))
		}
	}
	var used []string
	for _, kind := range slices.Sorted(maps.Keys(live)) {
		used = append(used, fmt.Sprintf("%d %s", live[kind], statement.AnchorKindName(kind)))
		if kind == statement.AnchorFile {
			used[len(used)-1] += " (for development: root undoes it)"
		}
	}
	if len(used) > 0 {
		text = "; anchors in use: " + strings.Join(used, ", ")
	}
	if len(gone) > 0 {
		text += "; not proven erased is what an anchor held when it went out of use: " + strings.Join(gone, ", ")
	}
	return text
}

// assumed says what is believed.
func (v *verifier) assumed() {
	v.report.check("validators", Assumed, findings{}, "more than two thirds of the validators signed one chain only and checked who sent acts of the authority")
	v.report.check("trust", Assumed, findings{}, "the header you trust at height %d is right, and nobody with the live vault read what was live", v.trust.Header.Height)
}
