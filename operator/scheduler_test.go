package operator

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/rules"
)

func TestNextLook(t *testing.T) {
	w := agentkeys.Wallet{0xff, 1, 2, 3, 4, 5, 6, 7}
	const now, cadence = 1_000_000, 1000
	active := func(opened uint64) rules.EpochRow { return rules.EpochRow{Epoch: 3, Opened: opened} }
	fresh := uint64(now - 10)
	for _, c := range []struct {
		name         string
		row          rules.User
		rotateBefore uint64
		want         uint64
	}{
		{"no epoch yet", rules.User{}, 0, now},
		{"asked for", rules.User{Active: active(fresh), Due: 4}, 0, now},
		{"asked for, done", rules.User{Active: active(fresh), Due: 3}, 0, fresh + cadence - Jitter(w, 3, cadence)},
		{"draining", rules.User{Active: active(fresh), Draining: rules.EpochRow{Epoch: 2}}, 0, now},
		{"every user was asked for", rules.User{Active: active(fresh)}, fresh + 1, now},
		{"opened since every user was asked for", rules.User{Active: active(fresh)}, fresh, fresh + cadence - Jitter(w, 3, cadence)},
		{"long overdue", rules.User{Active: active(5)}, 0, now},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nextLook(w, c.row, now, cadence, c.rotateBefore); got != c.want {
				t.Errorf("look at %d, want %d", got, c.want)
			}
		})
	}
}

func TestJitterSpreads(t *testing.T) {
	const cadence = 7 * 86400
	seen := map[uint64]bool{}
	for i := range 256 {
		w := agentkeys.Wallet{byte(i), byte(i * 7), 0, 0, 0, byte(i), byte(255 - i), byte(i * 31)}
		for e := agentkeys.Epoch(1); e < 5; e++ {
			j := Jitter(w, e, cadence)
			if j >= cadence/10 {
				t.Fatalf("jitter %d is above a tenth of the cadence", j)
			}
			if j != Jitter(w, e, cadence) {
				t.Fatal("jitter of one epoch changes")
			}
			seen[j] = true
		}
	}
	if len(seen) < 900 {
		t.Errorf("1020 epochs share %d moments", len(seen))
	}
	for _, c := range []uint64{0, 1, 9} {
		if j := Jitter(agentkeys.Wallet{1}, 1, c); j != 0 {
			t.Errorf("cadence %d: jitter %d", c, j)
		}
	}
}

// steps is a custodian that answers as told and notes who asked when.
type steps struct {
	answer func(user agentkeys.Wallet, height uint64, n int) (time.Duration, error)
	began  time.Time

	mu      sync.Mutex
	asked   map[agentkeys.Wallet][]time.Duration
	wrapped [][]agentkeys.Wallet
	broken  error // of a wrap
}

func (s *steps) wrap(_ context.Context, users []agentkeys.Wallet, _ uint64) error {
	s.mu.Lock()
	s.wrapped = append(s.wrapped, users)
	s.mu.Unlock()
	time.Sleep(time.Second)
	return s.broken
}

func (s *steps) step(_ context.Context, u agentkeys.Wallet, height uint64) (time.Duration, error) {
	s.mu.Lock()
	s.asked[u] = append(s.asked[u], time.Since(s.began))
	n := len(s.asked[u])
	s.mu.Unlock()
	return s.answer(u, height, n)
}

type rowsOf map[agentkeys.Wallet]rules.User

func (r rowsOf) users(_ context.Context, each func(agentkeys.Wallet, rules.User, uint64)) error {
	for w, u := range r {
		each(w, u, 0)
	}
	return nil
}

func schedulerOf(c *steps, users eachUser) *Scheduler {
	c.asked, c.began = map[agentkeys.Wallet][]time.Duration{}, time.Now()
	s := newScheduler(slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil)))
	s.step, s.wrap, s.users = c.step, c.wrap, users
	s.hints = func(context.Context) ([]agentkeys.Wallet, uint32) { return nil, 0 }
	s.params = func(context.Context) (uint64, uint64, error) { return 7 * 86400, 0, nil }
	return s
}

// play runs a scheduler for a while of synthetic time.
func play(t *testing.T, s *Scheduler, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run ended with %v", err)
	}
}

var errAway = errors.New("custodian: away")

func TestScheduleFromRowsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		due, later := agentkeys.Wallet{1}, agentkeys.Wallet{2}
		rows := rowsOf{
			due:   {Active: rules.EpochRow{Epoch: 1, Opened: uint64(time.Now().Unix())}, Due: 2},
			later: {Active: rules.EpochRow{Epoch: 1, Opened: uint64(time.Now().Unix())}, Due: 1},
		}
		c := &steps{answer: func(u agentkeys.Wallet, _ uint64, n int) (time.Duration, error) {
			if u == due && n < 3 {
				return time.Second, nil // under way
			}
			return -1, nil
		}}
		s := schedulerOf(c, rows.users)
		play(t, s, 5*time.Minute)
		if got := c.asked[due]; len(got) != 3 || got[0] != 0 || got[1] != time.Second || got[2] != 2*time.Second {
			t.Errorf("the due user is asked for at %v", got)
		}
		if len(c.asked[later]) != 0 {
			t.Errorf("a user of whom nothing is due is asked for at %v", c.asked[later])
		}
		if s.Pending() != 0 || len(s.due) != 1 {
			t.Errorf("%d users have a step due, %d wait; want none, and the one whose cadence comes", s.Pending(), len(s.due))
		}
	})
}

func TestFailureWaitsLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := agentkeys.Wallet{1}, agentkeys.Wallet{2}
		c := &steps{answer: func(u agentkeys.Wallet, height uint64, n int) (time.Duration, error) {
			if u != bad {
				return 10 * time.Second, nil
			}
			if height != 42 {
				t.Errorf("ask %d is at height %d, want 42 until it is done", n, height)
			}
			return 0, errAway
		}}
		s := schedulerOf(c, rowsOf{}.users)
		s.Look(bad, 42)
		s.Look(bad, 41)
		s.Look(good, 0)
		if s.Pending() != 2 {
			t.Errorf("%d users have a step due, want both", s.Pending())
		}
		play(t, s, 5*time.Minute-time.Second)
		if s.Pending() != 1 {
			t.Errorf("%d users have a step due, want the one that fails", s.Pending())
		}
		at := c.asked[bad]
		if len(at) < 12 {
			t.Fatalf("asked %d times", len(at))
		}
		for i := 2; i < len(at); i++ {
			gap, before := at[i]-at[i-1], at[i-1]-at[i-2]
			if gap < before || gap > 30*time.Second {
				t.Errorf("pause %d is %v after %v", i, gap, before)
			}
		}
		if last := at[len(at)-1] - at[len(at)-2]; last != 30*time.Second {
			t.Errorf("after five minutes the pause is %v", last)
		}
		if n := len(c.asked[good]); n != 30 {
			t.Errorf("the other user is asked for %d times in 5 minutes, want every 10 s", n)
		}
	})
}

func TestHeightGoesWhenDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := agentkeys.Wallet{1}
		var s *Scheduler
		want := []uint64{0, 5, 5, 9, 0}
		c := &steps{answer: func(_ agentkeys.Wallet, height uint64, n int) (time.Duration, error) {
			if height != want[n] {
				t.Errorf("ask %d is at height %d, want %d", n, height, want[n])
			}
			switch n {
			case 1:
				return 0, errAway
			case 2:
				s.Look(u, 9) // a block that came meanwhile counts
				return time.Second, nil
			case 3:
				return time.Second, nil
			}
			return -1, nil
		}}
		s = schedulerOf(c, rowsOf{}.users)
		s.Look(u, 5)
		play(t, s, time.Minute)
		if len(c.asked[u]) != 4 {
			t.Errorf("asked at %v", c.asked[u])
		}
	})
}

func TestScanComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scans := 0
		c := &steps{answer: func(_ agentkeys.Wallet, height uint64, _ int) (time.Duration, error) {
			if height != 7 {
				t.Errorf("asked about height %d, want that of the row", height)
			}
			return -1, nil
		}}
		s := schedulerOf(c, func(_ context.Context, each func(agentkeys.Wallet, rules.User, uint64)) error {
			if scans++; scans <= 2 {
				return errAway
			}
			each(agentkeys.Wallet{1}, rules.User{}, 7)
			return nil
		})
		play(t, s, 2*rescan+30*time.Second)
		if scans != 5 {
			t.Errorf("%d scans, want two that fail, one a second later, one every %v", scans, rescan)
		}
		if at := c.asked[agentkeys.Wallet{1}]; len(at) != 3 || at[0] != 2*time.Second {
			t.Errorf("asked at %v", at)
		}
	})
}

func TestHintsAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := agentkeys.Wallet{3}
		c := &steps{answer: func(agentkeys.Wallet, uint64, int) (time.Duration, error) { return -1, nil }}
		s := schedulerOf(c, rowsOf{}.users)
		s.hints = func(context.Context) ([]agentkeys.Wallet, uint32) { return []agentkeys.Wallet{u}, 0 }
		play(t, s, 3*hintEvery+time.Second)
		if at := c.asked[u]; len(at) != 4 || at[0] != 0 || at[1] != hintEvery {
			t.Errorf("asked at %v", at)
		}
	})
}

func under(version byte, due agentkeys.Epoch) rules.User {
	a := rules.EpochRow{Epoch: 1, Opened: uint64(time.Now().Unix())}
	a.Wrapped[3] = version
	return rules.User{Active: a, Due: due}
}

// A new shielding key has everybody wrapped anew whose epoch is under an older one, also
// after a start that missed its beginning.
func TestShieldingKeyMakesDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		older, both, done := agentkeys.Wallet{1}, agentkeys.Wallet{2}, agentkeys.Wallet{3}
		drains := under(2, 1)
		drains.Draining = rules.EpochRow{Epoch: 1}
		drains.Active.Epoch = 2
		drains.Draining.Wrapped[3] = 1
		rows := rowsOf{older: under(1, 1), both: drains, done: under(2, 1)}
		c := &steps{answer: func(agentkeys.Wallet, uint64, int) (time.Duration, error) { return -1, nil }}
		s := schedulerOf(c, rows.users)
		began := time.Now()
		s.hints = func(context.Context) ([]agentkeys.Wallet, uint32) {
			if time.Since(began) < time.Minute {
				return nil, 1
			}
			return nil, 2
		}
		play(t, s, 2*time.Minute)
		if len(c.wrapped) == 0 || len(c.wrapped) > 2 {
			t.Errorf("wrapped %v", c.wrapped)
		}
		if all := slices.Concat(c.wrapped...); len(all) != 2 || slices.Contains(all, done) {
			t.Errorf("wrapped %v", c.wrapped)
		}
		// The draining one is looked at: at the start, and once its wrap is done.
		if at := c.asked[both]; len(at) != 2 || at[1] != time.Minute+time.Second || len(c.asked[older]) != 0 || len(c.asked[done]) != 0 {
			t.Errorf("asked at %v", c.asked)
		}
		again := schedulerOf(c, rows.users)
		c.wrapped = nil
		again.hints = func(context.Context) ([]agentkeys.Wallet, uint32) { return nil, 2 }
		play(t, again, time.Second)
		if all := slices.Concat(c.wrapped...); len(all) != 2 {
			t.Errorf("after a start wrapped %v", c.wrapped)
		}
	})
}

// Jobs for many users are full, so many at a time, and one that fails leaves its users to
// steps of their own.
func TestWrapsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows := rowsOf{}
		const count = 2*api.MaxWrapUsers + 1
		for i := range count {
			rows[agentkeys.Wallet{1, byte(i >> 8), byte(i)}] = under(1, 1)
		}
		c := &steps{answer: func(agentkeys.Wallet, uint64, int) (time.Duration, error) { return -1, nil }, broken: errAway}
		s := schedulerOf(c, rows.users)
		s.version.Store(2)
		s.hints = func(context.Context) ([]agentkeys.Wallet, uint32) { return nil, 2 }
		time.AfterFunc(500*time.Millisecond, func() {
			if n := s.Pending(); n != count {
				t.Errorf("%d users are pending while their data keys are wrapped, want %d", n, count)
			}
		})
		play(t, s, time.Minute)
		if n := s.Pending(); n != 0 {
			t.Errorf("at the end %d users are pending", n)
		}
		seen := map[agentkeys.Wallet]bool{}
		for _, batch := range c.wrapped {
			if len(batch) > api.MaxWrapUsers {
				t.Errorf("%d users in one job", len(batch))
			}
			for _, u := range batch {
				if seen[u] {
					t.Errorf("%s is in two jobs", u)
				}
				seen[u] = true
			}
		}
		if len(seen) != count || len(c.wrapped) > 2+wrapsAtOnce+1 {
			t.Errorf("%d users in %d jobs", len(seen), len(c.wrapped))
		}
		if len(c.asked) != count {
			t.Errorf("after jobs that failed %d users are looked at, want all %d", len(c.asked), count)
		}
	})
}

// One user's step holds up no other's, and no user has two steps at a time.
func TestStepsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows := rowsOf{}
		for i := range byte(100) {
			rows[agentkeys.Wallet{i + 1}] = rules.User{}
		}
		var mu sync.Mutex
		working, most := map[agentkeys.Wallet]bool{}, 0
		c := &steps{}
		s := schedulerOf(c, rows.users)
		c.answer = func(u agentkeys.Wallet, _ uint64, n int) (time.Duration, error) {
			mu.Lock()
			if working[u] {
				t.Errorf("%s has two steps at a time", u)
			}
			working[u] = true
			most = max(most, len(working))
			mu.Unlock()
			s.Look(u, uint64(n))
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			delete(working, u)
			if n == 1 {
				return 0, nil
			}
			return -1, nil
		}
		play(t, s, 10*time.Second)
		if most != usersAtOnce {
			t.Errorf("%d steps at a time, want %d", most, usersAtOnce)
		}
	})
}

func FuzzNextLook(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint64(100), uint64(0), uint32(1), uint32(1), uint32(0))
	f.Fuzz(func(t *testing.T, opened, now, cadence, before uint64, active, due, draining uint32) {
		if opened > math.MaxUint64/4 || now > math.MaxUint64/4 || cadence > math.MaxUint64/4 {
			return
		}
		u := rules.User{Due: agentkeys.Epoch(due), Active: rules.EpochRow{Epoch: agentkeys.Epoch(active), Opened: opened},
			Draining: rules.EpochRow{Epoch: agentkeys.Epoch(draining)}}
		at := nextLook(agentkeys.Wallet{9}, u, now, cadence, before)
		if at < now || at > max(now, opened+cadence) {
			t.Errorf("look at %d: now %d, opened %d, cadence %d", at, now, opened, cadence)
		}
		if (active == 0 || due > active || draining != 0) && at != now {
			t.Errorf("due, yet looked at %d", at)
		}
	})
}
