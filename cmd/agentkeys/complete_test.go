package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// completed is what the shell is offered.
func completed(t *testing.T, args ...string) (names []string, errOut string) {
	t.Helper()
	var out, noise bytes.Buffer
	if code := run(append([]string{"__complete"}, args...), strings.NewReader(""), &out, &noise); code != 0 {
		t.Errorf("%v: exit %d, %s", args, code, noise.String())
	}
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSpace(line); line != "" && line[0] != ':' {
			name, _, _ := strings.Cut(line, "\t") // what follows is its description
			names = append(names, name)
		}
	}
	// The package says on standard error how the shell is to take it.
	for line := range strings.Lines(noise.String()) {
		if !strings.HasPrefix(line, "Completion ended") {
			errOut += line
		}
	}
	return names, errOut
}

func TestCompletion(t *testing.T) {
	a, _ := guarded(t)
	t.Setenv("AGENTKEYS_HOME", a.home)
	for line, want := range map[string]string{
		"read ":                    "github",
		"replace ":                 "github",
		"grant ":                   "list revoke github",
		"grant revoke ":            "github",
		"run --with ":              "github",
		"run --env ":               "github",
		"delete ":                  "github",
		"read github ":             "",
		"store ":                   "",
		"agent revoke ":            "scribe",
		"agent show ":              "scribe",
		"explain ":                 "scribe",
		"grant github --to ":       "scribe",
		"run --agent ":             "scribe",
		"read github --slot ":      "scribe",
		"profile use ":             "default",
		"list --profile ":          "default",
		"agent revoke scribe more": "",
	} {
		args := strings.Fields(line)
		if strings.HasSuffix(line, " ") {
			args = append(args, "")
		}
		got, errOut := completed(t, args...)
		if strings.Join(got, " ") != want || errOut != "" {
			t.Errorf("%q: offers %v, want %q; %s", line, got, want, errOut)
		}
	}
	// An agent learns no names by it.
	t.Setenv("AGENTKEYS_RUN", "scribe")
	if got, _ := completed(t, "read", ""); len(got) != 0 {
		t.Errorf("inside run: %v", got)
	}
}

// A vault that is away, slow or unknown makes nobody wait, and is not complained about.
func TestCompletionIsQuick(t *testing.T) {
	a, _ := guarded(t)
	t.Setenv("AGENTKEYS_HOME", a.home)
	over := make(chan struct{})
	srv := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(over) })
	slow := pinned(srv)
	for name, p := range map[string]profile{"slow": slow, "away": {Custodian: "https://127.0.0.1:1", Pin: slow.Pin, VaultID: slow.VaultID}, "broken": {}} {
		if err := a.writeJSON(p, "profiles", "default.json"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		got, errOut := completed(t, "read", "")
		if took := time.Since(began); len(got) != 0 || errOut != "" || took > 3*completeWithin {
			t.Errorf("%s: %v %q after %v", name, got, errOut, took)
		}
	}
	t.Setenv("AGENTKEYS_HOME", t.TempDir())
	for _, args := range [][]string{{"read", ""}, {"agent", "show", ""}, {"profile", "use", ""}} {
		if got, errOut := completed(t, args...); len(got) != 0 || errOut != "" {
			t.Errorf("%v in an empty home: %v %q", args, got, errOut)
		}
	}
	if entries, err := os.ReadDir(os.Getenv("AGENTKEYS_HOME")); err != nil || len(entries) != 0 {
		t.Errorf("completion left %v, %v", entries, err)
	}
}
