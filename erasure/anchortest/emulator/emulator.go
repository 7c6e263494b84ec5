// Package emulator gives tests a TPM and a PKCS#11 token in software: swtpm and SoftHSM,
// as Debian has them. A test skips where they are missing, and fails where AGENTKEYS_NEED
// names them.
package emulator

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// missing ends a test that needs something of a Debian package.
func missing(t *testing.T, what, deb string) {
	t.Helper()
	if slices.Contains(strings.Fields(os.Getenv("AGENTKEYS_NEED")), deb) {
		t.Fatalf("AGENTKEYS_NEED names %s, and %s is not there", deb, what)
	}
	t.Skipf("%s is not there; on Debian: apt-get install %s", what, deb)
}

// TPM is a TPM 2.0 in a process.
type TPM struct {
	State  string // directory: what the host of a virtual TPM has
	Socket string // Unix socket
	t      *testing.T
	cmd    *exec.Cmd
}

// StartTPM starts a new one, which stops with the test.
func StartTPM(t *testing.T) *TPM {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		missing(t, "swtpm", "swtpm")
	}
	dir, err := os.MkdirTemp("", "tpm") // short: the path of a socket has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &TPM{t: t, State: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "sock")}
	if err := os.Mkdir(s.State, 0o700); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start is power that comes back.
func (s *TPM) Start() {
	s.t.Helper()
	s.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+s.State, "--server", "type=unixio,path="+s.Socket,
		"--flags", "not-need-init,startup-clear")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", s.Socket)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("swtpm does not start: %v", err)
		}
	}
}

// Stop is a power loss.
func (s *TPM) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
	os.Remove(s.Socket)
}

// Token is a PKCS#11 token in a directory.
type Token struct {
	Library    string // path
	Home       string // SoftHSM finds the token by this HOME, or by the test's environment
	Tokens     string // directory: the token itself
	Label, PIN string
}

// NewToken makes one for this test.
func NewToken(t *testing.T) Token {
	t.Helper()
	util, err := exec.LookPath("softhsm2-util")
	if err != nil {
		missing(t, "softhsm2-util", "softhsm2")
	}
	k := Token{Home: t.TempDir(), Label: "agentkeys", PIN: "4321"}
	k.Tokens = filepath.Join(k.Home, "tokens")
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			k.Library = path
		}
	}
	if k.Library == "" {
		missing(t, "SoftHSM's library", "softhsm2")
	}
	conf := filepath.Join(k.Home, ".config", "softhsm2", "softhsm2.conf")
	for _, dir := range []string{k.Tokens, filepath.Dir(conf)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+k.Tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	out, err := exec.CommandContext(t.Context(), util, "--init-token", "--free", "--label", k.Label, "--pin", k.PIN, "--so-pin", "8765").CombinedOutput()
	if err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	return k
}
