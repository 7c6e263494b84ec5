package proxy

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
)

// watched runs a keeper in a bubble of time, without a child.
func watched(t *testing.T, f *lender, play func(t *testing.T, k *leases)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f.wake = make(chan struct{})
		k := newKeeper(Config{Vault: f, Wallet: ownWallet, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = k.watch(ctx) })
		synctest.Wait()
		play(t, k)
		cancel()
		wg.Wait()
		if f.wiped() != len(f.given) {
			t.Errorf("%d of %d values are wiped at the end", f.wiped(), len(f.given))
		}
	})
}

// A child is being made: one value is there, the next is asked for. A drop of the first
// reaches it although the child has not begun.
func TestDropReachesAChildThatIsBeingMade(t *testing.T) {
	f := newLender()
	watched(t, f, func(t *testing.T, k *leases) {
		f.meanwhile(func() { // the first answer: nothing yet
			f.meanwhile(func() {
				f.drop(api.Drop{Agent: scribeWallet.String(), Reason: "agent_revoked"})
				synctest.Wait()
				if f.confirmed() != 1 || f.wiped() != 1 {
					t.Errorf("confirmed %d with %d of 1 values wiped", f.confirmed(), f.wiped())
				}
			})
		})
		_, _, err := k.admit(t.Context(), "scribe", api.Delegation{}, []agentkeys.Service{"github", "openai"})
		if code(err) != "revoked" {
			t.Errorf("a child of a revoked agent: %v", err)
		}
		if f.wiped() != len(f.given) || len(k.children) != 0 {
			t.Errorf("%d of %d values wiped, %d children", f.wiped(), len(f.given), len(k.children))
		}
	})
}

// A child is gone and its last call ends slowly: a drop is confirmed after that.
func TestDropWaitsForCallsOfAChildThatIsGone(t *testing.T) {
	f := newLender()
	bubble(t, f, func(t *testing.T, k *leases, c *child) {
		slow, err := c.begin(t.Context(), "github")
		if err != nil {
			t.Fatal(err)
		}
		k.dismiss(c)
		synctest.Wait()
		if slow.ctx.Err() == nil {
			t.Fatal("the call of a child that is gone runs on")
		}
		f.drop(api.Drop{Agent: scribeWallet.String(), Reason: "agent_revoked"})
		synctest.Wait()
		if f.confirmed() != 0 {
			t.Fatal("confirmed while a call has not ended")
		}
		slow.end()
		synctest.Wait()
		if f.confirmed() != 1 {
			t.Fatal("not confirmed after the last call")
		}
	})
}

// Many calls begin at once without a lease: one question is asked, and its refusal is
// everybody's.
func TestOneQuestionForMany(t *testing.T) {
	f := newLender()
	bubble(t, f, func(t *testing.T, k *leases, c *child) {
		for _, refusal := range []error{nil, &api.Error{Status: 403, Code: "grant_missing"}} {
			time.Sleep(api.MaxLease + time.Second)
			k.sweep()
			f.set(func() { f.refuse = refusal })
			before := f.asked()
			f.meanwhile(func() { time.Sleep(time.Second) })
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					got, err := c.begin(t.Context(), "github")
					if code(err) != api.CodeOf(refusal) {
						t.Errorf("%v", err)
					}
					if err == nil {
						got.end()
					}
				})
			}
			wg.Wait()
			if n := f.asked() - before; n != 1 {
				t.Errorf("asked %d times, refusal %v", n, refusal)
			}
		}
	})
}

// A service that is slow to be given does not hold up calls of another, and who gives
// up waiting takes nobody along.
func TestWaitingForOneService(t *testing.T) {
	f := newLender()
	bubble(t, f, func(t *testing.T, k *leases, c *child) {
		f.drop(api.Drop{ServiceID: idOf("openai").String(), Reason: "replaced"})
		synctest.Wait()
		impatient, give := context.WithCancel(t.Context())
		f.meanwhile(func() {
			<-impatient.Done()
			f.set(func() { f.refuse = &api.Error{Status: 503, Code: "unreachable"} })
			f.meanwhile(func() { f.set(func() { f.refuse = nil }) })
		})
		failed := make(chan error, 1)
		go func() { _, err := c.begin(impatient, "openai"); failed <- err }()
		synctest.Wait()
		got, err := c.begin(t.Context(), "github")
		if err != nil {
			t.Fatal(err)
		}
		got.end()
		waiting := make(chan error, 1)
		go func() {
			got, err := c.begin(t.Context(), "openai")
			if err == nil {
				got.end()
			}
			waiting <- err
		}()
		synctest.Wait()
		give()
		if err := <-failed; err == nil {
			t.Error("who gave up has a call")
		}
		if err := <-waiting; err != nil {
			t.Errorf("the patient one: %v", err)
		}
	})
}

// Two drops at once: the calls of both are cut at once, though one call ends slowly.
func TestDropsAreCutTogether(t *testing.T) {
	f := newLender()
	bubble(t, f, func(t *testing.T, k *leases, c *child) {
		slow, err1 := c.begin(t.Context(), "github")
		other, err2 := c.begin(t.Context(), "openai")
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		f.set(func() {
			f.drops = []api.Drop{{Number: 1, ServiceID: idOf("github").String()}, {Number: 2, ServiceID: idOf("openai").String()}}
		})
		synctest.Wait()
		if slow.ctx.Err() == nil || other.ctx.Err() == nil {
			t.Errorf("the second call waits for the end of the first to be cut")
		}
		other.end()
		slow.end()
		synctest.Wait()
		if f.confirmed() != 2 {
			t.Errorf("confirmed %d", f.confirmed())
		}
	})
}

// A machine that slept: its monotonic clock stood still, the wall clock says how long.
func TestSleepOfTheMachineCounts(t *testing.T) {
	now := time.Now()
	if past(now.Add(time.Minute)) || !past(now) {
		t.Error("the monotonic clock does not count")
	}
	// Stripped of the monotonic reading only the wall clock is left to compare.
	if past(now.Round(0).Add(time.Minute)) || !past(now.Round(0).Add(-time.Minute)) {
		t.Error("the wall clock does not count")
	}
}
