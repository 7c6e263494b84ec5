package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestCommands plays testdata/cli.txtar on the real stack: every command, with the
// shape of its JSON. UPDATE=1 writes the shapes anew.
func TestCommands(t *testing.T) {
	p := play(t)
	home, err := os.MkdirTemp("/tmp", "ak-cli-") // short: a socket's path has its limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	profile, err := os.ReadFile(p.path("profiles", "default.json"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "profiles", "default.json"), string(profile))
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/cli.txtar"}, UpdateScripts: os.Getenv("UPDATE") != "", RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			for name, value := range map[string]string{"AGENTKEYS_HOME": home, "AGENTKEYS_PASSPHRASE_FILE": filepath.Join(e.WorkDir, "pass"),
				"HOME": e.WorkDir, "UPSTREAM": p.up.addr, "UPSTREAM_CA": p.up.pem, "HOST": apiHost, "DEV": p.path("dev"), "PROFILE": p.path("profiles", "default.json")} {
				e.Setenv(name, value)
			}
			e.Setenv("PATH", filepath.Join(e.WorkDir, "bin")+":"+p.bin+":"+e.Getenv("PATH"))
			return nil
		},
	})
	untried(t, p)
}

// untried fails for a command that the script does not play.
func untried(t *testing.T, p *played) {
	t.Helper()
	script, err := os.ReadFile("testdata/cli.txtar")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := []string{"demo", "dev start", "dev stop", "dev reset"}
	for _, name := range p.leaves(t) {
		if slices.Contains(elsewhere, name) || strings.HasPrefix(name, "completion ") {
			continue
		}
		if !regexp.MustCompile(`(?m)agentkeys( --json)? ` + regexp.QuoteMeta(name) + `( |$)`).Match(script) {
			t.Errorf("no script plays: agentkeys %s", name)
		}
	}
}

// leaves are the commands of the tree that have no commands below them, and grant, as
// the manual has them.
func (p *played) leaves(t *testing.T) (names []string) {
	t.Helper()
	dir := t.TempDir()
	p.must(t, "", "man", dir)
	pages, err := filepath.Glob(filepath.Join(dir, "agentkeys-*.1"))
	if err != nil || len(pages) < 40 {
		t.Fatalf("%d manual pages, %v", len(pages), err)
	}
	for _, page := range pages {
		stem := strings.TrimSuffix(page, ".1")
		below, err := filepath.Glob(stem + "-*.1")
		if err != nil {
			t.Fatal(err)
		}
		if name := strings.TrimPrefix(filepath.Base(stem), "agentkeys-"); len(below) == 0 || name == "grant" {
			names = append(names, strings.ReplaceAll(name, "-", " "))
		}
	}
	return names
}

// shape runs a command and prints the shape of the JSON that it prints: keys, and a
// value of each kind.
func shape() {
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stderr, cmd.Stdin = os.Stderr, os.Stdin
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || len(out) == 0) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	d := json.NewDecoder(bytes.NewReader(out))
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		fmt.Fprintf(os.Stderr, "not one JSON value: %v\n%s", err, out)
		os.Exit(1)
	}
	b, err := json.MarshalIndent(reduce(v), "", "  ")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(b))
	if exit != nil {
		os.Exit(exit.ExitCode())
	}
}

func reduce(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"processes", "process_cpu_seconds", "rss_mib"} { // by their names, which depend on who asks
			if of, ok := v[key].(map[string]any); ok {
				v[key] = map[string]any{"agentkeysd": of["agentkeysd"]}
			}
		}
		for k := range v {
			v[k] = reduce(v[k])
		}
		return v
	case []any:
		var all map[string]any
		for _, e := range v {
			m, ok := reduce(e).(map[string]any)
			if !ok {
				return []any{reduce(e)}
			}
			if all == nil {
				all = map[string]any{}
			}
			for k, x := range m {
				if old, ok := all[k].([]any); !ok || len(old) == 0 {
					all[k] = x
				}
			}
		}
		if all == nil {
			return []any{}
		}
		return []any{all}
	case string:
		return "text"
	case float64:
		return 1
	}
	return v
}
