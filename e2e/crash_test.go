package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/agentkeys"
)

// crashes kills every part in turn while writes go on: it comes back, and what was
// acknowledged is there.
func crashes(t *testing.T, v *vault) {
	for _, part := range []string{"agentkeysd", "agentkeys-devcloud", "agentkeys-custodian", "agentkeys-operator"} {
		t.Run(part, func(t *testing.T) {
			p := v.enrol(t)
			w := p.writers(t, 4)
			w.await(t, 8)
			v.kill(t, part)
			w.await(t, w.count()+8)
			w.stop()
			names := w.acked
			l := p.list(t)
			held := map[string]uint64{}
			for _, it := range l.Credentials {
				held[it.Service] = it.Version
			}
			for _, n := range names {
				if held[string(n)] == 0 {
					t.Errorf("%s was acknowledged and is not listed", n)
				}
			}
			if !l.Complete {
				t.Error("the list is not proven complete")
			}
			p.mustRead(t, names...)
		})
	}
}

// writers store new names until they are stopped and keep those acknowledged.
type writers struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	acked  []agentkeys.Service
	last   error
}

func (p *person) writers(t *testing.T, n int) *writers {
	ctx, cancel := context.WithCancel(t.Context())
	w := &writers{cancel: cancel}
	for i := range n {
		w.wg.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				name := agentkeys.Service(fmt.Sprintf("w%d-%d", i, k))
				err := p.put(ctx, name)
				w.mu.Lock()
				if err == nil {
					w.acked = append(w.acked, name)
				} else {
					w.last = err
				}
				w.mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(40 * time.Millisecond):
				}
			}
		})
	}
	t.Cleanup(w.stop)
	return w
}

func (w *writers) stop() { w.cancel(); w.wg.Wait() }

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

func (w *writers) await(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(45 * time.Second); w.count() < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("%d writes are acknowledged, want %d; the last error: %v", len(w.acked), n, w.last)
		}
	}
}

// auditOverCrash: a read that was answered is in the audit trail, under the sequence
// that its receipt names, though the custodian died before it could commit it.
func auditOverCrash(t *testing.T, v *vault) {
	p := v.enrol(t)
	_, c := p.agent(t, "first")
	answered := map[uint64]bool{}
	for round := range 3 {
		for range 5 {
			val, err := c.Read(t.Context(), "first", agentkeys.Wallet{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if seq := val.Receipt.Record.Sequence; answered[seq] {
				t.Errorf("sequence %d is given twice", seq)
			} else {
				answered[seq] = true
			}
			val.Secret.Wipe()
		}
		v.kill(t, "agentkeys-custodian")
		within(t, 20*time.Second, fmt.Sprintf("the custodian answers after crash %d", round), func() bool {
			_, err := p.c.List(t.Context())
			return err == nil
		})
	}
	records, next, err := p.c.Reads(t.Context(), 1, 1000)
	if err != nil || next != 0 {
		t.Fatal(next, err)
	}
	for _, r := range records {
		if !answered[r.Sequence] {
			t.Errorf("record %d was never answered, or comes twice", r.Sequence)
		}
		delete(answered, r.Sequence)
	}
	if len(answered) != 0 {
		t.Errorf("answered reads without a record: %v", answered)
	}
}

// dueRowOverCrash: what the operator knew is in rows; it dies right after the
// rotation was asked for.
func dueRowOverCrash(t *testing.T, v *vault) {
	p := v.enrol(t)
	before := p.ask(t)
	v.kill(t, "agentkeys-operator")
	p.rotated(t, before)
	p.mustRead(t, "first")
}

// rotatorDies: a rotation goes on with another rotator.
func rotatorDies(t *testing.T, v *vault) {
	p := v.enrol(t) // which has made a rotator run
	old := v.rotator(t)
	before := p.ask(t)
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.rotated(t, before)
	p.mustRead(t, "first")
	p.rotated(t, p.ask(t))
	if now := v.rotator(t); now == old {
		t.Errorf("process %d survived SIGKILL", old)
	}
}

// rotator is the process id of the operator's child. Linux cuts its name at 15
// characters.
func (v *vault) rotator(t *testing.T) int {
	t.Helper()
	operator := v.pid(t, "agentkeys-operator")
	for _, p := range processes(t) {
		if p.parent == operator && strings.HasPrefix(p.name, "agentkeys-rotat") {
			return p.id
		}
	}
	t.Fatal("the operator has no rotator")
	return 0
}
