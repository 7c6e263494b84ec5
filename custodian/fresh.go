package custodian

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// freshness remembers when the newest own statement that a proven row shows was
// signed, by the monotonic clock: the head is at least as new as that. The host's
// wall clock has no say.
type freshness struct {
	mu sync.Mutex
	at time.Time
}

func (f *freshness) proven(signed time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if signed.After(f.at) {
		f.at = signed
	}
}

func (f *freshness) within(age time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.at.IsZero() && time.Since(f.at) <= age
}

const (
	beatTimeout = 6 * time.Second
	beatTries   = 3
	beatWait    = beatTimeout / (beatTries + 1) // for one beat's proof: a lost one is sent again
)

// freshHead returns once the verified head is younger than max_head_age. On an idle
// chain that takes a heartbeat, which makes a block; all who wait share one.
func (s *Server) freshHead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout) // whoever asks hears within that, whatever hangs
	defer cancel()
	p, err := s.Params(ctx)
	if err != nil {
		return s.chainFailed(err)
	}
	age := time.Duration(p.MaxHeadAge) * time.Second
	if s.fresh.within(age) {
		return nil
	}
	if err = s.sharedBeat(ctx); err == nil && s.fresh.within(age) {
		return nil
	}
	s.log.Warn("head is old", "cause", err)
	return staleHead.because("Try again; if it stays the operator's relay or the node is down: agentkeys status",
		"the newest proven state is older than %d s, so nobody can be let in", p.MaxHeadAge)
}

// sharedBeat waits for the heartbeat that is under way, or for a new one.
func (s *Server) sharedBeat(ctx context.Context) error {
	result := s.beat.DoChan("beat", func() (any, error) {
		// Not the context of the first who asked: the others wait for it too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
		defer cancel()
		return nil, s.heartbeat(ctx)
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case r := <-result:
		return r.Err
	}
}

// heartbeat has one Heartbeat proven. A beat left over from an earlier try may come
// between; then the next one counts from it.
func (s *Server) heartbeat(ctx context.Context) error {
	for range beatTries {
		reads, _, head, err := one(ctx, s.cfg.Chain, rules.ReadsKey(s.Key()), rules.ParseReads)
		if err != nil {
			return err
		}
		if err := s.outbox.behind(reads.Next); err != nil {
			return err
		}
		b := statement.Heartbeat{Previous: reads.Beat, SeenHeight: head.Height, ValidUntil: s.statementValidUntil()}
		rand.Read(b.Nonce[:])
		signed := time.Now()
		relayed, err := s.cfg.Relay.Submit(ctx, [][]byte{s.sign(b)})
		if err != nil {
			return err
		}
		if c, reason := hint(relayed); !c.Done() && c != rules.Stale {
			return fmt.Errorf("heartbeat: %s: %s", c, reason)
		}
		once, cancel := context.WithTimeout(ctx, beatWait)
		awaitHeight(once, s.cfg.Chain, relayed.Height)
		value, _, err := s.cfg.Chain.AwaitRow(once, rules.ReadsKey(s.Key()), func(v []byte) bool {
			r, ok, err := row(v, rules.ParseReads)
			return err == nil && ok && r.Beat > b.Previous
		})
		cancel()
		if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			continue
		}
		if err != nil {
			return err
		}
		if r, _, err := row(value, rules.ParseReads); err == nil && r.Beat == b.Previous+1 && r.Nonce == b.Nonce {
			s.fresh.proven(signed)
			return nil
		}
	}
	return errors.New("heartbeat: no block shows it")
}

// sign makes the wire form of a statement of this process.
func (s *Server) sign(body statement.Body) []byte {
	return statement.SignProcess(s.cfg.State.Instance, s.cfg.Vault, body, nil)
}
