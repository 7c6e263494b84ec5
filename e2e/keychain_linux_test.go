package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeychain keeps a wallet's passphrase in a real Secret Service, in a session bus of
// its own.
func TestKeychain(t *testing.T) {
	for _, tool := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("AGENTKEYS_CLIENTS") != "" {
				t.Fatalf("%s is missing, though AGENTKEYS_CLIENTS is set", tool)
			}
			t.Skipf("needs %s: scripts/clients.sh DIR, then AGENTKEYS_CLIENTS=DIR", tool)
		}
	}
	v := start(t)
	home := t.TempDir()
	for _, dir := range []string{".cache", ".local/share/keyrings"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	self := filepath.Join(v.bin, "agentkeys")
	script := fmt.Sprintf(`printf pass | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1
%[1]s init --keychain && printf value | %[1]s store github && %[1]s logout && %[1]s login && %[1]s read github --reveal && %[1]s config show`, self)
	run := func(script string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "dbus-run-session", "--", "sh", "-c", script)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + home, "AGENTKEYS_HOME=" + v.home}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run(script)
	if err != nil || !strings.Contains(out, "system's keychain") || !strings.Contains(out, "\nvalue\n") {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(v.path("wallet.json"))
	if err != nil || !strings.Contains(string(b), `"unlock": "keychain"`) {
		t.Errorf("%s %v", b, err)
	}
	// Without the keychain the wallet stays shut, whatever passphrase is offered.
	if out, err := run(self + " logout; AGENTKEYS_PASSPHRASE_FILE=" + v.path("passphrase") + " " + self + " login"); err == nil || !strings.Contains(out, "keychain") {
		t.Errorf("%v: %s", err, out)
	}
}
