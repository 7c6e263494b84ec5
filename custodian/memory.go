package custodian

import (
	"container/list"
	"crypto/subtle"
	"sync"
	"sync/atomic"
	"time"

	"example.org/agentkeys"
)

// envelopeBytes bounds the cache of sealed envelopes.
const envelopeBytes = 64 << 20

// envelopes is a bounded cache of sealed objects by hash, least recently used out
// first. It holds ciphertext only: whoever reads this memory has what the store has.
type envelopes struct {
	mu    sync.Mutex
	limit int
	size  int
	byKey map[agentkeys.Hash]*list.Element
	order *list.List
}

type cachedEnvelope struct {
	hash  agentkeys.Hash
	bytes []byte
}

func newEnvelopes(limit int) *envelopes {
	return &envelopes{limit: limit, byKey: map[agentkeys.Hash]*list.Element{}, order: list.New()}
}

func (e *envelopes) get(h agentkeys.Hash) ([]byte, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	el, ok := e.byKey[h]
	if !ok {
		return nil, false
	}
	e.order.MoveToFront(el)
	return el.Value.(cachedEnvelope).bytes, true
}

func (e *envelopes) put(h agentkeys.Hash, b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.byKey[h]; ok || len(b) > e.limit {
		return
	}
	e.byKey[h] = e.order.PushFront(cachedEnvelope{h, b})
	e.size += len(b)
	for e.size > e.limit {
		old := e.order.Remove(e.order.Back()).(cachedEnvelope)
		delete(e.byKey, old.hash)
		e.size -= len(old.bytes)
	}
}

// hints are users worth a look and slots that were read while draining. They
// authorise nothing and may be lost.
type hints struct {
	mu    sync.Mutex
	bySlt map[agentkeys.Wallet]map[agentkeys.Slot]bool
}

const maxHints = 10000

func newHints() *hints { return &hints{bySlt: map[agentkeys.Wallet]map[agentkeys.Slot]bool{}} }

// look asks for a user's job without naming a slot.
func (h *hints) look(user agentkeys.Wallet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bySlt[user] == nil && len(h.bySlt) < maxHints {
		h.bySlt[user] = map[agentkeys.Slot]bool{}
	}
}

// read notes that a slot was read in a draining epoch.
func (h *hints) read(s agentkeys.Slot) {
	h.look(s.User)
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.bySlt[s.User]; m != nil && len(m) < maxHints {
		m[s] = true
	}
}

func (h *hints) slots(user agentkeys.Wallet) map[agentkeys.Slot]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[agentkeys.Slot]bool, len(h.bySlt[user]))
	for s := range h.bySlt[user] {
		out[s] = true
	}
	return out
}

func (h *hints) done(s agentkeys.Slot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.bySlt[s.User], s)
}

func (h *hints) clear(user agentkeys.Wallet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.bySlt, user)
}

// users gives and forgets the users worth a look; slots stay until they moved.
func (h *hints) users() (out []agentkeys.Wallet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for u, slots := range h.bySlt {
		out = append(out, u)
		if len(slots) == 0 {
			delete(h.bySlt, u)
		}
	}
	return out
}

// misses bounds how often a repeated write may be held against a stored value and
// differ: a session without the owner's presence must not learn values by guessing.
// In memory only; a restart gives a few guesses more.
type misses struct {
	mu sync.Mutex
	of map[agentkeys.Wallet][]time.Time
}

const (
	maxMisses  = 5
	missWindow = time.Hour
)

func newMisses() *misses { return &misses{of: map[agentkeys.Wallet][]time.Time{}} }

// same compares under the lock, so that guesses in parallel are counted too. Once too
// many differed, nothing is the same any more.
func (m *misses) same(user agentkeys.Wallet, stored, repeated []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	recent := m.of[user][:0]
	for _, at := range m.of[user] {
		if time.Since(at) < missWindow {
			recent = append(recent, at)
		}
	}
	equal := len(recent) < maxMisses && subtle.ConstantTimeCompare(stored, repeated) == 1
	if !equal && len(recent) < maxMisses {
		recent = append(recent, time.Now())
	}
	if m.of[user] = recent; len(recent) == 0 {
		delete(m.of, user)
	}
	return equal
}

// counters are shown as text on the operator's address.
type counters struct {
	logins, reads, writes, denied atomic.Uint64
}
