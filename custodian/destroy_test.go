package custodian

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// drained brings the user to an epoch 1 that is empty and not destroyed.
func (r *rotating) drained(names ...string) {
	r.t.Helper()
	r.draining(names...)
	r.drive(func() bool { return r.user().Draining.LiveCount == 0 })
}

// holds says whether the first anchor's tree has the share of the owner's epoch.
func (r *rotating) holds(epoch agentkeys.Epoch) bool {
	_, ok := r.keeper.set.Tree(r.anchors[0].id).Get(r.share(epoch))
	return ok
}

func (r *rotating) share(epoch agentkeys.Epoch) erasure.ShareID {
	return erasure.ShareID{User: r.owner.Wallet(), Epoch: epoch, WrapVersion: 1}
}

// look asks for the owner's job once.
func (r *rotating) look() api.Job {
	r.t.Helper()
	p, err := r.courier.rotator(r.t.Context())
	check(r.t, err)
	j, err := r.jobs.next(r.t.Context(), api.JobRequest{User: r.owner.Wallet().String(), Rotator: p.key()})
	check(r.t, err)
	return j
}

func TestGraceComesBeforeDestruction(t *testing.T) {
	for name, restart := range map[string]bool{"one start": false, "a crash restarts it": true} {
		t.Run(name, func(t *testing.T) {
			rotate(t, 1, func(t *testing.T, r *rotating) {
				r.drained("github")
				before, err := r.anchors[0].Roots(t.Context())
				check(t, err)
				if j := r.look(); j.Kind != api.JobWait || j.WaitMS < 11_900 || j.WaitMS > 12_001 {
					t.Fatalf("the grace is twice the age of a head, 12 s: %+v", j)
				}
				r.pass(11 * time.Second)
				if restart {
					r.restart()
					r.look()
					r.pass(11 * time.Second)
				}
				r.look()
				r.pass(900 * time.Millisecond)
				if !r.holds(1) || r.user().Draining.Epoch != 1 || len(r.emptied()) != 0 {
					t.Fatalf("destroyed within the grace: %+v", r.user())
				}
				r.pass(200 * time.Millisecond)
				r.look()
				r.pass(time.Second)
				if r.holds(1) || r.user().Draining.Epoch != 0 || len(r.under(1)) != 0 {
					t.Fatalf("after the grace: share %v, %+v, %v", r.holds(1), r.user(), r.under(1))
				}
				after, err := r.anchors[0].Roots(t.Context())
				if err != nil || len(after) != 1 || after[0] == before[0] {
					t.Fatalf("the anchor's root stayed, %v", err)
				}
				if r.emptied()[0] != blobstore.EpochPrefix(r.owner.Wallet(), 1) {
					t.Fatalf("emptied %v", r.emptied())
				}
				r.intact()
			})
		})
	}
}

// Whatever the jobs think, a share that live credentials need is not erased.
func TestLiveEpochIsNeverDestroyed(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github", "openai")
		r.pause()
		for _, epoch := range []agentkeys.Epoch{1, 2} {
			if err := r.jobs.eraser.destroy(t.Context(), []erasure.ShareID{r.share(epoch)}); !errors.Is(err, erasure.ErrLive) {
				t.Fatalf("epoch %d: %v", epoch, err)
			}
			if err := r.jobs.eraser.finish(t.Context(), r.share(epoch)); err == nil {
				t.Fatalf("epoch %d is called destroyed", epoch)
			}
			if !r.holds(epoch) || r.said(statement.KindDestroyEpoch) != 0 || len(r.emptied()) != 0 {
				t.Fatalf("epoch %d was touched", epoch)
			}
		}
		r.resume()
		r.settle(2)
		r.intact()
	})
}

// An anchor that has not erased the share is not called so, however drained the
// epoch is: the chain could not know.
func TestUnerasedShareIsNotCalledErased(t *testing.T) {
	rotate(t, 2, func(t *testing.T, r *rotating) {
		r.drained("github")
		r.pause()
		if err := r.jobs.eraser.finish(t.Context(), r.share(1)); err == nil || r.said(statement.KindDestroyEpoch) != 0 {
			t.Fatalf("%v, said %d times", err, r.said(statement.KindDestroyEpoch))
		}
		r.resume()
		r.settle(2)
		r.intact()
	})
}

// Nor when no anchor is kept here at all.
func TestNoAnchorDestroysNothing(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.drained("github")
		r.pause()
		r.keeper.set.Evict(r.anchors[0].id)
		if err := r.jobs.eraser.finish(t.Context(), r.share(1)); err == nil || len(r.emptied()) != 0 {
			t.Fatalf("%v, emptied %v", err, r.emptied())
		}
		r.restart()
		r.settle(2)
		r.intact()
	})
}

// However much is under destroyed epochs, searching it delays no erasure.
func TestSearchOfTheStoreDelaysNoErasure(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.drained("github")
		r.emptier.mu.Lock()
		r.emptier.listing = time.Hour
		r.emptier.mu.Unlock()
		r.restart()
		r.look()
		r.pass(13 * time.Second)
		r.look()
		r.pass(2 * time.Second)
		if r.holds(1) || r.user().Draining.Epoch != 0 {
			t.Fatalf("share %v, %+v", r.holds(1), r.user())
		}
	})
}

// A prefix is emptied only once the row proves the epoch destroyed.
func TestPrefixStaysUntilTheChainAgrees(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.drained("github")
		r.chain.set(func(c *fakeChain) { c.drop = func(k statement.Kind) bool { return k == statement.KindDestroyEpoch } })
		for range 5 {
			r.look()
			r.pass(20 * time.Second)
		}
		if r.user().Draining.Epoch != 1 || len(r.emptied()) != 0 {
			t.Fatalf("emptied %v, %+v", r.emptied(), r.user())
		}
		r.chain.set(func(c *fakeChain) { c.drop = nil })
		r.settle(2)
		r.intact()
	})
}

func TestStoreThatDoesNotEmptyIsTriedAgain(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.drained("github")
		r.emptier.mu.Lock()
		r.emptier.fails = 5
		r.emptier.mu.Unlock()
		var told atomic.Int32
		generation := r.anchor(0).Generation
		r.at(func(step string) bool {
			if step == fmt.Sprintf("relay %d", statement.KindDestroyEpoch) {
				told.Add(1)
			}
			return false
		})
		r.settle(2)
		r.pass(10 * time.Second)
		if len(r.under(1)) != 0 || !r.logged("drained but not destroyed") {
			t.Fatalf("left %v", r.under(1))
		}
		// What was done once is not done again: an anchor wears out.
		if g := r.anchor(0).Generation; g != generation+1 || told.Load() != 1 {
			t.Fatalf("from generation %d to %d, told %d times", generation, g, told.Load())
		}
		r.intact()
	})
}

// What a crash left, or a thief put back, under destroyed epochs goes at the next
// start; what live epochs hold stays.
func TestLeftoversGoAtTheNextStart(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github")
		kept := r.objectKey("github")
		r.settle(2)
		r.ask()
		r.drive(func() bool { return r.user().Active.Epoch == 3 })
		draining := r.objectKey("github")
		r.place(kept, []byte("put back"))
		before := len(r.emptied())
		r.restart()
		r.pass(2 * time.Second)
		if len(r.emptied()) != before+1 || len(r.under(1)) != 0 {
			t.Fatalf("emptied %v, left %v", r.emptied(), r.under(1))
		}
		if _, err := r.store.get(draining); err != nil {
			t.Fatalf("an object of the draining epoch: %v", err)
		}
		r.settle(3)
		r.intact()
	})
}

// A dead anchor stops destruction and says so; alive again or evicted, it does not.
func TestDeadAnchorStopsDestruction(t *testing.T) {
	for name, end := range map[string]func(*rotating){
		"alive again": func(r *rotating) { r.anchors[1].kill(false) },
		"evicted": func(r *rotating) {
			r.act(statement.EvictAnchor{Anchor: statement.AnchorID(r.anchors[1].id)})
		},
		"dead over a restart, evicted": func(r *rotating) {
			r.restart()
			r.pass(10 * time.Second)
			r.act(statement.EvictAnchor{Anchor: statement.AnchorID(r.anchors[1].id)})
		},
		"dead over a restart, alive again": func(r *rotating) {
			r.restart()
			r.pass(10 * time.Second)
			r.anchors[1].kill(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rotate(t, 2, func(t *testing.T, r *rotating) {
				r.drained("github")
				r.anchors[1].kill(true)
				for range 5 {
					r.look()
					r.pass(10 * time.Second)
				}
				if r.user().Draining.Epoch != 1 || r.said(statement.KindDestroyEpoch) > 1 || len(r.emptied()) != 0 {
					t.Fatalf("destroyed without an anchor: %+v", r.user())
				}
				if !r.logged("drained but not destroyed") || !r.logged("anchor "+r.anchors[1].id.String()) {
					t.Fatal("the log does not say which anchor")
				}
				// The operator is told which, and to come back later rather than at once.
				if j := r.look(); j.WaitMS < 1000 || j.WaitMS > int(longestPause.Milliseconds()) || !strings.Contains(j.Detail, r.anchors[1].id.String()) {
					t.Errorf("told to wait %d ms: %s", j.WaitMS, j.Detail)
				}
				if n := r.loggedTimes("drained but not destroyed"); n > 12 {
					t.Errorf("the log says so %d times within a minute", n)
				}
				// The next epoch waits, reading and writing do not.
				r.ask()
				r.pass(time.Second)
				if j := r.look(); j.Kind != api.JobWait || r.user().Active.Epoch != 2 {
					t.Fatalf("%+v", j)
				}
				r.keep("openai")
				end(r)
				r.settle(3)
				r.intact()
			})
		})
	}
}

// An anchor that spares its memory delays destruction and is no alarm: it is said once, new
// epochs open meanwhile as far as two are live, and everything is erased in the end.
func TestAnchorThatPutsErasureOff(t *testing.T) {
	rotate(t, 2, func(t *testing.T, r *rotating) {
		r.drained("github")
		r.anchors[1].putOff(14 * time.Minute)
		for range 12 {
			r.look()
			r.pass(time.Minute)
		}
		if r.user().Draining.Epoch != 1 || len(r.emptied()) != 0 {
			t.Fatalf("destroyed while an anchor holds the share: %+v", r.user())
		}
		if n := r.loggedTimes("drained but not destroyed"); n != 1 || !r.logged("wait 14m0s before the next commit") || r.logged("will try again") {
			t.Errorf("the log says so %d times, or as a failure", n)
		}
		if j := r.look(); !strings.Contains(j.Detail, "wait 14m0s") {
			t.Errorf("the operator is told %q", j.Detail)
		}
		r.keep("openai")
		r.anchors[1].putOff(0)
		r.settle(2)
		r.intact()
	})
}

// All epochs that are ready go in one commit of each anchor.
func TestTwoUsersInOneCommit(t *testing.T) {
	rotate(t, 2, func(t *testing.T, r *rotating) {
		other := rulestest.Wallet("other")
		r.enrol(other)
		both := func(f func()) { f(); r.as(other, f) }
		both(func() { r.drained("github") })
		r.pause()
		both(func() { r.look() })
		time.Sleep(13 * time.Second)
		both(func() { r.look() })
		before := [2]uint64{}
		for i := range r.anchors {
			before[i] = r.anchor(i).Generation
		}
		r.resume()
		r.pass(2 * time.Second)
		for i, a := range r.anchors {
			if g := r.anchor(i).Generation; g != before[i]+1 {
				t.Errorf("anchor %s went from generation %d to %d", a.id, before[i], g)
			}
		}
		both(func() {
			if r.user().Draining.Epoch != 0 || len(r.under(1)) != 0 {
				t.Errorf("%+v, left %v", r.user(), r.under(1))
			}
			r.intact()
		})
		if n := r.said(statement.KindDestroyEpoch); n != 4 {
			t.Errorf("%d statements for two epochs in two anchors", n)
		}
	})
}

// Run ends with its context, also in the middle of a commit that fails.
func TestRunEnds(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.drained("github")
		r.anchors[0].kill(true)
		r.look()
		r.pass(13 * time.Second)
		r.look()
		r.pass(100 * time.Millisecond)
		r.pause()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.jobs.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("Run: %v", err)
		}
		r.anchors[0].kill(false)
		r.resume()
		r.settle(2)
		r.intact()
	})
}
