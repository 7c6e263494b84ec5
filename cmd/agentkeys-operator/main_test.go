package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A secret comes from a file that nobody else reads; its last line counts.
func TestReadSecretFile(t *testing.T) {
	write := func(content string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if got, err := readSecretFile(write("# the payer\nabcd\n", 0o600)); err != nil || got != "abcd" {
		t.Errorf("%q, %v", got, err)
	}
	for name, c := range map[string]struct{ path, says string }{
		"not given":  {"", "--help"},
		"not there":  {filepath.Join(t.TempDir(), "none"), "no such file"},
		"open modes": {write("abcd", 0o640), "0600"},
	} {
		if got, err := readSecretFile(c.path); err == nil || got != "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// The relay answers anybody who reaches it, so only this machine does.
func TestListen(t *testing.T) {
	ln, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for addr, says := range map[string]string{
		ln.Addr().String(): "in use", "0.0.0.0:0": "loopback", ":0": "loopback", "192.0.2.1:80": "loopback", "localhost": "--listen",
	} {
		if ln, err := listen(addr); err == nil {
			ln.Close()
			t.Errorf("%s: accepted", addr)
		} else if !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", addr, err, says)
		}
	}
}
