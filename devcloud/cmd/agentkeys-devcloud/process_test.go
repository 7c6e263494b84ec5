package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/blobstore/conformance"
	"example.org/agentkeys/devcloud"
)

// childVariable makes the test binary behave as the command, so that tests run the
// real process.
const childVariable = "AGENTKEYS_DEVCLOUD_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a running agentkeys-devcloud.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	ends   devcloud.Endpoints
	stderr *strings.Builder
}

// cloud is a data directory with the issuer that its devcloud knows.
type cloud struct {
	dir, jwks string
	issuer    *conformance.Issuer
	extra     []string
	running   *process
}

func newCloud(t testing.TB, extra ...string) *cloud {
	t.Helper()
	issuer, err := conformance.NewIssuer("https://vault.test/oidc", "agentkeys-vault", "key-1")
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{dir: filepath.Join(t.TempDir(), "data"), jwks: filepath.Join(t.TempDir(), "jwks.json"), issuer: issuer, extra: extra}
	t.Cleanup(func() {
		if c.running != nil {
			_ = c.running.cmd.Process.Kill()
			_ = c.running.cmd.Wait()
		}
	})
	return c
}

func (c *cloud) publish(t testing.TB, issuers ...*conformance.Issuer) {
	t.Helper()
	b, err := conformance.JWKS(issuers...)
	if err == nil {
		err = os.WriteFile(c.jwks, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cloud) command(args ...string) *exec.Cmd {
	base := []string{"--dir", c.dir, "--issuer", c.issuer.URL, "--audience", c.issuer.Audience, "--jwks", c.jwks}
	cmd := exec.Command(os.Args[0], append(append(base, c.extra...), args...)...)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	return cmd
}

// start runs the command and waits for its ready line on descriptor 3.
func (c *cloud) start(t testing.TB, args ...string) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := &process{cmd: c.command(args...), stderr: &strings.Builder{}}
	p.cmd.ExtraFiles = []*os.File{w}
	p.cmd.Stderr = p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	c.running = p
	line, _ := bufio.NewReader(r).ReadString('\n')
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "ready ")), &p.ends); err != nil {
		t.Fatalf("ready line %q: %v; stderr: %s", line, err, p.stderr)
	}
	return p
}

// wait returns the exit code.
func (c *cloud) wait(t testing.TB) int {
	t.Helper()
	p := c.running
	c.running = nil
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
		t.Fatalf("process did not stop; stderr: %s", p.stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (c *cloud) stop(t testing.TB, signal unix.Signal) int {
	t.Helper()
	if err := c.running.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return c.wait(t)
}

// restart brings a stopped process back at the addresses it had.
func (c *cloud) restart(t testing.TB, was devcloud.Endpoints) {
	t.Helper()
	host := func(s string) string {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u.Host
	}
	c.start(t, "--s3", host(was.S3), "--sts", host(was.STS))
}

func (c *cloud) config(e devcloud.Endpoints) blobstore.Config {
	return blobstore.Config{
		Endpoint: e.S3, STSEndpoint: e.STS, Region: devcloud.Region,
		Bucket: devcloud.DefaultBucket, Account: devcloud.Account,
	}
}

func (c *cloud) store(t testing.TB, e devcloud.Endpoints) *blobstore.Store {
	t.Helper()
	s, err := blobstore.New(c.config(e), c.issuer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
