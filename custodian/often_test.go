package custodian

import (
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
)

func TestOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o often
		user, other := agentkeys.Wallet{1}, agentkeys.Wallet{2}
		for i := range forcedAtMost {
			if w := o.wait(user); w != 0 {
				t.Fatalf("rotation %d waits %s", i, w)
			}
			o.note(user)
			time.Sleep(time.Minute)
		}
		if w := o.wait(user); w != forcedWithin-forcedAtMost*time.Minute {
			t.Errorf("the next one waits %s", w)
		}
		if o.wait(other) != 0 {
			t.Error("another user waits too")
		}
		time.Sleep(o.wait(user))
		if w := o.wait(user); w != 0 {
			t.Errorf("an hour after the first it waits %s", w)
		}
		time.Sleep(forcedWithin)
		o.note(other)
		if len(o.at) != 1 {
			t.Errorf("%d users are remembered", len(o.at))
		}
	})
}

// Whoever asks for one rotation after the other gets so many an hour, the rest as one.
func TestForcedRotationIsBounded(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		began := time.Now()
		for range forcedAtMost {
			r.ask()
			r.settle(r.user().Active.Epoch + 1)
		}
		if took := time.Since(began); took > forcedWithin/2 {
			t.Fatalf("%d rotations took %s", forcedAtMost, took)
		}
		last := r.user().Active.Epoch
		r.ask()
		wait, err := r.courier.next(t.Context(), r.owner.Wallet())
		if err != nil || wait < forcedWithin/2 || r.user().Active.Epoch != last {
			t.Errorf("one too many: wait %s, %v, epoch %d", wait, err, r.user().Active.Epoch)
		}
		r.settle(last + 1)
		if took := time.Since(began); took < forcedWithin {
			t.Errorf("it came after %s", took)
		}
		r.intact()
	})
}
