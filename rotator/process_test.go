//go:build linux

package rotator_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"example.org/agentkeys/channel"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rotation"
)

// startProgram runs the built program as the operator does, which says what it must.
func startProgram(t testing.TB, bin, says string, args ...string) (c *courier, pid int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer near.Close()
	defer far.Close()
	c = &courier{t: t}
	random(c.vault[:])
	if c.conn, err = net.FileConn(near); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(bin, append(args, "--vault", c.vault.String())...)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{far}, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.conn.Close()
		if err := cmd.Wait(); err != nil || stderr.String() != says {
			t.Errorf("the program: %v, it says %q", err, stderr.String())
		}
	})
	_, hello := c.ask(rotation.Hello, nil)
	keys := len(channel.PublicKeys{}.Append(nil))
	if len(hello) < 32+keys {
		t.Fatalf("its greeting has %d bytes; it says %q", len(hello), stderr.String())
	}
	if c.pub, err = channel.ParsePublicKeys(hello[32 : 32+keys]); err != nil {
		t.Fatal(err)
	}
	return c, cmd.Process.Pid
}

// built is the program, made as scripts/build.sh makes it.
func built(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no Go toolchain in PATH; make test brings one")
	}
	bin := filepath.Join(t.TempDir(), "agentkeys-rotator")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-p", "2", "-trimpath", "-ldflags=-s -w", "-o", bin, "../cmd/agentkeys-rotator")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=runtimesecret", "GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// innermost is the process that does the work: the program's own child.
func innermost(t testing.TB, parent int) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && status(dir, "PPid") == strconv.Itoa(parent) {
			return pid
		}
	}
	t.Fatal("the program has not started itself again")
	return 0
}

// status is a line of what the kernel says of a process, "" when it is gone.
func status(dir, key string) string {
	b, err := os.ReadFile(dir + "/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func resident(t *testing.T, pid int) (kib int) {
	t.Helper()
	s := status(fmt.Sprintf("/proc/%d", pid), "VmRSS")
	if _, err := fmt.Sscanf(s, "%d kB", &kib); err != nil {
		t.Fatalf("VmRSS is %q", s)
	}
	return kib
}

// TestSandboxedJobs: the program makes, moves and wraps while it is shut in, and what
// it uses of memory stays.
func TestSandboxedJobs(t *testing.T) {
	c, outer := startProgram(t, built(t), "")
	pid := innermost(t, outer)
	for key, want := range map[string]string{"Seccomp": "2", "NoNewPrivs": "1", "NSpid": fmt.Sprintf("%d\t1", pid)} {
		if got := status(fmt.Sprintf("/proc/%d", pid), key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	round := func(n int) {
		makeJob(t, c)
		moveAndCheck(t, c, n)
		wrapJob(t, c, 1, 2, true)
	}
	round(300)
	before := resident(t, pid)
	for range 4 {
		round(700)
	}
	after := resident(t, pid)
	t.Logf("resident: %d KiB after 300 entries, %d KiB after 2,800 more", before, after)
	if after > before*3/2 || after > 64<<10 {
		t.Errorf("resident memory grows from %d to %d KiB", before, after)
	}
}

// TestWithoutSandbox: the flag is obeyed, and told.
func TestWithoutSandbox(t *testing.T) {
	c, pid := startProgram(t, built(t), withoutSandbox, "--no-sandbox")
	if got := status(fmt.Sprintf("/proc/%d", pid), "Seccomp"); got != "0" {
		t.Errorf("Seccomp is %q", got)
	}
	makeJob(t, c)
}

const withoutSandbox = "agentkeys-rotator: sandbox: off, by --no-sandbox\n"

// BenchmarkMove moves 256 credentials in a job, in the sandbox and without. What the
// processor did for the program tells more than the clock when others work here too.
func BenchmarkMove(b *testing.B) {
	bin := built(b)
	run := func(b *testing.B, c *courier, pid int) {
		m := newMove(b, c, receipt.MaxRows)
		before := ticks(b, pid)
		for b.Loop() {
			if _, _, ok := m.play(b, c); !ok {
				b.Fatal("it died")
			}
		}
		b.ReportMetric(float64(ticks(b, pid)-before)*10/float64(b.N), "cpu-ms/op")
	}
	b.Run("open", func(b *testing.B) {
		c, pid := startProgram(b, bin, withoutSandbox, "--no-sandbox")
		run(b, c, pid)
	})
	b.Run("sandbox", func(b *testing.B) {
		c, outer := startProgram(b, bin, "")
		run(b, c, innermost(b, outer))
	})
}

// ticks is the processor time of a process in hundredths of a second.
func ticks(b *testing.B, pid int) (n int) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	for _, f := range strings.Fields(rest)[11:13] { // user and system time
		t, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		n += t
	}
	return n
}
