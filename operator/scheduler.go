package operator

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"golang.org/x/sync/errgroup"
)

// Scheduler decides whom to ask the custodian about, and when. It is derived from
// User rows alone: after a restart it reads them again and nothing is forgotten.
// The rows are the node's word, without proof; the custodian decides.
type Scheduler struct {
	step   func(ctx context.Context, user agentkeys.Wallet, height uint64) (time.Duration, error)
	wrap   func(ctx context.Context, users []agentkeys.Wallet, height uint64) error
	users  eachUser
	hints  func(context.Context) (users []agentkeys.Wallet, version uint32)
	params func(context.Context) (cadence uint64, rotateBefore uint64, err error)
	log    *slog.Logger

	mu   sync.Mutex
	due  map[agentkeys.Wallet]time.Time
	seen map[agentkeys.Wallet]uint64 // height at which a user changed
	fail map[agentkeys.Wallet]int
	busy map[agentkeys.Wallet]bool // a step is under way
	kick chan struct{}

	asleep time.Time // Run looks again by then; a step after that need not wake it

	wraps   *wraps
	version atomic.Uint32 // wrap version in use, as the custodian says; 0 = not told yet
}

// newScheduler has nothing due; what it calls is set by the caller.
func newScheduler(log *slog.Logger) *Scheduler {
	return &Scheduler{log: log, due: map[agentkeys.Wallet]time.Time{}, seen: map[agentkeys.Wallet]uint64{},
		fail: map[agentkeys.Wallet]int{}, busy: map[agentkeys.Wallet]bool{}, kick: make(chan struct{}, 1), wraps: newWraps()}
}

// usersAtOnce is how many users are worked for at a time. Jobs go through the one rotator one
// after another; blocks are waited for together.
const usersAtOnce = 32

// eachUser visits every User row, with the height of the block it is from.
type eachUser func(ctx context.Context, visit func(w agentkeys.Wallet, u rules.User, height uint64)) error

// rescan is how often all User rows are read, to catch what no statement through
// this relay told; hintEvery how often the custodian is asked for users worth a look.
const (
	rescan    = 10 * time.Minute
	hintEvery = 5 * time.Second
)

// Look asks for a user's job at once, decided on the state after a block.
func (s *Scheduler) Look(u agentkeys.Wallet, height uint64) {
	s.mu.Lock()
	s.seen[u] = max(s.seen[u], height)
	s.mu.Unlock()
	s.at(u, time.Now())
}

func (s *Scheduler) at(u agentkeys.Wallet, t time.Time) {
	s.mu.Lock()
	if old, ok := s.due[u]; !ok || t.Before(old) {
		s.due[u] = t
	}
	early := t.Before(s.asleep)
	s.mu.Unlock()
	if early {
		s.wake()
	}
}

func (s *Scheduler) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Run works through due users until ctx ends, one step of a user at a time.
func (s *Scheduler) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	for range wrapsAtOnce {
		working.Go(func() { s.runWraps(ctx) })
	}
	free := make(chan struct{}, usersAtOnce)
	nextScan, nextHints := time.Now(), time.Now()
	for ctx.Err() == nil {
		now := time.Now()
		if !now.Before(nextHints) {
			if s.hint(ctx) {
				nextScan = now
			}
			nextHints = now.Add(hintEvery)
		}
		if !now.Before(nextScan) {
			if err := s.scan(ctx); err != nil {
				s.note("scan", err)
				nextScan = now.Add(time.Second)
			} else {
				nextScan = now.Add(rescan)
			}
		}
		u, at, ok := s.first()
		if ok && !time.Now().Before(at) {
			select {
			case <-ctx.Done():
			case free <- struct{}{}:
				s.begin(u)
				working.Go(func() {
					s.work(ctx, u)
					<-free
				})
			}
			continue
		}
		wait := min(time.Until(nextScan), time.Until(nextHints))
		if ok {
			wait = min(wait, time.Until(at))
		}
		select {
		case <-ctx.Done():
		case <-s.kick:
		case <-time.After(max(wait, time.Millisecond)):
		}
	}
	return ctx.Err()
}

// hint looks at users that the custodian names, and says whether all are to be looked at
// because of a new shielding key.
func (s *Scheduler) hint(ctx context.Context) (all bool) {
	users, version := s.hints(ctx)
	for _, u := range users {
		s.Look(u, 0)
	}
	return version != 0 && s.version.Swap(version) != version
}

// first is the user who is due first and not worked for.
func (s *Scheduler) first() (u agentkeys.Wallet, at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w, t := range s.due {
		if !s.busy[w] && (!ok || t.Before(at)) {
			u, at, ok = w, t, true
		}
	}
	s.asleep = at
	if !ok {
		s.asleep = time.Now().Add(rescan)
	}
	return u, at, ok
}

func (s *Scheduler) begin(u agentkeys.Wallet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.due, u)
	s.busy[u] = true
}

// work takes one step for a user and plans the next. Errors wait longer each time,
// up to half a minute: an outage ends, and other users go on.
func (s *Scheduler) work(ctx context.Context, u agentkeys.Wallet) {
	s.mu.Lock()
	height := s.seen[u]
	s.mu.Unlock()
	wait, err := s.step(ctx, u, height)
	s.mu.Lock()
	delete(s.busy, u)
	switch {
	case err == nil && s.seen[u] == height:
		delete(s.seen, u)
		fallthrough
	case err == nil:
		delete(s.fail, u)
	default:
		s.fail[u]++
		wait = min(30*time.Second, 50*time.Millisecond<<min(s.fail[u], 10))
	}
	s.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.note("user "+u.String(), err)
	}
	if wait >= 0 {
		s.at(u, time.Now().Add(wait))
	}
	s.wake() // somebody may have asked for this user meanwhile
}

func (s *Scheduler) note(what string, err error) {
	s.log.Warn("rotation step failed, will try again", "what", what, "error", err.Error())
}

// Pending is how many users have a step due now, one that failed and will be tried
// again, or a data key to be wrapped anew. Those who are only looked at later do not count.
func (s *Scheduler) Pending() int {
	n := s.wraps.pending()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for u, at := range s.due {
		if s.fail[u] > 0 || !at.After(now) {
			n++
		}
	}
	return n
}

// scan looks at every User row.
func (s *Scheduler) scan(ctx context.Context) error {
	cadence, rotateBefore, err := s.params(ctx)
	if err != nil {
		return err
	}
	now := uint64(time.Now().Unix())
	return s.users(ctx, func(w agentkeys.Wallet, u rules.User, height uint64) {
		at := nextLook(w, u, now, cadence, rotateBefore)
		switch {
		case behind(u, s.version.Load()):
			s.wraps.add(w, late{height, at <= now})
		case at <= now:
			s.Look(w, height) // the custodian may not have seen that block yet
		}
		if at > now {
			s.at(w, time.Unix(int64(at), 0))
		}
	})
}

// nextLook is the custodian's question asked of an unproven row: now for no epoch
// yet, one due, or one draining; else when the active one reaches its cadence less the
// jitter.
func nextLook(w agentkeys.Wallet, u rules.User, now, cadence, rotateBefore uint64) uint64 {
	a := u.Active
	if a.Epoch == 0 || u.Due > a.Epoch || u.Draining.Epoch != 0 || a.Opened < rotateBefore {
		return now
	}
	return max(now, a.Opened+cadence-Jitter(w, a.Epoch, cadence))
}

// Jitter spreads users over a tenth of the cadence, so that a vault's epochs do not
// all turn in one hour.
func Jitter(w agentkeys.Wallet, e agentkeys.Epoch, cadence uint64) uint64 {
	span := cadence / 10
	if span == 0 {
		return 0
	}
	return (binary.BigEndian.Uint64(w[:8]) + uint64(e)*0x9e3779b97f4a7c15) % span
}

// userRows reads all User rows of a node.
func userRows(ctx context.Context, n *ledger.Node, each func(agentkeys.Wallet, rules.User, uint64)) error {
	var after []byte
	for {
		users, more, err := n.Users(ctx, after, 1000)
		if err != nil {
			return err
		}
		answers := make([]ledger.Answer, len(users))
		g, gctx := errgroup.WithContext(ctx)
		for i, w := range users {
			g.Go(func() (err error) {
				answers[i], err = n.Query(gctx, "/store/vault/key", rules.UserKey(w), 0, false)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i, w := range users {
			if u, err := rules.ParseUser(answers[i].Value); err == nil { // the node's word only; the custodian reads proven rows
				each(w, u, answers[i].Height)
			}
		}
		if !more || len(users) == 0 {
			return nil
		}
		after = users[len(users)-1][:]
	}
}
