package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// diagnosed runs doctor and gives its findings by what they check.
func diagnosed(t *testing.T, a *app) (r doctorReport, found map[string]finding, code int) {
	t.Helper()
	t.Setenv("AGENTKEYS_HOME", a.home)
	var out, errOut bytes.Buffer
	code = run([]string{"doctor", "--json"}, strings.NewReader(""), &out, &errOut)
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s%s", err, out.String(), errOut.String())
	}
	found = map[string]finding{}
	for _, f := range r.Findings {
		found[f.Check] = f
		if f.State != "ok" && f.Next == "" {
			t.Errorf("%s: %s, and no word of what to do", f.Check, f.Says)
		}
	}
	return r, found, code
}

func TestDoctor(t *testing.T) {
	pass := t.TempDir() + "/pass"
	for name, c := range map[string]struct {
		change func(*testing.T, *app, *wary)
		check  string
		state  string
		says   string
		code   int
	}{
		"all is well":     {nil, "session", "ok", "after that commands ask for your wallet", 0},
		"clock":           {nil, "clock", "ok", "within 60 s", 0},
		"an agent's key":  {nil, "agents", "ok", "1 with a key in", 0},
		"a passphrase":    {nil, "wallet", "ok", "your passphrase", 0},
		"nobody let in":   {nil, "admission", "ok", "no proxy runs", 0},
		"private files":   {nil, "files", "ok", "nobody else", 0},
		"a list":          {nil, "list", "ok", "1 credentials, 1 agents admitted, epoch 1", 0},
		"no proxy":        {nil, "proxy", "warn", "it does not run", 0},
		"no node":         {nil, "node", "warn", "only verify needs it", 0},
		"a dead agent":    {func(_ *testing.T, _ *app, w *wary) { w.list.Agents[1].Expires = 1 }, "agents", "warn", "not admitted any more: scribe", 0},
		"agent elsewhere": {func(_ *testing.T, _ *app, w *wary) { w.list.Agents[1].Agent = "0x02" }, "agents", "warn", "1 admitted whose key is not here", 0},
		"a short list":    {func(_ *testing.T, _ *app, w *wary) { w.list.Complete = false }, "list", "warn", "not proven complete", 0},
		"logged out":      {func(t *testing.T, a *app, _ *wary) { remove(t, a.path("sessions", "default.json")) }, "session", "warn", "not logged in", 0},
		"no wallet":       {func(t *testing.T, a *app, _ *wary) { remove(t, a.path("wallet.json")) }, "wallet", "warn", "there is none", 0},
		"open wallet":     {func(t *testing.T, a *app, _ *wary) { a.openForAll(t) }, "wallet", "warn", "INSECURE", 0},
		"in the keychain": {func(t *testing.T, a *app, _ *wary) { inKeychain(t, a) }, "wallet", "warn", "without a question", 0},
		"passphrase file": {func(t *testing.T, _ *app, _ *wary) { passphraseIn(t, pass, 0o600) }, "wallet", "warn", "programs of your user id can read", 0},
		"passphrase open": {func(t *testing.T, _ *app, _ *wary) { passphraseIn(t, pass, 0o644) }, "wallet", "FAIL", "other users can read", 1},
		"open files":      {func(t *testing.T, a *app, _ *wary) { chmod(t, a.path("wallet.json"), 0o644) }, "files", "FAIL", "other users may read 1 files", 1},
		"another pin":     {func(t *testing.T, a *app, _ *wary) { repin(t, a) }, "custodian", "FAIL", "", 1},
		"inside run":      {func(t *testing.T, _ *app, _ *wary) { t.Setenv("AGENTKEYS_RUN", "scribe") }, "session", "ok", "the owner's is not used here", 0},
	} {
		t.Run(name, func(t *testing.T) {
			a, w := guarded(t)
			if c.change != nil {
				c.change(t, a, w)
			}
			r, found, code := diagnosed(t, a)
			if f := found[c.check]; f.State != c.state || !strings.Contains(f.Says, c.says) || code != c.code {
				t.Errorf("exit %d, %+v", code, f)
			}
			if len(r.SameUser) < 7 || len(r.Cannot) == 0 {
				t.Errorf("says too little of what the user id can do: %q %q", r.SameUser, r.Cannot)
			}
		})
	}
}

// What the user id can do depends on where the passphrase is.
func TestDoctorDoesNotFlatter(t *testing.T) {
	a, _ := guarded(t)
	a.openForAll(t)
	if can, cannot := a.sameUser(); !strings.Contains(strings.Join(can, "\n"), "be the owner") || len(cannot) != 1 {
		t.Errorf("%q %q", can, cannot)
	}
	if err := os.Mkdir(a.path("dev"), 0o700); err != nil {
		t.Fatal(err)
	}
	if can, _ := a.sameUser(); !strings.Contains(strings.Join(can, "\n"), "EVERYTHING") {
		t.Errorf("%q", can)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func passphraseIn(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte("right"), 0o600); err != nil {
		t.Fatal(err)
	}
	chmod(t, path, mode)
	t.Setenv("AGENTKEYS_PASSPHRASE_FILE", path)
}

func inKeychain(t *testing.T, a *app) {
	t.Helper()
	var f walletFile
	if err := a.readJSON(&f, "wallet.json"); err != nil {
		t.Fatal(err)
	}
	f.Unlock = unlockKeychain
	if err := a.writeJSON(f, "wallet.json"); err != nil {
		t.Fatal(err)
	}
}

func repin(t *testing.T, a *app) {
	t.Helper()
	p, err := a.loadProfile()
	if err != nil {
		t.Fatal(err)
	}
	p.Pin = strings.Repeat("0", 64)
	if err := a.writeJSON(p, "profiles", "default.json"); err != nil {
		t.Fatal(err)
	}
}
