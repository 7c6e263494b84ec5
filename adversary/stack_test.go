package adversary

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/client"
	"example.org/agentkeys/internal/devstack"
	"example.org/agentkeys/statement"
)

// stage is a running stack whose operator writes everything down.
type stage struct {
	home  string
	cfg   devstack.Config
	vault agentkeys.VaultID
	stack *devstack.Stack
	rec   *Recorder
}

// binaries links the built programs into a directory of its own, in which changed ones
// take the place of theirs.
func binaries(t *testing.T, changes ...Mutant) string {
	t.Helper()
	from := os.Getenv("AGENTKEYS_BIN")
	if from == "" {
		t.Skip("needs the built binaries: run make adversary, or set AGENTKEYS_BIN to their directory")
	}
	bin := t.TempDir()
	for _, name := range []string{"agentkeysd", "agentkeys-devcloud", "agentkeys-custodian", "agentkeys-rotator"} {
		// A copy: the vault allows the enclaves of this very build, whatever is built meanwhile.
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, name), b, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	recording, err := Change("recording")
	if err != nil {
		t.Fatal(err)
	}
	changes = append([]Mutant{recording}, changes...)
	for _, m := range changes {
		for _, p := range m.Programs {
			_ = os.Remove(filepath.Join(bin, p))
		}
	}
	if err := Build(t.Context(), t.TempDir(), bin, changes...); err != nil {
		t.Fatal(err)
	}
	return bin
}

// start brings the stack up and, at the end of the test, down. Epochs of its vault are
// old after some seconds.
func start(t *testing.T, cadence uint64, changes ...Mutant) *stage {
	t.Helper()
	s := &stage{home: t.TempDir()}
	bin := binaries(t, changes...)
	t.Setenv("TMPDIR", s.home) // the stack passes it on; the recording operator writes there
	params := statement.DefaultParams()
	params.MaxHeadAge, params.Cadence, params.DrainWindow = 1, cadence, cadence/2
	stack, err := devstack.Open(devstack.Options{Dir: s.path("dev"), Bin: bin, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	s.stack = stack
	s.rec = NewRecorder(map[string]string{"store": s.path("dev", "cloud", "objects", bucket), "anchor": s.path("dev", "anchor"),
		"home": s.path("dev", "custodian"), "log": s.path("dev", "log")})
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan devstack.Config, 1), make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { done <- stack.Run(ctx, func(c devstack.Config) error { ready <- c; return nil }) })
	running.Go(func() { _ = s.rec.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		if err := <-done; err != nil {
			t.Errorf("the stack ended with %v", err)
		}
		_ = stack.Close()
		if t.Failed() {
			s.showLogs(t)
		}
	})
	select {
	case s.cfg = <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("the stack did not start: %v", err)
	}
	if s.vault, err = s.cfg.Vault(); err != nil {
		t.Fatal(err)
	}
	return s
}

const bucket = "agentkeys-vault-dev"

func (s *stage) path(parts ...string) string {
	return filepath.Join(append([]string{s.home}, parts...)...)
}

func (s *stage) dial(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.Dial(client.Endpoint{URL: s.cfg.API(), Pin: s.cfg.Custodian.Pin, Vault: s.vault})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	custodian = "agentkeys-custodian"
	rotator   = "agentkeys-rotator"
)

// pids gives the processes of a name. A rotator in its sandbox is two, the second below
// the first.
func (s *stage) pids(name string) []int {
	all := s.stack.Processes()
	if name == rotator {
		return Descendants(all["agentkeys-operator"])
	}
	if pid := all[name]; pid != 0 {
		return []int{pid}
	}
	return nil
}

// kill ends a process without warning and waits until its successor runs.
func (s *stage) kill(t *testing.T, name string) {
	t.Helper()
	old := s.pids(name)
	t.Logf("kill -9 %s %v", name, old)
	for _, pid := range old {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	if name == rotator {
		return // the next job starts another
	}
	within(t, name+" runs again", func() bool {
		now := s.pids(name)
		return len(now) > 0 && !slices.Equal(now, old)
	})
}

// loot takes everything now. What a process of the stack is stopped in does not
// matter: the claim is for every moment.
func (s *stage) loot(t *testing.T) *Loot {
	t.Helper()
	pids := map[int]string{}
	for _, name := range []string{custodian, rotator} {
		within(t, name+" runs", func() bool { return len(s.pids(name)) > 0 })
		for _, pid := range s.pids(name) {
			pids[pid] = name
		}
	}
	l, err := Take(t.Context(), Scene{Vault: s.vault, RPC: s.cfg.RPC(), Home: s.path("dev", "custodian"), Frames: s.path("frames"),
		Processes: pids, S3: loopback(s.cfg.Ports.S3), STS: loopback(s.cfg.Ports.STS), Bucket: bucket,
		IssuerURL: "http://agentkeys.invalid/oidc", Audience: "agentkeys-vault", AnchorPath: s.path("dev", "anchor")}, s.rec)
	if err != nil {
		t.Fatal(err)
	}
	if l.NoImages != "" {
		if os.Getenv("CI") != "" {
			t.Fatalf("memory images are part of this test in CI: %s", l.NoImages)
		}
		t.Logf("SKIPPED: memory images: %s", l.NoImages)
	}
	return l
}

// within polls until ok; it bounds a wait and measures nothing.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come: %s", what)
		}
	}
}

func (s *stage) showLogs(t *testing.T) {
	logs, _ := filepath.Glob(s.path("dev", "log", "*.log"))
	for _, l := range logs {
		if b, err := os.ReadFile(l); err == nil {
			t.Logf("%s:\n%s", filepath.Base(l), b[max(0, len(b)-3000):])
		}
	}
}
