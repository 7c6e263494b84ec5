package operator

import (
	"context"
	"sync"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/rules"
)

// wrapsAtOnce is how many jobs for many users are under way at a time: one is with the
// rotator while another waits for its block.
const wrapsAtOnce = 3

// wraps are the users whose data keys are under an older shielding key. They go through
// the rotator together, as many as a job takes.
type wraps struct {
	mu    sync.Mutex
	users map[agentkeys.Wallet]late
	taken int // by jobs that are under way
	kick  chan struct{}
}

// late is a user in wraps: the block its row is from, and whether something else is due
// as well.
type late struct {
	height uint64
	due    bool
}

func newWraps() *wraps {
	return &wraps{users: map[agentkeys.Wallet]late{}, kick: make(chan struct{}, 1)}
}

func (w *wraps) add(u agentkeys.Wallet, l late) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users[u] = l
	w.wake()
}

func (w *wraps) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// pending counts those who wait and those whose job is under way.
func (w *wraps) pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.users) + w.taken
}

func (w *wraps) done(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken -= n
}

// take gives as many as one job takes, once there are any; done follows.
func (w *wraps) take(ctx context.Context) (batch map[agentkeys.Wallet]late) {
	for {
		w.mu.Lock()
		batch = map[agentkeys.Wallet]late{}
		for u, l := range w.users {
			if len(batch) == api.MaxWrapUsers {
				w.wake() // for the next of them
				break
			}
			batch[u] = l
			delete(w.users, u)
		}
		w.taken += len(batch)
		w.mu.Unlock()
		if len(batch) > 0 {
			return batch
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.kick:
		}
	}
}

// runWraps works through them until ctx ends. A job that fails leaves its users to be
// looked at one by one, so that one user holds up no other.
func (s *Scheduler) runWraps(ctx context.Context) {
	for {
		batch := s.wraps.take(ctx)
		if batch == nil {
			return
		}
		var users []agentkeys.Wallet
		height := uint64(0)
		for u, l := range batch {
			users = append(users, u)
			height = max(height, l.height)
		}
		err := s.wrap(ctx, users, height)
		if err != nil && ctx.Err() == nil {
			s.note("data keys under a new shielding key", err)
		}
		for u, l := range batch {
			if err != nil || l.due {
				s.Look(u, l.height)
			}
		}
		s.wraps.done(len(batch))
	}
}

// behind says that a live epoch is under an older shielding key than version.
func behind(u rules.User, version uint32) bool {
	for _, e := range []rules.EpochRow{u.Active, u.Draining} {
		if e.Epoch != 0 && agentkeys.NewReader(e.Wrapped[:4]).U32() < version {
			return true
		}
	}
	return false
}
