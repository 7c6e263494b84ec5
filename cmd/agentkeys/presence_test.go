package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"example.org/agentkeys/api"
)

// typed is what an agent types for each command; commands that are not here take no
// arguments.
var typed = map[string][]string{
	"init":             {"init", "init --insecure-file", "init --keychain"},
	"login":            {"login", "login --for 30d"},
	"whoami":           {"whoami", "whoami --agent biller"},
	"session end":      {"session end ab"},
	"profile add":      {"profile add mine HOME/profiles/default.json"},
	"profile use":      {"profile use default"},
	"store":            {"store github --file HOME/new.txt", "store github --file HOME/new.txt --agent scribe"},
	"list":             {"list", "list --json", "list --profile default"},
	"delete":           {"delete github"},
	"read":             {"read github --reveal", "read github --reveal --slot scribe", "read github --reveal --profile default", "read github --reveal --agent biller"},
	"replace":          {"replace github --file HOME/new.txt", "replace github --host evil.test --file HOME/new.txt", "replace github --file HOME/new.txt --check https://api.github.com/"},
	"import":           {"import HOME/new.env"},
	"run":              {"run --env github --agent biller -- env", "run --with github --agent biller -- env"},
	"proxy start":      {"proxy start", "proxy start --resolve api.github.com:443=127.0.0.1:1"},
	"proxy ca install": {"proxy ca install --yes"},
	"proxy ca remove":  {"proxy ca remove --yes"},
	"explain":          {"explain scribe https://api.github.com/user"},
	"agent add":        {"agent add thief", "agent add scribe --for 300d"},
	"agent show":       {"agent show scribe"},
	"agent revoke":     {"agent revoke scribe"},
	"agent remove":     {"agent remove scribe"},
	"grant":            {"grant github --to scribe --reveal", "grant github --to scribe --for 300d"},
	"grant revoke":     {"grant revoke github --to scribe"},
	"epoch rotate":     {"epoch rotate"},
	"config show":      {"config show --origin"},
	"verify":           {"verify --write-viewing-key HOME/viewing"},
	"bench read":       {"bench read --clients 1 --duration 50ms"},
	"bench write":      {"bench write --clients 1 --duration 50ms"},
	"bench use":        {"bench use --clients 1 --duration 50ms"},
	"bench rotate":     {"bench rotate"},
	"dev status":       {"dev status"},
	"proxy serve":      {"proxy serve"},
	"audit list":       {"audit list"},
	"epoch list":       {"epoch list"},
	"agent list":       {"agent list"},
	"grant list":       {"grant list"},
	"session list":     {"session list"},
	"profile list":     {"profile list"},
	"proxy status":     {"proxy status"},
	"proxy stop":       {"proxy stop"},
	"logout":           {"logout"},
	"audit follow":     {"audit follow"},
	"bench rewrap":     {"bench rewrap --count 1"},
	"status":           {"status"},
	"doctor":           {"doctor"},
	"exposure":         {"exposure"},
	"version":          {"version"},
}

// What does nothing with the vault of this home, so an agent may as well start it.
var harmless = []string{"man", "demo", "demo agent", "dev start", "dev stop", "dev reset"}

// lines are the command lines for every command of the tree.
func agentLines(t *testing.T, home string) (lines [][]string) {
	t.Helper()
	for _, c := range commands(rootCommand(&app{})) {
		name := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "agentkeys"), " ")
		if c.HasSubCommands() && typed[name] == nil || slices.Contains(harmless, name) || strings.HasPrefix(c.Name(), "__") || c.Hidden && typed[name] == nil {
			continue
		}
		if typed[name] == nil {
			t.Errorf("nobody tried what an agent gets from: agentkeys %s", name)
		}
		for _, l := range typed[name] {
			lines = append(lines, strings.Fields(strings.ReplaceAll(l, "HOME", home)))
		}
	}
	return lines
}

// typing is an agent at work: command lines typed one after another, without a
// terminal.
type typing struct {
	in  *json.Encoder
	out *json.Decoder
}

// typist is the program of an agent: it carries out command lines as agentkeys does.
func typist() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var line []string
		if in.Decode(&line) != nil {
			return
		}
		var said bytes.Buffer
		run(line, strings.NewReader(""), &said, &said)
		_ = out.Encode(said.String())
	}
}

func startTypist(t *testing.T, a *app, inside bool) typing {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "typist") // TestMain has put it into PATH
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + a.home, "AGENTKEYS_HOME=" + a.home, "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent"}
	if inside {
		cmd.Env = append(cmd.Env, "AGENTKEYS_RUN=scribe")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	return typing{json.NewEncoder(in), json.NewDecoder(out)}
}

// line types one and gives what it printed.
func (s typing) line(t *testing.T, words []string) (said string) {
	t.Helper()
	if err := s.in.Encode(words); err != nil {
		t.Fatal(err)
	}
	if err := s.out.Decode(&said); err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return said
}

// Inside run no command of the tree speaks to the custodian in the owner's session, and
// none changes anything of the owner's; also where a wallet opens without a question.
func TestInsideRunThereIsNoOwner(t *testing.T) {
	a, w := guarded(t)
	a.openForAll(t)
	k, err := a.openWallet()
	if err != nil {
		t.Fatal(err)
	}
	k.Zero()
	before, agent := a.snapshot(t), startTypist(t, a, true)
	for _, line := range agentLines(t, a.home) {
		out := agent.line(t, line)
		if asked, grave := w.take(); len(asked)+len(grave) > 0 {
			t.Errorf("%v: asked %v %v: %s", line, asked, grave, out)
		}
		if after := a.snapshot(t); !slices.Equal(before, after) {
			t.Fatalf("%v changed %v into %v: %s", line, before, after, out)
		}
	}
	// The test would see it if the owner were there.
	startTypist(t, a, false).line(t, []string{"list"})
	if asked, _ := w.take(); len(asked) == 0 {
		t.Error("outside run nobody asks in the owner's session: this test cannot fail")
	}
}

// Where an agent takes the mark away it has the owner's session as every program of the
// user id has, and with it nothing that reveals, overwrites, grants or revokes.
func TestWithoutPassphraseNothingIsSigned(t *testing.T) {
	a, w := guarded(t)
	agent := startTypist(t, a, false)
	for _, line := range agentLines(t, a.home) {
		if line[0] == "logout" || slices.Contains(line, "follow") {
			continue // ends the session, as deleting its file does; reads as audit list does, without an end
		}
		out := agent.line(t, line)
		if _, grave := w.take(); len(grave) > 0 {
			t.Errorf("%v reaches %v: %s", line, grave, out)
		}
	}
	pass := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(pass, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pass, line string
		reaches    []string
	}{
		{"wrong", "epoch rotate", nil},
		{"right", "epoch rotate", []string{api.PathStatement}},
		{"right", "agent revoke scribe", []string{api.PathStatement}},
		{"right", "read github --reveal", []string{api.PathRead}},
		{"right", "session end ab", []string{api.PathEnd}},
	} {
		if err := os.WriteFile(pass, []byte(c.pass), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "agentkeys", strings.Fields(c.line)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + a.home, "AGENTKEYS_HOME=" + a.home, "AGENTKEYS_PASSPHRASE_FILE=" + pass}
		out, _ := cmd.CombinedOutput()
		if _, grave := w.take(); !slices.Equal(grave, c.reaches) {
			t.Errorf("%s with the %s passphrase reaches %v: %s", c.line, c.pass, grave, out)
		}
	}
}

// A wallet whose key nobody has here cannot be made to sign by another file beside it.
func TestPassphraseOfAnotherWalletOpensNothing(t *testing.T) {
	a, _ := guarded(t)
	var f walletFile
	if err := a.readJSON(&f, "wallet.json"); err != nil {
		t.Fatal(err)
	}
	f.Unlock = unlockFile // an agent says that the passphrase is in a file, and writes one
	if err := a.writeJSON(passphraseFile{passphraseLabel, "guess"}, "wallet.passphrase"); err != nil {
		t.Fatal(err)
	}
	if err := a.writeJSON(f, "wallet.json"); err != nil {
		t.Fatal(err)
	}
	if k, err := a.openWallet(); err == nil {
		t.Errorf("opened %v", k.Wallet())
	}
}
