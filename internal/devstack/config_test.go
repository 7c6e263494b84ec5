package devstack

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/agentkeys/statement"
)

func TestConfigIsKept(t *testing.T) {
	dir := t.TempDir()
	c, err := newConfig()
	if err != nil {
		t.Fatal(err)
	}
	c.Trust, c.Custodian.Pin = Trust{3, "aa"}, "pp"
	if err := c.save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := ReadConfig(dir)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%+v %v", got, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "dev.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	if _, err := got.Vault(); err != nil {
		t.Error(err)
	}
	other, err := newConfig()
	if err != nil || other.VaultID == c.VaultID || other.Anchors == c.Anchors || c.Anchors[0] == c.Anchors[1] || other.ChainID == c.ChainID {
		t.Error("two vaults share a name", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dev.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadConfig(dir); err == nil || !strings.Contains(err.Error(), "agentkeys dev reset") {
		t.Errorf("%v", err)
	}
	if _, err := ReadConfig(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := freePorts(6)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range ports {
		if p == 0 || seen[p] {
			t.Errorf("ports %v", ports)
		}
		seen[p] = true
		l, err := net.Listen("tcp", addr(p))
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
}

func TestDirectoryHasOneSupervisor(t *testing.T) {
	dir := t.TempDir()
	if pid, err := Running(dir); pid != 0 || err != nil {
		t.Fatalf("nothing runs: %d %v", pid, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := Running(dir); pid != os.Getpid() || err != nil {
		t.Errorf("running: %d %v", pid, err)
	}
	if _, err := lockDir(dir); !errors.Is(err, ErrRunning) {
		t.Errorf("a second lock: %v", err)
	}
	lock.Close()
	if pid, err := Running(dir); pid != 0 || err != nil {
		t.Errorf("after the end: %d %v", pid, err)
	}
	if ran, err := Stop(t.Context(), dir); ran || err != nil {
		t.Errorf("stop of nothing: %v %v", ran, err)
	}
}

// Asking whether a stack runs holds the lock for a moment: it must not keep one from
// starting.
func TestAskingDoesNotLock(t *testing.T) {
	dir := t.TempDir()
	asking, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(15*time.Millisecond, func() { asking.Close() })
	defer timer.Stop()
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

// Stop ends exactly the process that has the directory. The holder here is a shell
// with the lock's descriptor.
func TestStop(t *testing.T) {
	dir := t.TempDir()
	f, err := os.OpenFile(filepath.Join(dir, "supervisor.pid"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `echo $$ >&3; exec sleep 60`)
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	go func() { _ = cmd.Wait() }()
	within(t, "the holder's name", func() bool { pid, err := Running(dir); return err == nil && pid == cmd.Process.Pid })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if ran, err := Stop(ctx, dir); !ran || err != nil {
		t.Errorf("%v %v", ran, err)
	}
	if pid, err := Running(dir); pid != 0 || err != nil {
		t.Errorf("still %d, %v", pid, err)
	}
}

func TestStopOfWhatDoesNotEnd(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	// A name that is not this process: a signal to it must do no harm.
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `trap '' TERM; echo; while :; do sleep 0.1; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lock.Truncate(0), writeAt(lock, cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if ran, err := Stop(ctx, dir); !ran || err == nil || !strings.Contains(err.Error(), "kill -9") {
		t.Errorf("%v %v", ran, err)
	}
}

func TestOpenNamesWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir := t.TempDir()
	_, err := Open(Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Fatal(err)
	}
	if pid, err := Running(dir); pid != 0 || err != nil {
		t.Errorf("a failed Open keeps the lock: %d %v", pid, err)
	}
}

func TestParts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	free, err := freePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	parts := Parts("d", Config{Ports: Ports{RPC: l.Addr().(*net.TCPAddr).Port, S3: free[0], API: free[1], Relay: free[2]}})
	for i, up := range []bool{true, false, false, false} {
		if parts[i].Up != up || parts[i].Log != filepath.Join("d", "log", parts[i].Name+".log") {
			t.Errorf("%+v", parts[i])
		}
	}
}

func TestAccounts(t *testing.T) {
	key, signer, err := newAccount()
	if err != nil || len(key) != 32 {
		t.Fatal(err)
	}
	other, _, err := newAccount()
	if err != nil || string(other) == string(key) || !strings.HasPrefix(signer.Address().String(), "agent") {
		t.Errorf("%s %v", signer.Address(), err)
	}
}

func TestDevParams(t *testing.T) {
	p, d := DevParams(), statement.DefaultParams()
	if p.MaxHeadAge = d.MaxHeadAge; p != d {
		t.Errorf("the development vault differs in more than the head age: %+v", p)
	}
}

func writeAt(f *os.File, pid int) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(pid)+"\n"), 0)
	return err
}

// A port that somebody else has is named before anything is started on it.
func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	free, err := freePorts(5)
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = Ports{free[0], free[1], free[2], free[3], free[4], taken}.await(ctx)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("port %d is in use", taken)) {
		t.Fatalf("await: %v", err)
	}
	l.Close()
	if err := (Ports{free[0], free[1], free[2], free[3], free[4], taken}).await(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// That the rotator's sandbox is off is kept for dev status, and ends with a start that
// does not ask for it.
func TestSandboxIsOff(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"agentkeysd", "agentkeys-devcloud", "agentkeys-custodian", "agentkeys-operator", "agentkeys-rotator"} {
		if err := os.WriteFile(filepath.Join(bin, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, off := range []bool{false, true, false, true} {
		s, err := Open(Options{Dir: dir, Bin: bin, Open: off})
		if err != nil {
			t.Fatal(err)
		}
		s.late()
		if got := slices.Contains(s.operator.args, "--rotator-no-sandbox"); got != off {
			t.Errorf("off %v: the operator is told %v", off, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := ReadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		if told := c.Open() != ""; told != (off || runtime.GOOS != "linux") {
			t.Errorf("off %v: dev status says %q", off, c.Open())
		}
	}
}

func TestAnchorDirs(t *testing.T) {
	c, err := newConfig()
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := c.AnchorDirs("/d/anchor")
	if err != nil || len(dirs) != 2 {
		t.Fatalf("%v, %v", dirs, err)
	}
	seen := map[string]bool{}
	for _, d := range dirs {
		seen[d] = true
	}
	if !seen["/d/anchor/1"] || !seen["/d/anchor/2"] {
		t.Errorf("%v", dirs)
	}
	// A state from before there were two keeps its one.
	one := Config{Anchor: c.Anchors[0]}
	if dirs, err := one.AnchorDirs("/d/anchor"); err != nil || len(dirs) != 1 || fmt.Sprint(dirs) != "map["+c.Anchors[0]+":/d/anchor]" {
		t.Errorf("%v, %v", dirs, err)
	}
	c.Anchors[1] = "zz"
	if _, err := c.AnchorDirs(""); err == nil {
		t.Error("a damaged id was taken")
	}
}

// A further anchor gets an id once, and keeps it.
func TestMoreAnchors(t *testing.T) {
	c, err := newConfig()
	if err != nil {
		t.Fatal(err)
	}
	device := filepath.Join(t.TempDir(), "tpm")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.addAnchors([]string{"tpm:" + device + "?interval=1m", "kms:/k?region=eu-north-1"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.More) != 2 || c.More[0].ID == c.More[1].ID || c.More[1].Place != "kms:/k?region=eu-north-1" {
		t.Errorf("%+v", c.More)
	}
	if id, kind, err := c.More[0].parse(); err != nil || kind != statement.AnchorTPM || hex.EncodeToString(id[:]) != c.More[0].ID {
		t.Errorf("%x %d %v", id, kind, err)
	}
	if err := c.addAnchors([]string{"/dev/tpmrm0"}); err == nil || !strings.Contains(err.Error(), "want file, tpm, pkcs11 or kms") {
		t.Errorf("no kind: %v", err)
	}
	if err := c.addAnchors([]string{"tpm:" + device + "0"}); err == nil || !strings.Contains(err.Error(), "want the device of a TPM") || len(c.More) != 2 {
		t.Errorf("a TPM that is not there: %v", err)
	}
}
