package main

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tools puts stand-ins in PATH that write down how they were called. They fail while
// the file "broken" is there.
func tools(t *testing.T, names ...string) (log func() string, broken string) {
	t.Helper()
	dir := t.TempDir()
	broken = filepath.Join(dir, "broken")
	for _, n := range names {
		script := "#!/bin/sh\n[ -e " + broken + " ] && { echo no space >&2; exit 3; }\necho " + n + " \"$@\" >>" + dir + "/log\n"
		if err := os.WriteFile(filepath.Join(dir, n), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	return func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "log"))
		_ = os.Remove(filepath.Join(dir, "log"))
		return strings.ReplaceAll(string(b), "\n", ";")
	}, broken
}

func TestTrustStore(t *testing.T) {
	certificate := func(s string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(s)})
	}
	// SHA-1 of "old" and "new".
	const oldHash, newHash = "C00DBBC9DADFBE1E232E93A729DD4752FADE0ABF", "C2A6B03F190DFB2B4AA91F8AF8D477A9BC3401DC"
	for _, c := range []struct {
		system, tool, file, add string
		undo                    func(file, hash string) string
	}{
		{"linux", "update-ca-certificates", "/usr/local/share/ca-certificates/agentkeys-work.crt", "update-ca-certificates;",
			func(string, string) string { return "update-ca-certificates;" }},
		{"linux", "update-ca-trust", "/etc/pki/ca-trust/source/anchors/agentkeys-work.crt", "update-ca-trust;",
			func(string, string) string { return "update-ca-trust;" }},
		{"darwin", "security", "/home/proxy/agentkeys-work.crt", "security add-trusted-cert -d -r trustRoot -p ssl -k " + macKeychain + " FILE;",
			func(file, hash string) string {
				return "security remove-trusted-cert -d " + file + ";security delete-certificate -Z " + hash + " " + macKeychain + ";"
			}},
	} {
		t.Run(c.tool, func(t *testing.T) {
			log, broken := tools(t, c.tool)
			root := t.TempDir()
			t.Setenv("AGENTKEYS_TRUST_ROOT", root)
			store := func() trustStore {
				s, err := storeOf(c.system, root+"/home", "work")
				if err != nil || s.file != root+c.file {
					t.Fatal(s.file, err)
				}
				return s
			}
			add := strings.ReplaceAll(c.add, "FILE", root+c.file)
			if s := store(); s.installed() || s.undo(t.Context()) == nil {
				t.Error("undoes what is not there")
			}
			if err := store().install(t.Context(), certificate("old")); err != nil || log() != add {
				t.Fatal(err)
			}
			if err := store().install(t.Context(), certificate("new")); err != nil {
				t.Fatal(err)
			}
			if got, want := log(), c.undo(root+c.file, oldHash)+add; got != want {
				t.Errorf("installed again:\n%s, want\n%s", got, want)
			}
			if b, _ := os.ReadFile(root + c.file); string(b) != string(certificate("new")) {
				t.Error("the new certificate is not there")
			}
			// What fails leaves the certificate, so that it can be tried again.
			if err := os.WriteFile(broken, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := store().undo(t.Context()); err == nil || !strings.Contains(err.Error(), "no space") || !store().installed() {
				t.Errorf("a tool that fails: %v, installed %v", err, store().installed())
			}
			if err := os.Remove(broken); err != nil {
				t.Fatal(err)
			}
			if err := store().undo(t.Context()); err != nil || store().installed() {
				t.Error(err)
			}
			if got := log(); got != c.undo(root+c.file, newHash) {
				t.Errorf("undone by %s", got)
			}
			// And an installation that fails leaves nothing.
			if err := os.WriteFile(broken, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := store().install(t.Context(), certificate("new")); err == nil || store().installed() {
				t.Errorf("a failed installation: %v", err)
			}
		})
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := storeOf("linux", "", "work"); err == nil {
		t.Error("an unknown system has a store")
	}
}
