package e2e

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/agentkeys/ledger"
)

// idle: nobody asks for anything, so the chain makes no block.
func idle(t *testing.T, v *vault) {
	n, err := ledger.NewNode(v.cfg.RPC())
	if err != nil {
		t.Fatal(err)
	}
	height := func() uint64 {
		st, err := n.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st.Height
	}
	// Read records and erasures of what ran before settle first.
	last, since := height(), time.Now()
	within(t, 30*time.Second, "three seconds without a block", func() bool {
		if now := height(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 3*time.Second
	})
}

// storeAway: an outage of the store is told as one, changes nothing, and ends.
func storeAway(t *testing.T, v *vault) {
	p := v.enrol(t)
	p.store(t, "kept")
	v.kill(t, "agentkeys-custodian") // nothing is in its cache now
	within(t, 20*time.Second, "the custodian answers", func() bool { _, err := p.c.List(t.Context()); return err == nil })
	resume := v.pause(t, "agentkeys-devcloud")
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := p.read(t.Context(), "kept")
		says(t, "read without a store", err, "store_unavailable", "Try again")
	})
	wg.Go(func() {
		says(t, "write without a store", p.put(t.Context(), "later"), "store_unavailable", "Try again")
	})
	wg.Wait()
	resume()
	within(t, 20*time.Second, "the store answers", func() bool { _, err := p.read(t.Context(), "kept"); return err == nil })
	p.mustRead(t, "kept")
	p.store(t, "later")
	p.mustRead(t, "later")
}

// nodeAway: without new blocks nothing is decided; afterwards everything goes on.
func nodeAway(t *testing.T, v *vault) {
	p := v.enrol(t)
	resume := v.pause(t, "agentkeysd")
	time.Sleep(2500 * time.Millisecond) // the head grows older than max_head_age
	_, err := p.read(t.Context(), "first")
	says(t, "read without a node", err, "", "Try again")
	resume()
	within(t, 30*time.Second, "the node answers", func() bool { _, err := p.read(t.Context(), "first"); return err == nil })
	p.store(t, "later")
	p.mustRead(t, "first", "later")
}

// pause stops a part of the stack without ending it.
func (v *vault) pause(t *testing.T, name string) (resume func()) {
	t.Helper()
	pid := v.pid(t, name)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	return func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}
}

func says(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: worked", what)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v; want it to say %q", what, err, p)
		}
	}
}
