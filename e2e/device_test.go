package e2e

import (
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys/erasure/kmsanchor/fakekms"
	"example.org/agentkeys/internal/devstack"
)

// need skips where a program is missing, unless AGENTKEYS_NEED names what it belongs to.
func need(t *testing.T, program, name string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if slices.Contains(strings.Fields(os.Getenv("AGENTKEYS_NEED")), name) {
		t.Fatalf("AGENTKEYS_NEED names %s, and %s is not in PATH", name, program)
	}
	t.Skipf("%s is not in PATH; on Debian: apt-get install %s", program, name)
	return ""
}

// TestTPMAnchor: a vault goes from files to a TPM alone, destroys epochs there, outlives the
// TPM's being away, and trusts no other one in its place.
func TestTPMAnchor(t *testing.T) {
	bin := binaries(t)
	need(t, "swtpm", "swtpm")
	tpm := startTPM(t)
	v := startWith(t, devstack.Options{Bin: bin, Anchors: []string{"tpm:" + tpm.socket + "?interval=2s"}})
	p := v.enrol(t)
	p.store(t, "kept")
	onlyDevice(t, v, p, "tpm")
	if out, _, _ := v.cli(t, "", "doctor"); !strings.Contains(out, "A virtual TPM is a file of whoever runs the host") {
		t.Errorf("doctor does not tell the TPM's limit:\n%s", out)
	}

	// Without it nothing opens after a start, and the log says why; with it all is back.
	tpm.stop(t)
	v.kill(t, "agentkeys-custodian")
	within(t, 30*time.Second, "the log tells of the TPM", func() bool { return strings.Contains(v.custodianLog(t), "tpm anchor: ") })
	if _, err := p.read(t.Context(), "kept"); err == nil {
		t.Error("read without any anchor")
	}
	other := startTPM(t)
	if err := os.Rename(other.socket, tpm.socket); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the log tells of another TPM", func() bool { return strings.Contains(v.custodianLog(t), "another storage key answers") })
	other.stop(t)
	if err := os.Remove(tpm.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	tpm.start(t)
	within(t, 30*time.Second, "the TPM's root opens the tree", func() bool { _, err := p.read(t.Context(), "kept"); return err == nil })
	before := p.ask(t)
	p.rotated(t, before)
	p.mustRead(t, "kept")
}

// TestPKCS11Anchor is the same on a token, with the custodian that is built for it.
func TestPKCS11Anchor(t *testing.T) {
	bin := binaries(t)
	util := need(t, "softhsm2-util", "softhsm2")
	build := exec.CommandContext(t.Context(), "scripts/build.sh", "--pkcs11")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The five other programs, and this custodian.
	mixed := t.TempDir()
	for _, name := range []string{"agentkeys", "agentkeysd", "agentkeys-devcloud", "agentkeys-operator", "agentkeys-rotator"} {
		if err := os.Symlink(filepath.Join(bin, name), filepath.Join(mixed, name)); err != nil {
			t.Fatal(err)
		}
	}
	built, err := filepath.Abs("../bin/pkcs11/agentkeys-custodian")
	if err := errors.Join(err, os.Symlink(built, filepath.Join(mixed, "agentkeys-custodian"))); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".config", "softhsm2", "softhsm2.conf"), "directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	write(t, filepath.Join(dir, "pin"), "4321\n")
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir)
	if out, err := exec.CommandContext(t.Context(), util, "--init-token", "--free", "--label", "agentkeys", "--pin", "4321", "--so-pin", "8765").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	library := ""
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			library = path
		}
	}
	v := startWith(t, devstack.Options{Bin: mixed, Anchors: []string{"pkcs11:" + filepath.Join(dir, "anchor") + "?library=" + library + "&token=agentkeys&pin-file=" + filepath.Join(dir, "pin")}})
	p := v.enrol(t)
	p.store(t, "kept")
	onlyDevice(t, v, p, "pkcs11")
}

// TestKMSAnchor is the same on a KMS that keeps the semantics of AWS's.
func TestKMSAnchor(t *testing.T) {
	bin := binaries(t)
	kms, err := fakekms.New()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(kms)
	defer srv.Close()
	v := startWith(t, devstack.Options{Bin: bin, Anchors: []string{"kms:" + filepath.Join(t.TempDir(), "anchor") + "?endpoint=" + srv.URL}})
	p := v.enrol(t)
	p.store(t, "kept")
	onlyDevice(t, v, p, "kms")
	kms.Mu.Lock()
	defer kms.Mu.Unlock()
	full := 0
	for _, k := range kms.Keys {
		if k.Material != nil {
			full++
		} else if k.DeleteAt.IsZero() {
			t.Error("an empty key is not scheduled for deletion")
		}
	}
	if full != 1 || len(kms.Keys) < 2 {
		t.Errorf("%d of %d keys have material, want that of the present root", full, len(kms.Keys))
	}
}

// onlyDevice evicts the two files once the device's anchor is live. Then an epoch is
// destroyed, and a new process reads, with nothing but the device.
func onlyDevice(t *testing.T, v *vault, p *person, kind string) {
	t.Helper()
	list := func() string {
		b, err := exec.CommandContext(t.Context(), filepath.Join(v.bin, "agentkeys-operator"), "anchor", "list", "--node", v.cfg.RPC()).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		return string(b)
	}
	within(t, 30*time.Second, "three anchors are live", func() bool { return strings.Count(list(), "  live ") == 3 })
	if all := list(); !strings.Contains(all, "  "+kind+" ") {
		t.Errorf("the list names no %s:\n%s", kind, all)
	}
	before := p.ask(t)
	p.rotated(t, before)
	for _, id := range v.cfg.Anchors {
		if out, err := v.operator(t, "anchor", "evict", id); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if err := os.RemoveAll(v.path("dev", "anchor")); err != nil {
		t.Fatal(err)
	}
	v.kill(t, "agentkeys-custodian")
	within(t, 30*time.Second, "the device's root opens the tree", func() bool { _, err := p.read(t.Context(), "kept"); return err == nil })
	p.store(t, "later")
	before = p.ask(t)
	p.rotated(t, before)
	p.mustRead(t, "kept", "later")
	if out := v.must(t, "", "verify"); !strings.Contains(out, "anchors in use: 1 "+kind) {
		t.Errorf("verify does not say what the anchor is:\n%s", out)
	}
}

func (v *vault) custodianLog(t *testing.T) string {
	t.Helper()
	return string(read(t, v.path("dev", "log", "agentkeys-custodian.log")))
}

// softTPM is a TPM in a process.
type softTPM struct {
	dir, socket string
	cmd         *exec.Cmd
}

func startTPM(t *testing.T) *softTPM {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // short: the path of a socket has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &softTPM{dir: dir, socket: filepath.Join(dir, "sock")}
	s.start(t)
	t.Cleanup(func() { s.stop(t) })
	return s
}

func (s *softTPM) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+s.dir, "--server", "type=unixio,path="+s.socket, "--flags", "not-need-init,startup-clear")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "swtpm answers", func() bool {
		c, err := net.Dial("unix", s.socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (s *softTPM) stop(t *testing.T) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
	_ = os.Remove(s.socket)
}
