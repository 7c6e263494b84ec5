// Package model_test runs Spin over vault.pml: the model as it is, which must hold, and
// mutants and limits of it, each of which must be found out. README.md says what is what.
package model_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// memory and patience bound one run: MiB, and time for the checker alone.
const (
	memory   = 2048
	patience = 4 * time.Minute
)

// holds are the bounds within which every state is looked at.
var holds = []struct {
	name, defs string
	progress   bool
}{
	{"two crashes", "CRASHES=2", false},
	{"another user's share is put meanwhile", "CRASHES=1 OTHERS=1", false},
	{"the store withholds", "CRASHES=1 WITHHELD=1", false},
	{"the slot is written twice", "CRASHES=1 VERSIONS=2", false},
	{"an anchor dies", "CRASHES=1 EVICTIONS=1", false},
	{"the lease moves, the other custodian is stale", "CRASHES=0 TAKEOVERS=1", false},
	{"progress after a crash", "CRASHES=1", true},
	{"progress after an object was withheld", "CRASHES=1 WITHHELD=1", true},
	{"progress after the lease moved", "CRASHES=0 TAKEOVERS=1 EPOCHS=2", true},
}

// what the model says when an invariant breaks, and what Spin says of a cycle.
const (
	pointer    = "a pointer into an epoch that is not live"
	two        = "at most one active and one draining"
	unreadable = "an acknowledged credential or a live epoch is unreadable"
	rootGone   = "the root that opens was destroyed"
	reachable  = "called erased, and still reachable"
	stuck      = "acceptance cycle"
)

// mutants each leave out one thing that the code does; want is what must be found.
var mutants = []struct{ defs, want string }{
	{"M_DESTROY_BEFORE_ERASE CRASHES=0", reachable},
	{"M_ROOT_BEFORE_CHAIN CRASHES=1", rootGone},
	{"M_STAGE_AFTER_COMMIT CRASHES=1", rootGone},
	{"M_INDEX_IN_PLACE CRASHES=0", reachable},
	{"M_ERASED_UNPROVEN CRASHES=1 WITHHELD=1", reachable},
	{"M_NO_SECOND_ROOT CRASHES=0 OTHERS=1", unreadable},
	{"M_RECORD_NOT_WRITTEN CRASHES=0", unreadable},
	{"M_ONE_ANCHOR CRASHES=0", unreadable},
	{"M_OPEN_BEFORE_PUT CRASHES=0", unreadable},
	{"M_NO_SALVAGE CRASHES=1 OTHERS=1", unreadable},
	{"M_NO_LIVE_CHECK CRASHES=1 WITHHELD=1", unreadable},
	{"M_NOT_DRAINED M_NO_LIVE_CHECK CRASHES=0", ""},
	{"M_OPEN_WHILE_DRAINING CRASHES=0", pointer},
	{"M_NO_CAS CRASHES=1 VERSIONS=2", ""},
	{"M_DELETE_EARLY CRASHES=0", unreadable},
	{"M_NO_FINISH CRASHES=1 PROGRESS", stuck},
	{"M_NO_RETIRE CRASHES=1 PROGRESS", stuck},
}

// limits are where the code relies on something that the model can take away. They are
// written down in README.md; one that is no longer found has been closed, or the model
// has lost it.
var limits = []struct{ defs, want string }{
	{"L_LATE_STAGE CRASHES=0 TAKEOVERS=1", reachable},
	{"L_TWO_MAKE CRASHES=0 TAKEOVERS=1", unreadable},
	{"CRASHES=1 OTHERS=1 WITHHELD=1", unreadable},
}

func TestModelHolds(t *testing.T) {
	c := checker(t)
	for _, h := range holds {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			defs := h.defs
			if h.progress {
				defs += " PROGRESS"
			}
			r := c.run(t, defs, "-O1")
			if r.errors != "0" {
				t.Fatalf("%s: %s\n%s", h.defs, r.violated, r.trail)
			}
			t.Logf("%s: %s states, %s", h.defs, r.states, r.took.Round(10*time.Millisecond))
		})
	}
}

func TestMutantsAreFound(t *testing.T) {
	c := checker(t)
	for _, m := range mutants {
		t.Run(m.defs, func(t *testing.T) { t.Parallel(); c.finds(t, m.defs, m.want) })
	}
}

func TestLimitsAreFound(t *testing.T) {
	c := checker(t)
	for _, l := range limits {
		t.Run(l.defs, func(t *testing.T) { t.Parallel(); c.finds(t, l.defs, l.want) })
	}
}

// Every switch in the model is run by a test above.
func TestEverySwitchIsRun(t *testing.T) {
	model, err := os.ReadFile("vault.pml")
	if err != nil {
		t.Fatal(err)
	}
	run := map[string]bool{}
	for _, m := range append(mutants, limits...) {
		for d := range strings.FieldsSeq(m.defs) {
			run[d] = true
		}
	}
	for _, m := range regexp.MustCompile(`\b[ML]_[A-Z_]+\b`).FindAllString(string(model), -1) {
		if m != "M_" && m != "L_" && !run[m] {
			t.Errorf("%s is in vault.pml and no test runs it", m)
			run[m] = true
		}
	}
}

// tools are spin and a C compiler.
type tools struct{ spin, cc string }

// checker finds them. Without them the tests are skipped, unless MODEL=required.
func checker(t *testing.T) tools {
	t.Helper()
	spin, err := exec.LookPath("spin")
	cc, ccErr := exec.LookPath("gcc")
	if ccErr != nil {
		cc, ccErr = exec.LookPath("cc")
	}
	if err = errors.Join(err, ccErr); err == nil {
		return tools{spin, cc}
	}
	if os.Getenv("MODEL") == "required" {
		t.Fatalf("model: %v; to have both: apt-get install spin gcc libc6-dev", err)
	}
	t.Skipf("model: %v; to run it: apt-get install spin gcc libc6-dev", err)
	return tools{}
}

// result is what one exhaustive run says.
type result struct {
	errors, states, violated, trail string
	took                            time.Duration
}

var (
	errorsLine = regexp.MustCompile(`errors: (\d+)`)
	statesLine = regexp.MustCompile(`(\d[\d.e+]*) states, stored`)
)

// run has Spin make a checker for these switches and looks at every state.
func (c tools) run(t *testing.T, defs, optimise string) (r result) {
	t.Helper()
	dir := t.TempDir()
	model, err := os.ReadFile("vault.pml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vault.pml"), model, 0o600); err != nil {
		t.Fatal(err)
	}
	var switches []string
	for d := range strings.FieldsSeq(defs) {
		switches = append(switches, "-D"+d)
	}
	build := []string{optimise, "-w", "-DCOLLAPSE", fmt.Sprintf("-DMEMLIM=%d", memory), "-o", "pan", "pan.c"}
	search := []string{"-m200000", "-c1"}
	if strings.Contains(defs, "PROGRESS") {
		build, search = append(build, "-DNFAIR=3"), append(search, "-a", "-f")
	} else {
		// A state without a next step is no error: whoever is done just waits.
		build, search = append(build, "-DSAFETY"), append(search, "-E")
	}
	must(t, dir, c.spin, append(switches, "-a", "vault.pml")...)
	must(t, dir, c.cc, build...)
	began := time.Now()
	out := must(t, dir, filepath.Join(dir, "pan"), search...)
	r.took = time.Since(began)
	found, states := errorsLine.FindStringSubmatch(out), statesLine.FindStringSubmatch(out)
	// A search that was cut short proves nothing.
	if found == nil || states == nil || strings.Contains(out, "max search depth too small") || strings.Contains(out, "Search not completed") && found[1] == "0" {
		t.Fatalf("the search did not come to an end:\n%s", out)
	}
	r.errors, r.states, r.violated = found[1], states[1], out
	if r.errors != "0" {
		r.trail = must(t, dir, c.spin, append(switches, "-t", "-k", "vault.pml.trail", "vault.pml")...)
	}
	return r
}

// finds fails unless the model breaks, and in the way that is wanted; any way if that is "".
func (c tools) finds(t *testing.T, defs, want string) {
	t.Helper()
	r := c.run(t, defs, "-O0") // soon found: compiling is what takes time
	if r.errors == "0" {
		t.Fatalf("nobody noticed: %s states look right", r.states)
	}
	said := r.violated + r.trail
	if want == "" && !strings.Contains(said, "VIOLATED") || want != "" && !strings.Contains(said, want) {
		t.Fatalf("found something else than %q:\n%s", want, said)
	}
}

func must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out.String())
	}
	return out.String()
}
