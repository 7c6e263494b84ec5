package blobstore

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"example.org/agentkeys"
)

const (
	// expiryMargin is how long before its end a session is no longer used: a
	// request that starts with it must still be valid when it reaches the store.
	expiryMargin = 30 * time.Second
	// renewPause keeps an STS outage from slowing every request while the old
	// session still works.
	renewPause = 5 * time.Second
)

type sessionKey struct {
	role Role
	user agentkeys.Wallet
}

// cached is an immutable session with the credentials provider that the SDK wants.
type cached struct {
	Session
	provider aws.CredentialsProvider
	renewAt  time.Time
}

// slot holds the newest session of one key. turn has one token: whoever holds it
// exchanges, the others wait for it or their context.
type slot struct {
	key     sessionKey
	turn    chan struct{}
	current *cached
	pauseTo time.Time
}

// sessions caches STS sessions per (role, user), in memory only: a restart loses
// nothing but a few milliseconds. It forgets the least recently used beyond max.
type sessions struct {
	exchange func(context.Context, sessionKey) (Session, error)
	max      int

	mu    sync.Mutex
	slots map[sessionKey]*list.Element
	order *list.List // front is the most recently used
}

func newSessions(max int, exchange func(context.Context, sessionKey) (Session, error)) *sessions {
	return &sessions{exchange: exchange, max: max, slots: map[sessionKey]*list.Element{}, order: list.New()}
}

// get returns a session that is good for at least atLeast. A session in the last
// quarter of its life is renewed by one caller while the others go on with it.
func (s *sessions) get(ctx context.Context, k sessionKey, atLeast time.Duration) (*cached, error) {
	sl := s.slot(k)
	now := time.Now()
	cur, pause := s.peek(sl)
	usable := cur != nil && now.Add(atLeast).Before(cur.Expiry)
	if usable && now.Before(cur.renewAt) {
		return cur, nil
	}
	if usable {
		if now.Before(pause) || !tryTurn(sl) {
			return cur, nil
		}
	} else if err := awaitTurn(ctx, sl); err != nil {
		return nil, fmt.Errorf("store session: %w: %w", ErrUnavailable, err)
	}
	defer func() { sl.turn <- struct{}{} }()
	return s.renew(ctx, sl, cur, atLeast)
}

// renew runs with the slot's turn. Another caller may have renewed meanwhile.
func (s *sessions) renew(ctx context.Context, sl *slot, seen *cached, atLeast time.Duration) (*cached, error) {
	cur, _ := s.peek(sl)
	if cur != nil && cur != seen && time.Now().Add(atLeast).Before(cur.Expiry) {
		return cur, nil
	}
	fresh, err := s.exchange(ctx, sl.key)
	if err != nil {
		if cur != nil && time.Now().Add(atLeast).Before(cur.Expiry) {
			s.pause(sl)
			return cur, nil
		}
		return nil, err
	}
	next := &cached{Session: fresh, provider: fresh.credentials()}
	next.renewAt = fresh.Expiry.Add(-time.Until(fresh.Expiry) / 4)
	s.mu.Lock()
	sl.current = next
	s.mu.Unlock()
	return next, nil
}

// drop forgets a session that the store no longer knows, unless it was replaced.
func (s *sessions) drop(k sessionKey, dead *cached) {
	sl := s.slot(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl.current == dead {
		sl.current = nil
	}
}

func (s *sessions) peek(sl *slot) (*cached, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sl.current, sl.pauseTo
}

func (s *sessions) pause(sl *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.pauseTo = time.Now().Add(renewPause)
}

func (s *sessions) slot(k sessionKey) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.slots[k]; ok {
		s.order.MoveToFront(e)
		return e.Value.(*slot)
	}
	sl := &slot{key: k, turn: make(chan struct{}, 1)}
	sl.turn <- struct{}{}
	s.slots[k] = s.order.PushFront(sl)
	if s.order.Len() > s.max {
		oldest := s.order.Remove(s.order.Back()).(*slot)
		delete(s.slots, oldest.key)
	}
	return sl
}

func tryTurn(sl *slot) bool {
	select {
	case <-sl.turn:
		return true
	default:
		return false
	}
}

func awaitTurn(ctx context.Context, sl *slot) error {
	select {
	case <-sl.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
