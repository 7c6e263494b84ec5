package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/internal/devstack"
	"example.org/agentkeys/internal/thief"
	"example.org/agentkeys/statement"
)

// theft: whoever kept every public byte and takes all secrets now opens the live
// epoch and nothing else; with an anchor copied earlier the same thief opens more.
func theft(t *testing.T, v *vault) {
	p := v.enrol(t)
	names := []agentkeys.Service{"first", "second", "third"}
	p.store(t, "second")
	p.store(t, "third")
	key, _ := p.agent(t, "first")
	early := v.path("anchor-copy")
	copyAnchors(t, v, early)
	p.submit(t, statement.RevokeAgent{User: p.key.Wallet(), Agent: key.Wallet(), Counter: 1})
	p.rotated(t, 1)
	p.rotated(t, p.ask(t))
	p.mustRead(t, names...)

	live, _ := active(p.list(t))
	if live < 3 {
		t.Fatalf("epoch %d is live, want at least the third", live)
	}
	loot := v.loot(t)
	for epoch, n := range loot.open(t, p, v.path("dev", "anchor")) {
		want := 0
		if epoch == agentkeys.Epoch(live) {
			want = n.Ever
		}
		if n.Open != want || n.Ever != len(names) {
			t.Errorf("epoch %d (live %d): %+v, want %d to open of %d", epoch, live, n, want, len(names))
		}
	}
	control := loot.open(t, p, early)[1]
	if control.Open != len(names) {
		t.Errorf("control: with the early anchor epoch 1 opens %+v", control)
	}
	if err := os.RemoveAll(early); err != nil {
		t.Fatal(err)
	}
}

// noCoreFiles: no crash leaves the custodian's memory in a file. The rotator's limits are
// its sandbox's, and tested there.
func noCoreFiles(t *testing.T, v *vault) {
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", v.pid(t, "agentkeys-custodian")))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the limits of another process can be read on Linux only")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(limits), "Max core file size")
	if f := strings.Fields(line); len(f) < 2 || f[0] != "0" || f[1] != "0" {
		t.Errorf("the custodian may write core files: %q", f)
	}
}

// copyAnchors is what somebody who had read the anchors then would have.
func copyAnchors(t *testing.T, v *vault, to string) {
	t.Helper()
	from := v.path("dev", "anchor")
	files, err := filepath.Glob(filepath.Join(from, "*", "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("anchors: %d files, %v", len(files), err)
	}
	for _, f := range files {
		rel, err := filepath.Rel(from, f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, rel), string(read(t, f)))
	}
}

type loot struct {
	thief.Loot
	cfg devstack.Config
}

func (v *vault) loot(t *testing.T) loot {
	t.Helper()
	vault, err := v.cfg.Vault()
	if err != nil {
		t.Fatal(err)
	}
	l := loot{thief.Loot{Vault: vault, Objects: v.store.Objects()}, v.cfg}
	if l.Statements, err = thief.Statements(t.Context(), v.cfg.RPC()); err != nil {
		t.Fatal(err)
	}
	if l.Seed, err = thief.ReadSeed(filepath.Join(v.home, "dev", "custodian")); err != nil {
		t.Fatal(err)
	}
	return l
}

// open gives the counts of every epoch, of which there must be at least three.
func (l loot) open(t *testing.T, p *person, anchors string) map[agentkeys.Epoch]thief.Count {
	t.Helper()
	var err error
	if l.Anchors, err = l.cfg.AnchorDirs(anchors); err != nil {
		t.Fatal(err)
	}
	counts, err := l.Open(t.Context(), p.key.Wallet())
	if err != nil || len(counts) < 3 {
		t.Fatalf("%v: %v", counts, err)
	}
	return counts
}
