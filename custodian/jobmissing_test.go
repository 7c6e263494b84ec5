package custodian

import (
	"testing"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/statement"
)

// said counts the accepted statements of a kind.
func (r *rotating) said(k statement.Kind) (n int) {
	r.chain.mu.Lock()
	defer r.chain.mu.Unlock()
	for _, e := range r.chain.vault.History {
		if !e.Act && statement.Kind(e.Wire[0]) == k {
			n++
		}
	}
	return n
}

// draining brings the user to an eager epoch that waits to be moved.
func (r *rotating) draining(names ...string) {
	r.t.Helper()
	r.keep(names...)
	r.ask()
	r.drive(func() bool { return r.user().Active.Epoch == 2 })
}

// An object that is gone, or has other bytes, is reported once, does not hold up the
// others, and moves when it is found again.
func TestMissingObject(t *testing.T) {
	for name, spoil := range map[string]func(objects map[string][]byte, key string){
		"gone":         func(objects map[string][]byte, key string) { delete(objects, key) },
		"other bytes":  func(objects map[string][]byte, key string) { objects[key][80] ^= 1 },
		"another size": func(objects map[string][]byte, key string) { objects[key] = objects[key][:40] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rotate(t, 1, func(t *testing.T, r *rotating) {
				r.draining("github", "openai", "slack")
				key := r.objectKey("github")
				good := r.object(key)
				r.objects(func(o map[string][]byte) { spoil(o, key) })
				r.drive(func() bool { return r.user().Draining.LiveCount == 1 })
				for range 3 {
					_, err := r.courier.next(t.Context(), r.owner.Wallet())
					check(t, err)
					r.pass(time.Minute)
				}
				if p := r.pointer("github"); p.MissingSince == 0 || p.Epoch != 1 || r.said(statement.KindReportLost) != 1 {
					t.Fatalf("%d reports, %+v", r.said(statement.KindReportLost), p)
				}
				if u := r.user(); u.Draining.LiveCount != 1 || u.Draining.Epoch != 1 {
					t.Fatalf("%+v", u)
				}
				r.place(key, good)
				r.settle(2)
				r.intact()
				if p := r.pointer("github"); p.MissingSince != 0 {
					t.Fatalf("found, but %+v", p)
				}
			})
		})
	}
}

// Found again, it is so by a report of its own, before the move.
func TestFoundAgainIsReported(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github", "openai")
		key := r.objectKey("github")
		good := r.object(key)
		r.lose(key)
		r.drive(func() bool { return r.pointer("github").MissingSince != 0 })
		r.place(key, good)
		_, err := r.jobs.next(t.Context(), api.JobRequest{User: r.owner.Wallet().String(), Rotator: r.courier.p.key()})
		check(t, err)
		if p := r.pointer("github"); p.MissingSince != 0 || p.Epoch != 1 || r.said(statement.KindReportLost) != 2 {
			t.Fatalf("%+v", p)
		}
		r.settle(2)
		r.intact()
	})
}

func TestLostObjectIsDroppedInTheEnd(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github", "openai")
		r.lose(r.objectKey("github"))
		r.drive(func() bool { return r.pointer("github").MissingSince != 0 })
		since := time.Now()
		r.pass(71 * time.Hour)
		_, err := r.courier.next(t.Context(), r.owner.Wallet())
		check(t, err)
		if r.pointer("github").Version == 0 {
			t.Fatal("dropped too early")
		}
		r.drive(func() bool { return r.pointer("github").Version == 0 })
		if took := time.Since(since); took < 72*time.Hour-time.Minute || took > 73*time.Hour {
			t.Fatalf("dropped after %s", took)
		}
		if r.said(statement.KindDrop) != 1 || r.logged("drop of a lost object failed") {
			t.Fatalf("%d drops, or the chain was asked too early", r.said(statement.KindDrop))
		}
		delete(r.values[r.owner.Wallet()], "github")
		r.settle(2)
		r.intact()
	})
}

// A store that does not answer is no store that has lost something.
func TestOutageIsNotMissing(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github", "openai")
		key := r.objectKey("github")
		r.away(true)
		for range 5 {
			if _, err := r.courier.next(t.Context(), r.owner.Wallet()); err == nil {
				t.Fatal("moved without a store")
			}
			r.pass(time.Minute)
		}
		// Nor is the courier's word.
		p := r.newRotator()
		defer p.stop()
		check(t, r.jobs.vouch(t.Context(), p.hello))
		_, err := r.jobs.next(t.Context(), api.JobRequest{User: r.owner.Wallet().String(), Rotator: p.key(), Missing: []string{key}})
		wantCode(t, err, storeUnavailable)
		r.away(false)
		if r.said(statement.KindReportLost) != 0 {
			t.Fatal("an outage was reported as a loss")
		}
		r.settle(2)
		r.intact()
	})
}

// A courier that calls everything missing is looked after: the objects are there,
// so they are in the job.
func TestCourierCannotCallMissing(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github", "openai")
		missing := []string{r.objectKey("github"), r.objectKey("openai"), "nonsense"}
		_, err := r.courier.step(t.Context(), r.owner.Wallet(), missing)
		check(t, err)
		if u := r.user(); u.Draining.LiveCount != 0 || r.said(statement.KindReportLost) != 0 {
			t.Fatalf("%+v", u)
		}
		r.settle(2)
		r.intact()
	})
}
