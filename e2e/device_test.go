package e2e

import (
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys/erasure/anchortest/emulator"
	"example.org/agentkeys/erasure/kmsanchor/fakekms"
	"example.org/agentkeys/internal/devstack"
)

// TestTPMAnchor: a vault goes from files to a TPM alone, destroys epochs there, outlives the
// TPM's being away, and trusts no other one in its place.
func TestTPMAnchor(t *testing.T) {
	bin := binaries(t)
	tpm := emulator.StartTPM(t)
	v := startWith(t, devstack.Options{Bin: bin, Anchors: []string{"tpm:" + tpm.Socket + "?interval=2s"}})
	p := v.enrol(t)
	p.store(t, "kept")
	onlyDevice(t, v, p, "tpm")
	if out, _, _ := v.cli(t, "", "doctor"); !strings.Contains(out, "A virtual TPM is a file of whoever runs the host") {
		t.Errorf("doctor does not tell the TPM's limit:\n%s", out)
	}

	// Without it nothing opens after a start, and the log says why; with it all is back.
	tpm.Stop()
	v.kill(t, "agentkeys-custodian")
	within(t, 30*time.Second, "the log tells of the TPM", func() bool { return strings.Contains(v.custodianLog(t), "tpm anchor: ") })
	if _, err := p.read(t.Context(), "kept"); err == nil {
		t.Error("read without any anchor")
	}
	other := emulator.StartTPM(t)
	if err := os.Rename(other.Socket, tpm.Socket); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the log tells of another TPM", func() bool { return strings.Contains(v.custodianLog(t), "another storage key answers") })
	other.Stop()
	if err := os.Remove(tpm.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	tpm.Start()
	within(t, 30*time.Second, "the TPM's root opens the tree", func() bool { _, err := p.read(t.Context(), "kept"); return err == nil })
	before := p.ask(t)
	p.rotated(t, before)
	p.mustRead(t, "kept")
}

// TestPKCS11Anchor is the same on a token, with the custodian that is built for it.
func TestPKCS11Anchor(t *testing.T) {
	bin := binaries(t)
	token := emulator.NewToken(t)
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
	t.Setenv("HOME", token.Home) // the stack's children have no other way to the token
	write(t, filepath.Join(token.Home, "pin"), token.PIN+"\n")
	place := "pkcs11:" + filepath.Join(token.Home, "anchor") + "?library=" + token.Library + "&token=" + token.Label + "&pin-file=" + filepath.Join(token.Home, "pin")
	v := startWith(t, devstack.Options{Bin: mixed, Anchors: []string{place}})
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

// An anchor that the custodian does not understand is told and not remembered: no start
// would succeed any more.
func TestAnchorThatIsNotUnderstood(t *testing.T) {
	opt := devstack.Options{Bin: binaries(t), Dir: t.TempDir(), Anchors: []string{"pkcs11:/nowhere"}}
	if s, err := devstack.Open(opt); err == nil || !strings.Contains(err.Error(), "library is missing") {
		if err == nil {
			s.Close()
		}
		t.Fatalf("%v", err)
	}
	opt.Anchors = nil
	s, err := devstack.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if more := s.Config().More; len(more) != 0 {
		t.Errorf("remembered: %v", more)
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
