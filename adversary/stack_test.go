package adversary

import (
	"context"
	"os"
	"path/filepath"
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

// pids names the processes whose memory is taken; 0 for one that does not run.
func (s *stage) pids() map[string]int {
	all := s.stack.Processes()
	out := map[string]int{"agentkeys-custodian": all["agentkeys-custodian"], "agentkeys-rotator": 0}
	if rotators := Children(all["agentkeys-operator"], "agentkeys-rotator"); len(rotators) > 0 {
		out["agentkeys-rotator"] = rotators[0]
	}
	return out
}

// kill ends a process without warning and waits until its successor runs.
func (s *stage) kill(t *testing.T, name string) {
	t.Helper()
	pid := s.pids()[name]
	if pid == 0 {
		pid = s.stack.Processes()[name]
	}
	if pid == 0 {
		t.Logf("%s does not run, so it cannot be killed now", name)
		return
	}
	t.Logf("kill -9 %s", name)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if name == "agentkeys-rotator" {
		return // the next job starts another
	}
	within(t, name+" runs again", func() bool {
		now := s.stack.Processes()[name]
		return now != 0 && now != pid
	})
}

// loot takes everything now. What a process of the stack is stopped in does not
// matter: the claim is for every moment.
func (s *stage) loot(t *testing.T) *Loot {
	t.Helper()
	var pids map[string]int
	within(t, "custodian and rotator run", func() bool {
		pids = s.pids()
		return pids["agentkeys-custodian"] != 0 && pids["agentkeys-rotator"] != 0
	})
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
