package operator

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/rotation"
	"example.org/agentkeys/statement"
)

func rotatorBin(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("AGENTKEYS_BIN")
	if dir == "" {
		t.Skip("needs the built rotator: run make test, or set AGENTKEYS_BIN to the directory of the binaries")
	}
	return filepath.Join(dir, "agentkeys-rotator")
}

// registry is a custodian that vouches for every rotator unless refusal is set.
type registry struct {
	mu      sync.Mutex
	seen    []api.RotatorHello
	refusal error
}

func (r *registry) vouch(_ context.Context, h api.RotatorHello) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, h)
	return r.refusal
}

func testPool(t *testing.T, bin string) (*rotatorPool, *registry, *bytes.Buffer) {
	t.Helper()
	reg, stderr := &registry{}, &bytes.Buffer{}
	p := &rotatorPool{bin: bin, vault: testVault, stderr: stderr, vouch: reg.vouch}
	t.Cleanup(p.close)
	return p, reg, stderr
}

func TestRotatorSaysWhatItIs(t *testing.T) {
	bin := rotatorBin(t)
	pool, reg, _ := testPool(t, bin)
	p, err := pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := pool.get(t.Context())
	if err != nil || again != p || len(reg.seen) != 1 {
		t.Fatalf("a live rotator is not used again: %v, vouched %d times", err, len(reg.seen))
	}
	h := reg.seen[0]
	m, err := attest.MeasureFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if h.Platform != uint8(statement.PlatformSoftware) || !bytes.Contains(h.Evidence, m[:]) {
		t.Error("the evidence does not hold the measurement of the file")
	}
	keys := append(append(append([]byte(nil), h.Key...), h.Noise...), h.MLKEM...)
	hash := attest.KeysHash(keys)
	if len(h.Key) != 32 || !bytes.Contains(h.Evidence, hash[:]) {
		t.Error("the evidence does not bind the keys")
	}
	if p.key() != hex.EncodeToString(h.Key) {
		t.Errorf("key %s", p.key())
	}
}

func TestRotatorDies(t *testing.T) {
	pool, reg, _ := testPool(t, rotatorBin(t))
	p, err := pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	if p.alive() {
		t.Error("a dead rotator counts as alive")
	}
	if _, err := p.ask(rotation.Hello, nil, rotation.Hello); err == nil {
		t.Error("a dead rotator answers")
	}
	next, err := pool.get(t.Context())
	if err != nil || next == p {
		t.Fatal("no successor", err)
	}
	if len(reg.seen) != 2 || bytes.Equal(reg.seen[0].Key, reg.seen[1].Key) || bytes.Equal(reg.seen[0].MLKEM, reg.seen[1].MLKEM) {
		t.Error("the successor has the keys of the dead")
	}
	if _, err := next.ask(rotation.Hello, nil, rotation.Hello); err != nil {
		t.Error(err)
	}
}

// The rotator ends after any error, so what it was told is gone.
func TestRotatorEndsAfterNonsense(t *testing.T) {
	for name, typ := range map[string]uint8{"unknown type": 99, "a frame without a job": rotation.Frame, "a handshake that is none": rotation.Handshake} {
		t.Run(name, func(t *testing.T) {
			pool, _, stderr := testPool(t, rotatorBin(t))
			p, err := pool.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.ask(typ, make([]byte, channel.FrameSize), typ); err == nil {
				t.Error("it answers")
			}
			select {
			case <-p.ended:
			case <-time.After(10 * time.Second):
				t.Fatal("it lives on")
			}
			if !strings.HasPrefix(stderr.String(), "agentkeys-rotator: ") {
				t.Errorf("it says %q", stderr)
			}
		})
	}
}

func TestRotatorWithoutVouch(t *testing.T) {
	pool, reg, _ := testPool(t, rotatorBin(t))
	reg.refusal = errors.New("measurement is not allowed")
	if _, err := pool.get(t.Context()); !errors.Is(err, reg.refusal) {
		t.Fatal(err)
	}
	if pool.p != nil {
		t.Error("a rotator that nobody vouches for is kept")
	}
	reg.refusal = nil
	if _, err := pool.get(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDropMayBeRepeated(t *testing.T) {
	pool, _, _ := testPool(t, rotatorBin(t))
	p, err := pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool.close()
	pool.close()
	p.stop()
	if p.alive() || pool.p != nil {
		t.Error("it lives on")
	}
}

func TestNotARotator(t *testing.T) {
	for name, bin := range map[string]string{"nothing there": filepath.Join(t.TempDir(), "none"), "another program": "/bin/sh"} {
		t.Run(name, func(t *testing.T) {
			pool, reg, _ := testPool(t, bin)
			if _, err := pool.get(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "rotator: ") {
				t.Errorf("%v", err)
			}
			if len(reg.seen) != 0 {
				t.Error("vouched for")
			}
		})
	}
}

// The operator leaves the sandbox off only when its configuration says so, and what
// the rotator says of that reaches the log.
func TestRotatorWithoutSandbox(t *testing.T) {
	for _, open := range []bool{false, true} {
		pool, _, stderr := testPool(t, rotatorBin(t))
		pool.open = open
		if _, err := pool.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		pool.close()
		if told := strings.Contains(stderr.String(), "sandbox: off, by --no-sandbox"); told != open {
			t.Errorf("open %v: it says %q", open, stderr)
		}
		if !open && runtime.GOOS == "linux" && stderr.Len() != 0 {
			t.Errorf("it says %q", stderr)
		}
	}
}
