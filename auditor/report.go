package auditor

import (
	"fmt"
	"time"

	"example.org/agentkeys"
)

// Verdict says how far a check reaches.
type Verdict string

// Verdicts.
const (
	Proved   Verdict = "PROVED"   // follows from the trusted header, whoever made the bundle
	Attested Verdict = "ATTESTED" // somebody signed it; nothing here shows that it is so
	Assumed  Verdict = "ASSUMED"  // believed
	Fails    Verdict = "FAILS"    // does not hold
)

// Check is one line of the report.
type Check struct {
	Name     string   `json:"name"`
	Verdict  Verdict  `json:"verdict"`
	Says     string   `json:"says"`
	Findings []string `json:"findings,omitempty"` // what does not hold, at most maxFindings
}

const maxFindings = 20

// Report is the outcome of a verification. Its JSON is part of docs/spec/verify.md.
type Report struct {
	ChainID     string    `json:"chain_id"`
	Vault       string    `json:"vault_id"`
	Height      uint64    `json:"height"` // of the newest header
	Hash        string    `json:"hash"`   // of the newest header
	StateHeight uint64    `json:"state_height"`
	Time        time.Time `json:"time"` // of the newest header
	Checks      []Check   `json:"checks"`
	Users       []User    `json:"users"`
	Processes   []Process `json:"processes"`
	Trails      []Trail   `json:"trails"`
	Forks       []Fork    `json:"forks,omitempty"`
	Proved      int       `json:"proved"`
	Attested    int       `json:"attested"`
	Assumed     int       `json:"assumed"`
	Failed      int       `json:"failed"`
}

// OK reports whether everything holds.
func (r *Report) OK() bool { return r.Failed == 0 && r.Proved > 0 }

// Summary is the verdict in one line.
func (r *Report) Summary() string {
	s := fmt.Sprintf("proved %d, attested %d, assumed %d", r.Proved, r.Attested, r.Assumed)
	if r.Failed > 0 {
		s += fmt.Sprintf(", DOES NOT HOLD %d", r.Failed)
	}
	return s
}

// Check gives a check by name; the zero check when there is none.
func (r *Report) Check(name string) Check {
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	return Check{}
}

func (r *Report) count() {
	r.Proved, r.Attested, r.Assumed, r.Failed = 0, 0, 0, 0
	for _, c := range r.Checks {
		switch c.Verdict {
		case Proved:
			r.Proved++
		case Attested:
			r.Attested++
		case Assumed:
			r.Assumed++
		default:
			r.Failed++
		}
	}
}

// findings collects what does not hold.
type findings struct {
	list []string
	more int
}

func (f *findings) add(format string, args ...any) {
	if len(f.list) == maxFindings {
		f.more++
		return
	}
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

// check adds a line: the verdict if nothing was found against it.
func (r *Report) check(name string, good Verdict, f findings, format string, args ...any) {
	c := Check{Name: name, Verdict: good, Says: fmt.Sprintf(format, args...), Findings: f.list}
	if f.more > 0 {
		c.Findings = append(c.Findings, fmt.Sprintf("and %d more", f.more))
	}
	if len(f.list) > 0 {
		c.Verdict = Fails
	}
	r.Checks = append(r.Checks, c)
}

// Fork is two headers that validators signed for one height.
type Fork struct {
	Height uint64         `json:"height"`
	Hash   agentkeys.Hash `json:"-"`
	Ours   Block          `json:"ours"`
	Other  *Block         `json:"other,omitempty"` // absent when only its hash was seen
	Seen   string         `json:"seen,omitempty"`
}
