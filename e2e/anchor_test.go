package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAnchors: of two anchors either may die and everything still reads and is written.
// Destruction and new epochs wait for it, and go on once the authority has evicted it.
func TestAnchors(t *testing.T) {
	v := start(t)
	p := v.enrol(t)
	p.store(t, "kept")
	dirs, err := v.cfg.AnchorDirs(v.path("dev", "anchor"))
	if err != nil || len(dirs) != 2 {
		t.Fatalf("%v, %v", dirs, err)
	}
	for id, dir := range dirs {
		roots, err := filepath.Glob(filepath.Join(dir, "root-*"))
		if err != nil || len(roots) == 0 {
			t.Errorf("anchor %s holds %v, %v", id, roots, err)
		}
	}
	// The first dies: its place cannot even be opened.
	dead := v.cfg.Anchors[0]
	place := filepath.Join(v.path("dev", "anchor"), "1")
	if err := os.Rename(place, place+".gone"); err != nil {
		t.Fatal(err)
	}
	write(t, place, "no directory")
	v.kill(t, "agentkeys-custodian")
	within(t, 30*time.Second, "the other anchor is read", func() bool { _, err := p.read(t.Context(), "kept"); return err == nil })
	p.store(t, "later")
	p.mustRead(t, "kept", "later")

	before := p.ask(t)
	time.Sleep(3 * time.Second)
	if now, draining := active(p.list(t)); now != before || draining != 0 {
		t.Errorf("epoch %d opened, %d drains, though its share cannot be in both anchors", now, draining)
	}
	if log := string(read(t, v.path("dev", "log", "agentkeys-custodian.log"))); !strings.Contains(log, dead) {
		t.Errorf("the custodian's log does not name the dead anchor %s", dead)
	}
	out, err := v.operator(t, "anchor", "evict", dead)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.rotated(t, before)
	p.mustRead(t, "kept", "later")
	if out := v.must(t, "", "verify"); !strings.Contains(out, "not proven erased is what an anchor held when it went out of use: "+dead+" was evicted") {
		t.Errorf("verify does not tell of the evicted anchor:\n%s", out)
	}
}

// TestAnchorBroughtBack: an anchor goes away while an epoch drains. The epoch is not called
// destroyed, all is read meanwhile, the log names the place, nobody makes it anew; brought
// back, without a start of anything, it goes on.
func TestAnchorBroughtBack(t *testing.T) {
	v := start(t)
	p := v.enrol(t)
	p.store(t, "kept")
	place := filepath.Join(v.path("dev", "anchor"), "2")
	before := p.ask(t)
	within(t, 30*time.Second, "the epoch drains", func() bool { _, draining := active(p.list(t)); return draining != 0 })
	if err := os.Rename(place, place+".away"); err != nil {
		t.Fatal(err)
	}
	log := func() string { return string(read(t, v.path("dev", "log", "agentkeys-custodian.log"))) }
	within(t, time.Minute, "the log names the place", func() bool { return strings.Contains(log(), place+" is not there: bring it back") })
	time.Sleep(3 * time.Second)
	if _, draining := active(p.list(t)); draining == 0 {
		t.Error("the epoch is called destroyed, though one anchor still has its share")
	}
	if _, err := os.Stat(place); !os.IsNotExist(err) {
		t.Errorf("somebody made the place anew: %v", err)
	}
	p.mustRead(t, "kept")
	if n := strings.Count(log(), "epochs are drained but not destroyed"); n > 8 {
		t.Errorf("the log says so %d times within some seconds", n)
	}
	if err := os.Rename(place+".away", place); err != nil {
		t.Fatal(err)
	}
	p.rotated(t, before)
	p.mustRead(t, "kept")
}

// operator runs an act of the authority.
func (v *vault) operator(t *testing.T, args ...string) (string, error) {
	t.Helper()
	args = slices.Concat(args, []string{"--node", v.cfg.RPC(), "--chain-id", v.cfg.ChainID, "--authority-key-file", v.path("dev", "keys", "authority.key")})
	b, err := exec.CommandContext(t.Context(), filepath.Join(v.bin, "agentkeys-operator"), args...).CombinedOutput()
	return string(b), err
}
