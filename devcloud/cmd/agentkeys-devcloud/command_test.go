package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/blobstore/conformance"
)

// Without descriptor 3 the ready line is all that standard output carries, also
// where versitygw would print something of its own.
func TestReadyOnStdout(t *testing.T) {
	c := newCloud(t, "--versioned")
	cmd := c.command("--stop-on-eof")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(stdout)
	line, _ := r.ReadString('\n')
	stdin.Close()
	rest, _ := io.ReadAll(r)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(line, `ready {"s3":"http://127.0.0.1:`) || len(rest) != 0 {
		t.Errorf("standard output %q and %q, want one ready line", line, rest)
	}
}

func TestStoppedWhileStarting(t *testing.T) {
	cmd := newCloud(t).command("--stop-on-eof")
	cmd.Stdin = strings.NewReader("")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestStopOnEOF(t *testing.T) {
	c := newCloud(t)
	p := c.start(t, "--stop-on-eof")
	if out, _ := c.command().CombinedOutput(); !bytes.Contains(out, []byte("in use by process")) {
		t.Errorf("second process on the directory: %s", out)
	}
	p.stdin.Close()
	if code := c.wait(t); code != 0 {
		t.Errorf("exit code %d, stderr %s", code, p.stderr)
	}
}

func TestEOFAloneDoesNotStop(t *testing.T) {
	c := newCloud(t)
	p := c.start(t)
	p.stdin.Close()
	c.publish(t, c.issuer)
	if err := c.store(t, p.ends).System().Put(t.Context(), "probe/x", nil); err != nil {
		t.Error(err)
	}
	if code := c.stop(t, unix.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, flag := range []string{"--s3", "--sts"} {
		c := newCloud(t)
		cmd := c.command(flag, l.Addr().String())
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !bytes.Contains(out, []byte("is in use; stop the other process")) {
			t.Errorf("%s: exit %d, %s", flag, cmd.ProcessState.ExitCode(), out)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
	}{
		{[]string{"--help"}, 0}, {[]string{"--nonsense"}, 2}, {[]string{"extra"}, 2}, {[]string{"--s3", "0.0.0.0:0"}, 1},
	} {
		cmd := newCloud(t).command(test.args...)
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != test.code {
			t.Errorf("%v: exit code %d, want %d", test.args, code, test.code)
		}
	}
}

// The key file may come after the start, and a rotated issuer key works at once.
func TestKeysAppearAndRotate(t *testing.T) {
	c := newCloud(t)
	ends := c.start(t).ends
	user := agentkeys.Wallet{1}
	key := blobstore.Key(user, 1, agentkeys.ServiceID{}, agentkeys.BlobID{})
	if err := c.store(t, ends).Put(t.Context(), user, key, nil); err == nil {
		t.Fatal("a token was taken without any key")
	}
	c.publish(t, c.issuer)
	if err := c.store(t, ends).Put(t.Context(), user, key, nil); err != nil {
		t.Fatal(err)
	}
	old := c.issuer
	next, err := conformance.NewIssuer(old.URL, old.Audience, "key-2")
	if err != nil {
		t.Fatal(err)
	}
	c.publish(t, next)
	c.issuer = next
	if _, err := c.store(t, ends).Get(t.Context(), user, key, 1); err != nil {
		t.Errorf("new key: %v", err)
	}
	c.issuer = old
	if _, err := c.store(t, ends).Get(t.Context(), user, key, 1); err == nil {
		t.Error("a removed key still works")
	}
}

// Whatever was acknowledged before kill -9 is there afterwards, whole.
func TestKilled(t *testing.T) {
	c := newCloud(t)
	c.publish(t, c.issuer)
	ends := c.start(t).ends
	store := c.store(t, ends)
	user := agentkeys.Wallet{2}
	body := bytes.Repeat([]byte("sealed"), 2000)
	var mu sync.Mutex
	var acknowledged []string
	var writers sync.WaitGroup
	var enough atomic.Int32
	reached := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				key := blobstore.Key(user, agentkeys.Epoch(w+1), agentkeys.ServiceID{byte(n)}, agentkeys.BlobID{byte(n >> 8), byte(n), byte(w)})
				if store.Put(t.Context(), user, key, body) != nil {
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, key)
				mu.Unlock()
				if enough.Add(1) == 100 {
					close(reached)
				}
			}
		})
	}
	<-reached
	c.stop(t, unix.SIGKILL)
	writers.Wait()
	c.restart(t, ends)
	for _, key := range acknowledged {
		got, err := store.Get(t.Context(), user, key, 1<<20)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%s: %d bytes, %v", key, len(got), err)
		}
	}
	if len(acknowledged) < 100 {
		t.Errorf("only %d writes before the kill", len(acknowledged))
	}
}
