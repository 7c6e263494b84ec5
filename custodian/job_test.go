package custodian

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

const day = 24 * time.Hour

func TestFirstEpochOpens(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		if u := r.user(); u.Active.Epoch != 1 || u.Draining.Epoch != 0 {
			t.Fatalf("%+v", u)
		}
		r.keep("github", "openai")
		r.intact()
		if wait, err := r.courier.next(t.Context(), r.owner.Wallet()); wait >= 0 || err != nil {
			t.Fatalf("something is due: %s, %v", wait, err)
		}
	})
}

// What makes an epoch due, and whether everything moves at once.
func TestDue(t *testing.T) {
	for name, tc := range map[string]struct {
		cause func(*rotating)
		eager bool
	}{
		"cadence":       {func(r *rotating) { r.pass(7 * day * 9 / 10) }, false},
		"asked":         {(*rotating).ask, true},
		"rotate a user": {func(r *rotating) { r.act(statement.RotateUser{User: r.owner.Wallet()}) }, true},
		"rotate all":    {func(r *rotating) { r.act(statement.RotateAll{}) }, true},
		"revoked agent": {func(r *rotating) {
			r.chain.mu.Lock()
			c := r.chain.vault.Agent(r.owner.Wallet(), r.scribe.Wallet()).Counter
			r.chain.mu.Unlock()
			r.must(r.owner, statement.RevokeAgent{User: r.owner.Wallet(), Agent: r.scribe.Wallet(), Counter: c})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rotate(t, 1, func(t *testing.T, r *rotating) {
				r.keep("github", "openai")
				r.pass(time.Hour)
				tc.cause(r)
				r.drive(func() bool { return r.user().Active.Epoch == 2 })
				began := time.Now()
				_, err := r.courier.next(t.Context(), r.owner.Wallet())
				check(t, err)
				if moved := r.user().Active.LiveCount == 2; moved != tc.eager || r.user().Draining.Eager != tc.eager {
					t.Fatalf("eager %v: %+v", tc.eager, r.user())
				}
				r.settle(2)
				// Eager takes the grace and no more; lazy the drain window.
				if took := time.Since(began); (took < time.Minute) != tc.eager || took > 73*time.Hour {
					t.Fatalf("took %s", took)
				}
				if name != "revoked agent" {
					r.intact()
				}
			})
		})
	}
}

func TestLazyMovesWhatIsRead(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github", "openai", "slack")
		r.pass(7 * day)
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		wait, err := r.courier.next(t.Context(), r.owner.Wallet())
		if err != nil || wait < time.Minute || r.user().Active.LiveCount != 0 {
			t.Fatalf("unread credentials: wait %s, %v, %+v", wait, err, r.user())
		}
		r.forget()
		_, err = r.get("openai")
		check(t, err)
		if users := r.s.hints.users(); len(users) != 1 || users[0] != r.owner.Wallet() {
			t.Fatalf("hints name %v", users)
		}
		if _, err = r.courier.next(t.Context(), r.owner.Wallet()); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]agentkeys.Epoch{"github": 1, "openai": 2, "slack": 1} {
			if p := r.pointer(name); p.Epoch != want {
				t.Errorf("%s is in epoch %d, want %d", name, p.Epoch, want)
			}
		}
		// Read once is moved once.
		if wait, err = r.courier.next(t.Context(), r.owner.Wallet()); err != nil || wait < time.Minute {
			t.Fatalf("after the move: wait %s, %v", wait, err)
		}
		r.pass(71 * time.Hour)
		if _, err = r.courier.next(t.Context(), r.owner.Wallet()); err != nil || r.user().Draining.LiveCount != 2 {
			t.Fatalf("before the window is over: %v, %+v", err, r.user())
		}
		r.pass(time.Hour)
		if _, err = r.courier.next(t.Context(), r.owner.Wallet()); err != nil || r.user().Draining.LiveCount != 0 {
			t.Fatalf("the window is over: %v, %+v", err, r.user())
		}
		r.settle(2)
		r.intact()
	})
}

// The old object of a moved slot stays for the grace, for readers who hold the row
// from before, and goes then although its epoch still drains.
func TestOldObjectGoesAfterTheGrace(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github", "openai")
		r.pass(7 * day)
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		old := r.objectKey("github")
		_, err := r.get("github")
		check(t, err)
		_, err = r.courier.next(t.Context(), r.owner.Wallet())
		check(t, err)
		there := func() bool { _, err := r.store.get(old); return err == nil }
		if r.pass(11 * time.Second); !there() {
			t.Fatal("deleted within the grace")
		}
		if r.pass(3 * time.Second); there() || len(r.under(1)) != 1 {
			t.Fatalf("after the grace: %v", r.under(1))
		}
	})
}

// receipts runs the job that is due up to its receipts, which are not handed in.
func (r *rotating) receipts() (out []api.JobReceipt) {
	r.t.Helper()
	r.courier.kept = nil
	r.courier.hand.carried = func(api.Job) {}
	_, err := r.courier.next(r.t.Context(), r.owner.Wallet())
	check(r.t, err)
	r.courier.hand = hand{}
	if len(r.courier.kept) == 0 {
		r.t.Fatal("no job was due")
	}
	return r.courier.kept
}

func TestWriteBetweenJobAndReceipt(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github", "openai")
		r.ask()
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		held := r.receipts()
		r.mustPut("github", "newer", 1)
		r.values[r.owner.Wallet()]["github"] = "newer"
		written := r.pointer("github")
		for _, rc := range held {
			check(t, r.jobs.receipt(t.Context(), rc))
		}
		if p := r.pointer("github"); p != written {
			t.Fatalf("the receipt undid a write: %+v", p)
		}
		if p := r.pointer("openai"); p.Epoch != 2 {
			t.Fatalf("the other row was not moved: %+v", p)
		}
		r.settle(2)
		r.intact()
		// What was re-sealed in vain goes too.
		if r.pass(20 * time.Second); len(r.under(2)) != 2 {
			t.Fatalf("left in epoch 2: %v", r.under(2))
		}
	})
}

func TestDeleteBetweenJobAndReceipt(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github", "openai")
		r.ask()
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		held := r.receipts()
		r.must(r.owner, statement.Delete{User: r.owner.Wallet(), Agent: r.owner.Wallet(), Service: r.serviceID("github"), Version: 1})
		delete(r.values[r.owner.Wallet()], "github")
		for _, rc := range held {
			check(t, r.jobs.receipt(t.Context(), rc))
		}
		if p := r.pointer("github"); p.Version != 0 {
			t.Fatalf("the receipt undid a delete: %+v", p)
		}
		r.settle(2)
		r.intact()
	})
}

// A relay that says done and does nothing, while one row has left by itself, must
// not make the custodian give up what the other rows still name.
func TestLyingRelayLosesNothing(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github", "openai")
		r.ask()
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		held := r.receipts()
		first := "github" // whose row the custodian waits for
		if a, b := r.serviceID("github"), r.serviceID("openai"); b.String() < a.String() {
			first = "openai"
		}
		r.mustPut(first, "newer", 1)
		r.values[r.owner.Wallet()][first] = "newer"
		r.chain.set(func(c *fakeChain) { c.drop = func(k statement.Kind) bool { return k == statement.KindRotateBlobs } })
		wantCode(t, r.jobs.receipt(t.Context(), held[0]), conflict)
		r.pass(time.Minute)
		for name := range r.values[r.owner.Wallet()] {
			if _, err := r.store.get(r.objectKey(name)); err != nil {
				t.Errorf("%s: a verified row names an object that was deleted: %v", name, err)
			}
		}
		r.chain.set(func(c *fakeChain) { c.drop = nil })
		r.settle(2)
		r.intact()
	})
}

func TestSecondJobReplacesTheFirst(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		r.ask()
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		req := api.JobRequest{User: r.owner.Wallet().String(), Rotator: r.courier.p.key()}
		held := r.receipts()
		_, err := r.jobs.next(t.Context(), req)
		check(t, err)
		wantCode(t, r.jobs.receipt(t.Context(), held[0]), conflict)
		if p := r.pointer("github"); p.Epoch != 1 {
			t.Fatalf("a replaced job's receipt was taken: %+v", p)
		}
		// Another user's job replaces nobody's.
		held = r.receipts()
		other := rulestest.Wallet("other")
		r.enrol(other)
		r.as(other, func() {
			r.ask()
			r.receipts()
		})
		check(t, r.jobs.receipt(t.Context(), held[0]))
		r.settle(2)
		r.intact()
	})
}

func TestJobIsForgottenInTime(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		r.ask()
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		held := r.receipts()
		r.pass(jobLife + time.Second)
		wantCode(t, r.jobs.receipt(t.Context(), held[0]), conflict)
		r.settle(2)
		r.intact()
	})
}

// A job larger than a chunk has a receipt for each.
func TestSeveralChunks(t *testing.T) {
	if testing.Short() {
		t.Skip("seals 300 credentials")
	}
	rotate(t, 1, func(t *testing.T, r *rotating) {
		for i := range 260 {
			name := fmt.Sprintf("service-%d", i)
			r.mustPut(name, "value", 0)
		}
		r.keep("github")
		r.ask()
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		held := r.receipts()
		if len(held) != 2 {
			t.Fatalf("%d receipts", len(held))
		}
		// The last one first: chunks stand alone.
		for _, i := range []int{1, 0} {
			check(t, r.jobs.receipt(t.Context(), held[i]))
		}
		r.settle(2)
		if u := r.user(); u.Active.LiveCount != 261 {
			t.Fatalf("%+v", u)
		}
	})
}

func TestJobRequestsAreChecked(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		key := r.courier.p.key()
		_, err := r.jobs.next(t.Context(), api.JobRequest{User: "0x12", Rotator: key})
		wantCode(t, err, badRequest)
		j, err := r.jobs.next(t.Context(), api.JobRequest{User: rulestest.Wallet("stranger").Wallet().String(), Rotator: key})
		if err != nil || j.Kind != api.JobNone {
			t.Fatalf("a stranger's job: %+v, %v", j, err)
		}
		_, err = r.jobs.handshake(t.Context(), api.Handshake{ID: agentkeys.JobID{1}.String()})
		wantCode(t, err, conflict)
		wantCode(t, r.jobs.receipt(t.Context(), api.JobReceipt{ID: "x"}), conflict)
	})
}

// What leaves with a job names the user's own objects, old and new, and no others.
func TestCourierSeesOneUsersObjects(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		old := r.objectKey("github")
		r.ask()
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		r.courier.hand.envelopes = func(moves []api.Move, envelopes [][]byte) {
			to, err := blobstore.ParseKey(moves[0].To)
			if len(moves) != 1 || moves[0].From != old || err != nil || to.User != r.owner.Wallet() || to.Epoch != 2 ||
				moves[0].Hash != envelope.HashOf(envelopes[0]).String() {
				t.Errorf("moves %+v", moves)
			}
		}
		r.settle(2)
		r.intact()
	})
}

// What its owner lets expire is dropped when nobody read it until the window's end;
// what was read moved before, and everything else is carried.
func TestIdleCredentialsExpire(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("carried")
		r.idle = statement.IdleExpire
		for _, name := range []string{"unread", "read"} {
			r.mustPut(name, "value of "+name, 0)
		}
		r.idle = 0
		r.grant("read", statement.ModeReveal, r.in(300*86400))
		r.pass(7 * day)
		r.drive(func() bool { return r.user().Active.Epoch == 2 })
		if _, err := r.courier.next(t.Context(), r.owner.Wallet()); err != nil {
			t.Fatal(err)
		}
		if !r.logged("credentials will expire unless they are read") || r.logged("a credential expired") {
			t.Error("nothing says that credentials will expire, or they have")
		}
		notice := func() map[string]uint64 {
			l, err := r.s.list(t.Context(), r.session(r.owner), struct{}{})
			check(t, err)
			out := map[string]uint64{}
			for _, it := range l.Credentials {
				if it.Expires != 0 {
					out[it.Service] = it.Expires
				}
			}
			return out
		}
		end := r.user().Active.Opened + 72*3600
		if got := notice(); !maps.Equal(got, map[string]uint64{"unread": end, "read": end}) {
			t.Errorf("the list says %v expire", got)
		}
		if _, err := r.get("read"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.courier.next(t.Context(), r.owner.Wallet()); err != nil {
			t.Fatal(err)
		}
		if got := notice(); !maps.Equal(got, map[string]uint64{"unread": end}) {
			t.Errorf("after a read the list says %v expire", got)
		}
		r.pass(72*time.Hour + time.Minute)
		r.settle(2)
		for name, want := range map[string]agentkeys.Epoch{"carried": 2, "read": 2, "unread": 0} {
			if p := r.pointer(name); p.Epoch != want {
				t.Errorf("%s is in epoch %d, want %d", name, p.Epoch, want)
			}
		}
		if !r.logged("a credential expired") {
			t.Error("nothing says that a credential expired")
		}
	})
}
