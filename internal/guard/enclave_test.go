package guard

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestRotatorClosure: what the rotator's code reaches of ours is five packages, and
// it reaches no network, no text format and no logger, however far down.
func TestRotatorClosure(t *testing.T) {
	allowed := []string{root, "channel", "envelope", "receipt", "rotation", "rotator"}
	var own []string
	for _, p := range list(t, "-deps", "./rotator") {
		if name, ok := nameOf(p.ImportPath); ok {
			own = append(own, name)
		}
		if forbidden(p.ImportPath) {
			t.Errorf("package rotator reaches %s", p.ImportPath)
		}
	}
	slices.Sort(own)
	slices.Sort(allowed)
	if !slices.Equal(own, allowed) {
		t.Errorf("package rotator reaches %v of ours, want %v", own, allowed)
	}
}

// forbidden packages open sockets, parse text or write logs. Packages below them
// (net/netip) count too.
func forbidden(importPath string) bool {
	for _, f := range []string{"net", "log", "mime", "encoding/json", "encoding/xml", "database", "html", "text", "plugin", "os/exec"} {
		if importPath == f || strings.HasPrefix(importPath, f+"/") {
			return true
		}
	}
	return false
}

// TestForbiddenFinds: the custodian does reach what the rotator must not.
func TestForbiddenFinds(t *testing.T) {
	found := map[string]bool{}
	for _, p := range list(t, "-deps", "./custodian") {
		if forbidden(p.ImportPath) {
			found[p.ImportPath] = true
		}
	}
	for _, want := range []string{"net", "net/http", "encoding/json", "encoding/xml", "log", "log/slog", "mime"} {
		if !found[want] {
			t.Errorf("%s is not seen in the custodian's closure; this guard looks at the wrong thing", want)
		}
	}
}

// TestEnclaveContents lists every package in each enclave program. A new line is a
// new dependency in an enclave: it needs an ADR.
func TestEnclaveContents(t *testing.T) {
	for _, name := range []string{"agentkeys-custodian", "agentkeys-rotator"} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			for _, p := range list(t, "-deps", "./cmd/"+name) {
				lines = append(lines, contentLine(p))
			}
			slices.Sort(lines)
			hold(t, filepath.Join("testdata", name+".txt"), strings.Join(lines, "\n")+"\n")
		})
	}
}

// contentLine is package, module, version. The standard library has the version of
// the toolchain, which go.mod bounds, so it is not repeated here.
func contentLine(p pkg) string {
	switch {
	case p.Standard:
		return p.ImportPath + " std"
	case p.Module == nil:
		return p.ImportPath + " ?"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", p.ImportPath, p.Module.Path, p.Module.Version))
}

// TestRotatorBuildsTheSame builds the rotator from two copies of its sources in two
// folders: the bytes are the same, so a measurement can be made again by anybody.
func TestRotatorBuildsTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("builds twice")
	}
	first, second := buildRotator(t), buildRotator(t)
	if !bytes.Equal(first, second) {
		t.Errorf("two builds differ: %d and %d bytes", len(first), len(second))
	}
}

// buildRotator copies what the program is made of into a folder of its own and
// builds it there with the flags of scripts/build.sh.
func buildRotator(t *testing.T) []byte {
	t.Helper()
	from, dir := moduleDir(t), t.TempDir()
	files := []string{"go.mod", "go.sum"}
	for _, p := range list(t, "-deps", "./cmd/agentkeys-rotator") {
		if _, ok := nameOf(p.ImportPath); !ok {
			continue
		}
		rel, err := filepath.Rel(from, p.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range p.GoFiles {
			files = append(files, filepath.Join(rel, f))
		}
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	cmd := goTool(t, dir, "build", "-p", fmt.Sprint(min(2, runtime.NumCPU())), "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./cmd/agentkeys-rotator")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(dir)) {
		t.Errorf("the program holds the name of the folder it was built in")
	}
	return b
}
