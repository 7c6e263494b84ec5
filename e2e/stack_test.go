package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/internal/devstack"
	"example.org/agentkeys/internal/thief"
)

// TestStack plays everything that can share one stack, in this order: what is
// damaged or looked for in every file comes last.
func TestStack(t *testing.T) {
	v := start(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *vault)
	}{
		{"journey", journey},
		{"revocation", revocation},
		{"thief", theft},
		{"core files", noCoreFiles},
		{"rewrap", rewrapped},
		{"second process", secondProcess},
		{"idle", idle},
		{"store away", storeAway},
		{"node away", nodeAway},
		{"operator screen", operatorScreen},
		{"crash", crashes},
		{"audit", auditOverCrash},
		{"due row", dueRowOverCrash},
		{"rotator", rotatorDies},
		{"tampered", tampered},
		{"canary", canary},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, v) })
	}
}

// vault is a running stack with the home of a person who uses it.
type vault struct {
	bin, home string
	cfg       devstack.Config
	stack     *devstack.Stack
	store     *thief.Recorder

	mu     sync.Mutex
	values map[string]bool // every value that was ever stored
}

func binaries(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("AGENTKEYS_BIN")
	if dir == "" {
		t.Skip("needs the built binaries: run make test, or set AGENTKEYS_BIN to their directory")
	}
	if !filepath.IsAbs(dir) {
		t.Fatalf("AGENTKEYS_BIN=%s: want an absolute path", dir)
	}
	return dir
}

// start brings a stack up and, at the end of the test, down.
func start(t *testing.T) *vault {
	t.Helper()
	return startWith(t, devstack.Options{Bin: binaries(t)})
}

// startWith lacks a directory.
func startWith(t *testing.T, opt devstack.Options) *vault {
	t.Helper()
	v := &vault{bin: opt.Bin, home: t.TempDir(), values: map[string]bool{}}
	write(t, v.path("passphrase"), "correct horse")
	opt.Dir = v.path("dev")
	stack, err := devstack.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	v.stack = stack
	v.store = thief.NewRecorder(v.bucket())
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan devstack.Config, 1), make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- stack.Run(ctx, func(c devstack.Config) error { ready <- c; return nil }) })
	wg.Go(func() { _ = v.store.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
		if err := <-done; err != nil {
			t.Errorf("the stack ended with %v", err)
		}
		_ = stack.Close()
		if t.Failed() {
			v.showLogs(t)
		}
	})
	select {
	case v.cfg = <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("the stack did not start: %v", err)
	}
	v.profile(t)
	return v
}

// profile writes what "dev start" would.
func (v *vault) profile(t *testing.T) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"custodian": v.cfg.API(), "pin": v.cfg.Custodian.Pin, "vault_id": v.cfg.VaultID,
		"chain_id": v.cfg.ChainID, "node": v.cfg.RPC(), "relay": v.cfg.Relay(), "trust_height": v.cfg.Trust.Height,
		"trust_hash": v.cfg.Trust.Hash, "dev": v.path("dev")})
	if err != nil {
		t.Fatal(err)
	}
	write(t, v.path("profiles", "default.json"), string(b))
}

func (v *vault) path(parts ...string) string {
	return filepath.Join(append([]string{v.home}, parts...)...)
}

func (v *vault) bucket() string {
	return v.path("dev", "cloud", "objects", "agentkeys-vault-dev")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keep remembers a value for the canary and gives it back.
func (v *vault) keep(value string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.values[value] = true
	return value
}

// cli runs the command as a person does, in the person's home.
func (v *vault) cli(t *testing.T, stdin string, args ...string) (out, errOut string, code int) {
	t.Helper()
	return v.command(t, nil, stdin, args...)
}

// cliEnv is cli with more in the environment.
func (v *vault) cliEnv(t *testing.T, env []string, args ...string) (out, errOut string, code int) {
	t.Helper()
	return v.command(t, env, "", args...)
}

func (v *vault) command(t *testing.T, env []string, stdin string, args ...string) (out, errOut string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute) // also in a cleanup
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(v.bin, "agentkeys"), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "AGENTKEYS_HOME=" + v.home, "AGENTKEYS_PASSPHRASE_FILE=" + v.path("passphrase")}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// must is cli for what has to work.
func (v *vault) must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, errOut, code := v.cli(t, stdin, args...)
	if code != 0 {
		t.Fatalf("agentkeys %s: exit %d: %s", strings.Join(args, " "), code, errOut)
	}
	return out
}

// fails is cli for what has to fail, with what standard error must say.
func (v *vault) fails(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	out, errOut, got := v.cli(t, "", args...)
	if got != code || !strings.Contains(errOut, says) || out != "" {
		t.Errorf("agentkeys %s: exit %d, stdout %q, stderr %q; want exit %d saying %q", strings.Join(args, " "), got, out, errOut, code, says)
	}
}

// kill ends a part of the stack without warning and waits until its successor runs.
func (v *vault) kill(t *testing.T, name string) {
	t.Helper()
	pid := v.pid(t, name)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, name+" runs again", func() bool {
		now := v.stack.Processes()[name]
		return now != 0 && now != pid
	})
}

func (v *vault) pid(t *testing.T, name string) int {
	t.Helper()
	pid := v.stack.Processes()[name]
	if pid == 0 {
		t.Fatalf("%s does not run", name)
	}
	return pid
}

// within polls until ok; it bounds a wait and measures nothing.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(30 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func (v *vault) showLogs(t *testing.T) {
	logs, _ := filepath.Glob(v.path("dev", "log", "*.log"))
	for _, l := range logs {
		b, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		t.Logf("%s:\n%s", filepath.Base(l), b[max(0, len(b)-3000):])
	}
}

// canary looks for every value that was stored, as it is and in the usual texts, in
// every file that the run has left or that the store ever held.
func canary(t *testing.T, v *vault) {
	// A slow machine has stored fewer meanwhile.
	p := v.enrol(t)
	for i := 0; len(v.values) < 50; i++ {
		if err := p.put(t.Context(), agentkeys.Service(fmt.Sprintf("canary-%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	files := 0
	err := filepath.WalkDir(v.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it may vanish while a process works on it
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		files++
		v.look(t, path, b)
		return nil
	})
	if err != nil || files < 50 {
		t.Fatalf("%d files looked at: %v", files, err)
	}
	for name, b := range v.store.Objects() {
		v.look(t, "object "+name, b)
	}
	planted := v.path("planted")
	write(t, planted, "x"+v.keep("canary-of-the-canary")+"y")
	b, err := os.ReadFile(planted)
	if err != nil || !v.found(b, "canary-of-the-canary") {
		t.Fatalf("a planted value is not found: %v", err)
	}
}

func (v *vault) look(t *testing.T, where string, b []byte) {
	for value := range v.values {
		if v.found(b, value) {
			t.Errorf("%s holds the value %s", where, value)
		}
	}
}

func (v *vault) found(b []byte, value string) bool {
	raw := []byte(value)
	return bytes.Contains(b, raw) || bytes.Contains(b, []byte(hex.EncodeToString(raw))) ||
		bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString(raw)))
}
