package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"agentkeys": main, "on-terminal": onTerminal, "typist": typist})
}

// TestScripts plays testdata/*.txtar. Each script has a home of its own with a wallet
// whose passphrase is in $WORK/pass, and a profile of a custodian that refuses every
// login and has nothing else.
func TestScripts(t *testing.T) {
	srv := httptest.NewTLSServer(refusing())
	t.Cleanup(srv.Close)
	pin := sha256.Sum256(srv.Certificate().Raw)
	wallet := testWallet(t, "right")
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("AGENTKEYS_HOME", home)
			e.Setenv("AGENTKEYS_PASSPHRASE_FILE", filepath.Join(e.WorkDir, "pass"))
			a := &app{home: home}
			p := profile{Custodian: srv.URL, Pin: hex.EncodeToString(pin[:]), VaultID: strings.Repeat("07", 32), ChainID: "c"}
			return errors.Join(a.writeJSON(p, "profiles", "default.json"), a.writeJSON(wallet, "wallet.json"),
				os.WriteFile(filepath.Join(e.WorkDir, "pass"), []byte("right\n"), 0o600))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "jsonerror": jsonError},
	})
}

// refusing is a custodian at which nobody can log in.
func refusing() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathChallenge, func(w http.ResponseWriter, _ *http.Request) {
		api.Reply(w, api.Challenge{Nonce: make([]byte, 32)})
	})
	mux.HandleFunc("POST "+api.PathLogin, func(w http.ResponseWriter, _ *http.Request) {
		api.Fail(w, &api.Error{Status: 401, Code: "signature_invalid", Message: "not the wallet of this user", Next: "Log in with the right wallet"})
	})
	mux.HandleFunc("GET "+api.PathVault, func(w http.ResponseWriter, _ *http.Request) {
		api.Reply(w, api.Vault{VaultID: strings.Repeat("08", 32), ChainID: "c"})
	})
	return mux
}

func testWallet(t *testing.T, pass string) walletFile {
	t.Helper()
	k, err := eip712.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	f, err := sealWallet(k, agentkeys.NewSecret([]byte(pass)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// exits N agentkeys ...: the command ends with this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// jsonerror STATUS CODE: the last standard error is one error object with these.
func jsonError(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: jsonerror STATUS CODE")
	}
	var e api.Error
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stderr")))
	d.DisallowUnknownFields()
	ts.Check(d.Decode(&e))
	if d.More() || fmt.Sprint(e.Status) != args[0] || e.Code != args[1] || e.Message == "" {
		ts.Fatalf("got %+v", e)
	}
}

// commands are all commands of the tree but those of the cobra package.
func commands(c *cobra.Command) (all []*cobra.Command) {
	all = append(all, c)
	for _, s := range c.Commands() {
		if s.Name() != "help" && s.Name() != "completion" {
			all = append(all, commands(s)...)
		}
	}
	return all
}

func TestEveryCommandIsExplained(t *testing.T) {
	all := commands(rootCommand(&app{}))
	if len(all) < 30 {
		t.Fatalf("only %d commands found", len(all))
	}
	for _, c := range all {
		if c.Short == "" || !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: short %q, example %q", c.CommandPath(), c.Short, c.Example)
		}
		if !c.Runnable() || c.Args == nil {
			t.Errorf("%s: takes any argument", c.CommandPath())
		}
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		var out, errOut bytes.Buffer
		if code := run(args, strings.NewReader(""), &out, &errOut); code != 0 || !strings.Contains(out.String(), "Examples:") || errOut.Len() > 0 {
			t.Errorf("%v: exit %d, %s%s", args, code, out.String(), errOut.String())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s: no usage", c.CommandPath(), f.Name)
			}
		})
	}
}

// Every command refuses what it does not know, before it asks for anything.
func TestEveryCommandRefusesNonsense(t *testing.T) {
	t.Setenv("AGENTKEYS_HOME", t.TempDir())
	for _, c := range commands(rootCommand(&app{})) {
		path := strings.Fields(c.CommandPath())[1:]
		for _, more := range [][]string{{"--no-such-flag"}, {"one", "two", "three"}} {
			if c.Name() == "run" && !c.Hidden && more[0] == "one" {
				continue // it takes a command with any arguments
			}
			var out, errOut bytes.Buffer
			if code := run(append(path[:len(path):len(path)], more...), strings.NewReader(""), &out, &errOut); code != exitUsage || out.Len() > 0 || errOut.Len() == 0 {
				t.Errorf("agentkeys %s %s: exit %d, stdout %q, stderr %q", strings.Join(path, " "), strings.Join(more, " "), code, out.String(), errOut.String())
			}
		}
	}
}

func TestReport(t *testing.T) {
	refusal := &api.Error{Status: 403, Code: "grant_missing", Message: "0x01 may not use github", Next: "Do not retry"}
	for _, c := range []struct {
		name string
		err  error
		code int
		says string
	}{
		{"nothing", nil, 0, ""},
		{"a child's", exitCode(77), 77, ""},
		{"a child's, wrapped", fmt.Errorf("run: %w", exitCode(3)), 3, ""},
		{"cancelled", fmt.Errorf("x: %w", context.Canceled), exitUsage, "agentkeys: cancelled\n"},
		{"usage", usageError{errors.New("want one NAME")}, exitUsage, "agentkeys: want one NAME\n"},
		{"refused", refusal, exitError, "agentkeys: grant_missing: 0x01 may not use github. Do not retry\n"},
		{"not let in", &api.Error{Status: 401, Code: "session_expired", Message: "over"}, exitAuth, "agentkeys: session_expired: over\n"},
		{"other", errors.New("disk full"), exitError, "agentkeys: disk full\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			a := &app{home: t.TempDir(), err: &out}
			if code := a.report(c.err); code != c.code || out.String() != c.says {
				t.Errorf("exit %d, %q", code, out.String())
			}
		})
	}
}

func TestReportSaysNames(t *testing.T) {
	var out bytes.Buffer
	a := &app{home: t.TempDir(), err: &out}
	w, err := a.newAgent("scribe")
	if err != nil {
		t.Fatal(err)
	}
	a.report(&api.Error{Status: 403, Code: "grant_missing", Message: w.String() + " may not use github", Next: "agentkeys grant github --to " + w.String()})
	if got := out.String(); strings.Contains(got, "0x") || !strings.Contains(got, "--to scribe") {
		t.Errorf("%q", got)
	}
}
