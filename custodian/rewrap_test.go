package custodian

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
)

// versions are the wrap versions of the owner's live epochs, the active one first.
func (r *rotating) versions() (out []uint32) {
	u := r.user()
	for _, e := range []rules.EpochRow{u.Active, u.Draining} {
		if e.Epoch != 0 {
			out = append(out, shareOf(r.owner.Wallet(), e).WrapVersion)
		}
	}
	return out
}

// shares are those of the owner that any tree holds.
func (r *rotating) shares() map[erasure.ShareID]bool {
	out := map[erasure.ShareID]bool{}
	for id := range r.keeper.set.IDs() {
		if id.User == r.owner.Wallet() {
			out[id] = true
		}
	}
	return out
}

func (r *rotating) underVersion(version uint32) bool {
	for _, v := range r.versions() {
		if v != version {
			return false
		}
	}
	for id := range r.shares() {
		if id.WrapVersion != version {
			return false
		}
	}
	return true
}

// count is the answer by proven rows.
func (r *rotating) count() api.Shielding {
	r.t.Helper()
	r.jobs.behind.Store(0)
	out, err := r.jobs.shielding(r.t.Context(), api.ShieldingRequest{})
	check(r.t, err)
	if out.CryptoSeconds < 0 || out.CryptoSeconds > time.Hour.Seconds() {
		r.t.Errorf("cryptography took %v s", out.CryptoSeconds)
	}
	out.CryptoSeconds = 0
	return out
}

func (r *rotating) begin() {
	r.t.Helper()
	out, err := r.jobs.shielding(r.t.Context(), api.ShieldingRequest{Begin: true})
	check(r.t, err)
	if out.Behind != out.Live || out.Live == 0 {
		r.t.Fatalf("after the beginning: %+v", out)
	}
}

// A new shielding key: every live epoch gets a fresh share and keeps its data key;
// everything reads meanwhile and after, and the old shares are erased.
func TestRewrap(t *testing.T) {
	rotate(t, 2, func(t *testing.T, r *rotating) {
		r.keep("github", "openai")
		r.pass(7 * day)
		r.drive(func() bool { return r.user().Active.Epoch == 2 }) // lazy: epoch 1 drains
		r.enrol(rulestest.Wallet("other"))
		before := r.user()
		old := map[erasure.ShareID]erasure.Share{}
		for id := range r.shares() {
			old[id], _ = r.keeper.set.Get(id)
		}
		if out := r.count(); out != (api.Shielding{Version: 1, Live: 3}) {
			t.Fatalf("%+v", out)
		}
		commits := r.anchor(1).Generation
		r.begin()
		if n := r.anchor(1).Generation - commits; n != 1 {
			t.Errorf("three shares took %d commits", n)
		}
		_, err := r.jobs.shielding(t.Context(), api.ShieldingRequest{Begin: true})
		wantCode(t, err, conflict)
		for name, want := range r.values[r.owner.Wallet()] {
			r.forget()
			if got, err := r.get(name); err != nil || got != want {
				t.Errorf("before its turn: %s reads %q, %v", name, got, err)
			}
		}
		r.drive(func() bool { return r.underVersion(2) })
		after := r.user()
		if after.Active.DEKID != before.Active.DEKID || after.Draining.DEKID != before.Draining.DEKID || after.Active.Wrapped == before.Active.Wrapped {
			t.Errorf("%+v\n%+v", before, after)
		}
		for id, share := range old {
			now := id
			now.WrapVersion = 2
			if fresh, ok := r.keeper.set.Get(now); !ok || fresh == share {
				t.Errorf("%s: fresh share %t, another one %t", id, ok, fresh != share)
			}
			for _, a := range r.anchors {
				if _, ok := r.keeper.set.Tree(a.id).Get(id); ok {
					t.Errorf("anchor %s still has %s", a.id, id)
				}
			}
		}
		r.as(rulestest.Wallet("other"), func() { r.drive(func() bool { return r.underVersion(2) }) })
		if out := r.count(); out.Version != 2 || out.Behind != 0 {
			t.Errorf("at the end: %+v", out)
		}
		// The number outlives a start, new epochs are under it, and the next one follows.
		r.restart()
		r.pass(time.Second)
		r.ask()
		r.settle(3)
		if !slices.Equal(r.versions(), []uint32{2}) {
			t.Errorf("epoch 3 is under %v", r.versions())
		}
		r.intact()
		r.begin()
		r.drive(func() bool { return r.underVersion(3) })
		r.intact()
	})
}

// The old share stays for the grace: a reader may hold the row from before.
func TestRewrapKeepsTheOldShareForTheGrace(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		v := verdict{slot: r.slot("github"), user: r.user(), pointer: r.pointer("github")}
		sealed := r.object(r.objectKey("github"))
		r.begin()
		r.drive(func() bool { return slices.Equal(r.versions(), []uint32{2}) })
		if plain, err := r.s.open(v, sealed); err != nil || len(plain) == 0 {
			t.Errorf("by the row from before: %v", err)
		}
		r.drive(func() bool { return r.underVersion(2) })
		_, err := r.s.open(v, sealed)
		wantCode(t, err, shareUnavailable)
		r.intact()
	})
}

// A receipt that is not of the job changes nothing.
func TestRewrapHostileReceipt(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		r.begin()
		before := r.user().Active
		r.courier.hand.receipts = func(rs []api.JobReceipt) []api.JobReceipt {
			rs[0].Body = slices.Clone(rs[0].Body)
			rs[0].Body[len(rs[0].Body)-1] ^= 1
			return rs
		}
		if _, err := r.courier.next(t.Context(), r.owner.Wallet()); err == nil {
			t.Error("a spoiled receipt was taken")
		}
		if r.user().Active != before {
			t.Error("the row changed")
		}
		r.courier.hand.receipts = nil
		r.drive(func() bool { return r.underVersion(2) })
		r.intact()
	})
}

// One job carries the data keys of many users, the draining ones too; who is named
// twice, has none, or is unknown does no harm.
func TestRewrapManyUsers(t *testing.T) {
	rotate(t, 2, func(t *testing.T, r *rotating) {
		r.keep("github")
		r.pass(7 * day)
		r.drive(func() bool { return r.user().Active.Epoch == 2 }) // lazy: epoch 1 drains
		owners := []eip712.Key{r.owner, rulestest.Wallet("b"), rulestest.Wallet("c")}
		users := []agentkeys.Wallet{{9}, r.owner.Wallet(), r.owner.Wallet()}
		for _, k := range owners[1:] {
			r.enrol(k)
			r.as(k, func() { r.keep("github") })
			users = append(users, k.Wallet())
		}
		if kind, err := r.courier.wrap(t.Context(), users...); kind != api.JobNone || err != nil {
			t.Errorf("before the beginning: %s, %v", kind, err)
		}
		r.begin()
		r.courier.hand.receipts = func(rs []api.JobReceipt) []api.JobReceipt {
			if len(rs) != 4 {
				t.Errorf("%d receipts for four data keys", len(rs))
			}
			return rs
		}
		if kind, err := r.courier.wrap(t.Context(), users...); kind != api.JobWrap || err != nil {
			t.Fatalf("%s, %v", kind, err)
		}
		r.courier.hand.receipts = nil
		if out := r.count(); out.Behind != 0 || out.Version != 2 {
			t.Errorf("%+v", out)
		}
		if kind, err := r.courier.wrap(t.Context(), users...); kind != api.JobNone || err != nil {
			t.Errorf("after the end: %s, %v", kind, err)
		}
		for _, j := range r.jobs.open {
			if j.kind == api.JobWrap {
				t.Error("the job is still open")
			}
		}
		for _, k := range owners {
			r.as(k, func() {
				r.drive(func() bool { return r.underVersion(2) })
				if r.user().Draining.Epoch == 0 {
					r.intact()
				}
			})
		}
	})
}

// Of a batch with one bad receipt nothing reaches the chain, and the next one does it.
func TestRewrapHostileBatch(t *testing.T) {
	for name, spoil := range map[string]func([]api.JobReceipt) []api.JobReceipt{
		"one left out":       func(rs []api.JobReceipt) []api.JobReceipt { return rs[1:] },
		"none":               func(rs []api.JobReceipt) []api.JobReceipt { return nil },
		"order changed":      func(rs []api.JobReceipt) []api.JobReceipt { slices.Reverse(rs); return rs },
		"one twice":          func(rs []api.JobReceipt) []api.JobReceipt { rs[1] = rs[0]; return rs },
		"signature of one":   func(rs []api.JobReceipt) []api.JobReceipt { rs[0].Signature = rs[1].Signature; return rs },
		"another kind":       func(rs []api.JobReceipt) []api.JobReceipt { rs[1].Kind++; return rs },
		"body cut short":     func(rs []api.JobReceipt) []api.JobReceipt { rs[1].Body = rs[1].Body[1:]; return rs },
		"not a job's number": func(rs []api.JobReceipt) []api.JobReceipt { rs[0].ID = "00"; return rs },
		"data key changed": func(rs []api.JobReceipt) []api.JobReceipt {
			rs[1].Body = slices.Clone(rs[1].Body)
			rs[1].Body[len(rs[1].Body)-1] ^= 1
			return rs
		},
	} {
		t.Run(name, func(t *testing.T) {
			rotate(t, 1, func(t *testing.T, r *rotating) {
				other := rulestest.Wallet("b")
				r.enrol(other)
				r.begin()
				before := r.user()
				r.courier.hand.receipts = spoil
				users := []agentkeys.Wallet{r.owner.Wallet(), other.Wallet()}
				if _, err := r.courier.wrap(t.Context(), users...); err == nil {
					t.Error("taken")
				}
				if out := r.count(); out.Behind != 2 || r.user() != before {
					t.Errorf("rows changed: %+v", out)
				}
				r.courier.hand.receipts = nil
				if _, err := r.courier.wrap(t.Context(), users...); err != nil {
					t.Error(err)
				}
				if out := r.count(); out.Behind != 0 {
					t.Errorf("at the end: %+v", out)
				}
			})
		})
	}
}

// A user moved on by another job meanwhile holds up nobody else of the batch.
func TestRewrapOvertaken(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		other := rulestest.Wallet("b")
		r.enrol(other)
		r.begin()
		r.courier.hand.receipts = func(rs []api.JobReceipt) []api.JobReceipt {
			r.courier.hand.receipts = nil
			r.courier.drop() // its one rotator is in the middle of nothing
			if _, err := r.courier.wrap(t.Context(), other.Wallet()); err != nil {
				t.Error(err)
			}
			return rs
		}
		if _, err := r.courier.wrap(t.Context(), r.owner.Wallet(), other.Wallet()); err != nil {
			t.Error(err)
		}
		if out := r.count(); out.Behind != 0 {
			t.Errorf("at the end: %+v", out)
		}
		for _, k := range []eip712.Key{r.owner, other} {
			r.as(k, func() {
				r.drive(func() bool { return r.underVersion(2) })
				r.keep("github")
				r.intact()
			})
		}
	})
}

// While epochs are behind the answer goes by what was proven to have left; that none is
// behind is counted by all rows, and a count is not gone by for long.
func TestRewrapProgress(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		other := rulestest.Wallet("b")
		r.enrol(other)
		r.begin()
		want := func(when string, behind int) {
			t.Helper()
			out, err := r.jobs.shielding(t.Context(), api.ShieldingRequest{})
			out.CryptoSeconds = 0
			if err != nil || out != (api.Shielding{Version: 2, Live: 2, Behind: behind}) {
				t.Errorf("%s: %+v, %v; want %d behind", when, out, err, behind)
			}
		}
		want("begun", 2)
		_, err := r.courier.wrap(t.Context(), other.Wallet())
		check(t, err)
		want("one is done", 1)
		r.jobs.behind.Store(2) // as if nobody had told
		want("not told", 2)
		r.pass(countFor)
		want("counted again", 1)
		r.jobs.behind.Store(0) // as if too much had been told
		want("told too much", 1)
		_, err = r.courier.wrap(t.Context(), r.owner.Wallet())
		check(t, err)
		want("all done", 0)
	})
}

// A crash before any step of a re-wrap loses nothing and leaves no old share behind.
func TestCrashInRewrap(t *testing.T) {
	turn := func(r *rotating) bool {
		return r.survive(func() {
			if r.keeper.version() == 1 {
				_, err := r.jobs.shielding(r.t.Context(), api.ShieldingRequest{Begin: true})
				check(r.t, err)
			}
			r.drive(func() bool { return r.died() != "" || r.underVersion(2) })
		})
	}
	ours := func(name string) bool {
		for _, p := range []string{"shielding.", "wrap.", "wrapped.", "outdated.", "commit:", "relay"} {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
		return false
	}
	var names []string
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github", "openai")
		r.at(func(name string) bool {
			if ours(name) {
				names = append(names, name)
			}
			return false
		})
		turn(r)
		r.at(nil)
		r.intact()
	})
	for _, want := range []string{"shielding.shares", "wrap.share", "wrap.channel", "wrapped.check", "wrapped.statement", "wrapped.proven", "outdated.erase"} {
		if !slices.Contains(names, want) {
			t.Errorf("no step %s in %v", want, names)
		}
	}
	seen := map[string]int{}
	for _, name := range names {
		seen[name]++
		n := seen[name]
		t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
			t.Parallel()
			rotate(t, 1, func(t *testing.T, r *rotating) {
				r.keep("github", "openai")
				r.at(func(step string) bool {
					if step == name {
						n--
					}
					return n == 0
				})
				if !turn(r) {
					t.Fatal("it did not crash")
				}
				r.restart()
				r.opened()
				turn(r)
				r.pass(3 * time.Second) // what a commit left behind needs no job
				r.intact()
				if !r.underVersion(2) {
					t.Errorf("versions %v, shares %v", r.versions(), r.shares())
				}
			})
		})
	}
}
