package erasure

import (
	"iter"
	"maps"
	"slices"
	"sync"
)

const chunkSize = 64

// memory holds the live shares, about 100 bytes each. Shares sit in chunks that
// never move, so removing one zeroes the only copy.
type memory struct {
	shards [shardCount]struct {
		mu     sync.RWMutex
		at     map[ShareID]uint32
		chunks []*[chunkSize]Share
		free   []uint32
	}
}

func (m *memory) get(id ShareID) (Share, bool) {
	s := &m.shards[id.shard()]
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, ok := s.at[id]
	if !ok {
		return Share{}, false
	}
	return s.chunks[at/chunkSize][at%chunkSize], true
}

// put keeps what is there already and reports whether that is the same share.
func (m *memory) put(id ShareID, share Share) bool {
	s := &m.shards[id.shard()]
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.at[id]; ok {
		return s.chunks[at/chunkSize][at%chunkSize] == share
	}
	if s.at == nil {
		s.at = make(map[ShareID]uint32)
	}
	if len(s.free) == 0 {
		first := uint32(len(s.chunks) * chunkSize)
		s.chunks = append(s.chunks, new([chunkSize]Share))
		for i := range uint32(chunkSize) {
			s.free = append(s.free, first+chunkSize-1-i)
		}
	}
	at := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.chunks[at/chunkSize][at%chunkSize] = share
	s.at[id] = at
	return true
}

func (m *memory) remove(id ShareID) {
	s := &m.shards[id.shard()]
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.at[id]
	if !ok {
		return
	}
	clear(s.chunks[at/chunkSize][at%chunkSize][:])
	s.free = append(s.free, at)
	delete(s.at, id)
}

// entries gives one shard in order; the caller clears it.
func (m *memory) entries(number byte) []entry {
	s := &m.shards[number]
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]entry, 0, len(s.at))
	for id, at := range s.at {
		out = append(out, entry{id, s.chunks[at/chunkSize][at%chunkSize]})
	}
	slices.SortFunc(out, func(a, b entry) int { return a.id.compare(b.id) })
	return out
}

// ids gives every id; one shard is copied at a time, so the loop may change the
// memory.
func (m *memory) ids() iter.Seq[ShareID] {
	return func(yield func(ShareID) bool) {
		for n := range m.shards {
			s := &m.shards[n]
			s.mu.RLock()
			ids := slices.Collect(maps.Keys(s.at))
			s.mu.RUnlock()
			for _, id := range ids {
				if !yield(id) {
					return
				}
			}
		}
	}
}

func (m *memory) has(id ShareID) bool {
	s := &m.shards[id.shard()]
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.at[id]
	return ok
}

func (m *memory) wipe() {
	for id := range m.ids() {
		m.remove(id)
	}
}
