package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys/auditor"
)

const recordedBundle = "../../auditor/testdata/dev.bundle"

// auditorApp is the command on a machine of somebody who has the bundle's trusted
// header and nothing else; no network is reachable.
func auditorApp(t *testing.T, asJSON bool) (a *app, out, errOut *bytes.Buffer) {
	t.Helper()
	out, errOut = new(bytes.Buffer), new(bytes.Buffer)
	a = &app{home: t.TempDir(), profileName: "default", json: asJSON, out: out, err: errOut}
	b, err := os.ReadFile("../../auditor/testdata/dev.json")
	if err != nil {
		t.Fatal(err)
	}
	var known struct {
		ChainID string `json:"chain_id"`
		Vault   string `json:"vault_id"`
		Height  uint64 `json:"height"`
		Hash    string `json:"hash"`
		User    string `json:"user"`
		Key     string `json:"viewing_key"`
	}
	if err := json.Unmarshal(b, &known); err != nil {
		t.Fatal(err)
	}
	p := profile{VaultID: known.Vault, ChainID: known.ChainID, Height: known.Height, Hash: known.Hash}
	if err := a.writeJSON(p, "profiles", "default.json"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.path("viewing.key"), []byte(known.User+" "+known.Key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return a, out, errOut
}

// atBundle runs f an hour after the bundle was made.
func atBundle(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	b := readBundle(t, recordedBundle)
	made := b.Blocks[len(b.Blocks)-1].Header.Time
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(made.Add(time.Hour)))
		f(t)
	})
}

func readBundle(t *testing.T, path string) *auditor.Bundle {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := auditor.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVerifyBundleOffline(t *testing.T) {
	atBundle(t, func(t *testing.T) {
		a, out, _ := auditorApp(t, false)
		if err := a.verify(t.Context(), verifyFlags{bundle: recordedBundle, viewing: a.path("viewing.key")}); err != nil {
			t.Fatal(err, out)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if lines[len(lines)-1] != "proved 11, attested 2, assumed 2" {
			t.Errorf("the last line: %s", lines[len(lines)-1])
		}
		for _, want := range []string{"PROVED    headers", "ATTESTED  evidence", "ASSUMED   validators", "  github   shared  deleted", "software: no protection from root"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
		var seen seenHeader
		blocks := readBundle(t, recordedBundle).Blocks
		if err := a.readJSON(&seen, "seen", "default.json"); err != nil || seen.Height != blocks[len(blocks)-1].Header.Height {
			t.Errorf("the newest header is not kept: %+v %v", seen, err)
		}
	})
}

func TestVerifyJSONAndExitCode(t *testing.T) {
	atBundle(t, func(t *testing.T) {
		a, out, _ := auditorApp(t, true)
		b := readBundle(t, recordedBundle)
		b.Records = b.Records[1:]
		raw, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "changed")
		if err := replaceFile(path, raw); err != nil {
			t.Fatal(err)
		}
		var code exitCode
		if err := a.verify(t.Context(), verifyFlags{bundle: path}); !errors.As(err, &code) || code != exitError {
			t.Fatalf("exit: %v", err)
		}
		var r auditor.Report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.OK() || r.Check("reads").Verdict != auditor.Fails || r.Failed != 1 {
			t.Fatalf("%+v", r.Checks)
		}
		if _, err := os.Stat(a.path("seen", "default.json")); err == nil {
			t.Error("a header is kept though something does not hold")
		}
	})
}

func TestVerifyKeepsForkEvidence(t *testing.T) {
	atBundle(t, func(t *testing.T) {
		a, out, errOut := auditorApp(t, false)
		p, err := a.loadProfile()
		if err != nil {
			t.Fatal(err)
		}
		if err := a.writeJSON(seenHeader{p.ChainID, 80, strings.Repeat("ab", 32)}, "seen", "default.json"); err != nil {
			t.Fatal(err)
		}
		if err := a.verify(t.Context(), verifyFlags{bundle: recordedBundle}); err == nil {
			t.Fatal("a fork passes")
		}
		files, err := os.ReadDir(a.path("forks"))
		if err != nil || len(files) != 1 || !strings.Contains(errOut.String(), files[0].Name()) || !strings.Contains(out.String(), "FOUND FORK at height 80") {
			t.Fatalf("%v %v\n%s\n%s", files, err, out, errOut)
		}
	})
}

func TestVerifyUsage(t *testing.T) {
	t.Setenv("AGENTKEYS_HOME", t.TempDir())
	var out, errOut bytes.Buffer
	if code := run([]string{"verify", "--bundle", "x", "--save", "y"}, strings.NewReader(""), &out, &errOut); code != exitUsage {
		t.Errorf("exit %d: %s", code, &errOut)
	}
	for _, text := range []string{"", "0x00 keybytes", "x", "0xba1bdcfd349735e5c8d0b35496f0f02753f67c68 keybytes"} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readViewingKey(path); err == nil || strings.Contains(err.Error(), "keybytes") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
