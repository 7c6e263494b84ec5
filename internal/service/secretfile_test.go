package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A secret comes from a file that nobody else reads; its last line counts.
func TestSecretFile(t *testing.T) {
	write := func(content string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if got, err := SecretFile(write("# the payer\nabcd\n", 0o600)); err != nil || got != "abcd" {
		t.Errorf("%q, %v", got, err)
	}
	for name, c := range map[string]struct{ path, says string }{
		"not given":  {"", "--help"},
		"not there":  {filepath.Join(t.TempDir(), "none"), "no such file"},
		"open modes": {write("abcd", 0o640), "0600"},
	} {
		if got, err := SecretFile(c.path); err == nil || got != "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
