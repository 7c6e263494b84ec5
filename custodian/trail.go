package custodian

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/record"
	"example.org/agentkeys/token"
)

// trail is the committed read records by user, in memory. It is read from the
// segments when somebody first asks, and only grows.
type trail struct {
	mu     sync.Mutex
	loaded bool
	users  map[agentkeys.Wallet]*userTrail
}

type userTrail struct {
	records []record.Record
	last    map[agentkeys.Slot]uint64
}

func newTrail() *trail { return &trail{users: map[agentkeys.Wallet]*userTrail{}} }

// add takes a committed batch. Until the segments are read nothing is kept: the
// batch is in a segment by now.
func (t *trail) add(batch []record.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loaded {
		t.put(batch)
	}
}

func (t *trail) put(batch []record.Record) {
	for _, r := range batch {
		if r.Kind == record.KindBoot {
			continue
		}
		u := t.users[r.User]
		if u == nil {
			u = &userTrail{last: map[agentkeys.Slot]uint64{}}
			t.users[r.User] = u
		}
		if n := len(u.records); n > 0 && u.records[n-1].Sequence >= r.Sequence {
			continue
		}
		u.records = append(u.records, r)
		u.last[slotOf(r)] = r.Time
	}
}

func slotOf(r record.Record) agentkeys.Slot {
	return agentkeys.Slot{User: r.User, Agent: r.Owner, Service: r.Service}
}

// user gives a user's committed records, reading the segments at first.
func (s *Server) userTrail(ctx context.Context, user agentkeys.Wallet) ([]record.Record, map[agentkeys.Slot]uint64, error) {
	t := s.trail
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded {
		if err := s.loadTrail(ctx); err != nil {
			return nil, nil, err
		}
		t.loaded = true
	}
	u := t.users[user]
	if u == nil {
		return nil, map[agentkeys.Slot]uint64{}, nil
	}
	last := make(map[agentkeys.Slot]uint64, len(u.last))
	for k, v := range u.last {
		last[k] = v
	}
	return u.records, last, nil
}

// loadTrail reads this custodian's segments in order. A batch that is being
// committed meanwhile comes through its segment or through add, and put drops what
// comes twice.
func (s *Server) loadTrail(ctx context.Context) error {
	prefix := fmt.Sprintf("audit/%s/", s.Key())
	for obj, err := range s.cfg.Objects.List(ctx, prefix) {
		if err != nil {
			return err
		}
		if !strings.HasSuffix(obj.Key, ".seg") {
			continue
		}
		seg, err := s.segment(ctx, obj.Key)
		if err != nil {
			return err
		}
		s.trail.put(seg.Records)
	}
	return nil
}

const maxReadsPage = 5000

// reads gives the owner the audit trail: committed records, then those on disk
// that no block has yet.
func (s *Server) reads(ctx context.Context, c token.Claims, in api.ReadsRequest) (api.Reads, error) {
	if err := s.freshHead(ctx); err != nil {
		return api.Reads{}, err
	}
	if _, err := s.authorise(ctx, c, want{action: actOwner}); err != nil {
		return api.Reads{}, err
	}
	// The outbox first: a batch that is committed in between then comes twice
	// rather than never.
	waiting := s.outbox.pendingFrom(0, record.MaxSegment)
	records, _, err := s.userTrail(ctx, c.User)
	if err != nil {
		s.log.Error("audit trail", "error", err.Error())
		return api.Reads{}, storeUnavailable.because("Try again", "the audit trail cannot be read from the store now")
	}
	limit := in.Limit
	if limit <= 0 || limit > maxReadsPage {
		limit = maxReadsPage
	}
	out := api.Reads{Records: [][]byte{}}
	last := uint64(0)
	for _, r := range append(records[:len(records):len(records)], waiting...) {
		if r.Sequence < in.From || r.Sequence <= last || r.User != c.User || r.Kind == record.KindBoot {
			continue
		}
		if len(out.Records) == limit {
			out.Next = r.Sequence
			return out, nil
		}
		last = r.Sequence
		out.Records = append(out.Records, r.Append(nil))
	}
	return out, nil
}
