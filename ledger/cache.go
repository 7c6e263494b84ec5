package ledger

import (
	"sync/atomic"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
)

// rowOverhead is about what a row costs beside its bytes.
const rowOverhead = 200

// cache holds rows proven at the current head, absent ones too. The client's lock
// guards it: get needs it shared, the rest exclusively.
type cache struct {
	rows   map[string]*row
	byUser map[agentkeys.Wallet]map[string]bool
	free   map[string]bool // rows without a user
	bytes  int
	limit  int
}

type row struct {
	value []byte // nil: absent
	used  atomic.Bool
}

func newCache(limit int) *cache {
	c := &cache{limit: limit}
	c.clear()
	return c
}

func (c *cache) clear() {
	c.rows, c.byUser, c.free = map[string]*row{}, map[agentkeys.Wallet]map[string]bool{}, map[string]bool{}
	c.bytes = 0
}

func (c *cache) get(key []byte) (value []byte, ok bool) {
	r, ok := c.rows[string(key)]
	if !ok {
		return nil, false
	}
	if !r.used.Load() { // a store would move the cache line between readers each time
		r.used.Store(true)
	}
	return r.value, true
}

func (c *cache) put(key string, value []byte) {
	c.remove(key)
	c.rows[key] = &row{value: value}
	c.bytes += len(key) + len(value) + rowOverhead
	if user, owned := rules.Owner([]byte(key)); !owned {
		c.free[key] = true
	} else if keys := c.byUser[user]; keys != nil {
		keys[key] = true
	} else {
		c.byUser[user] = map[string]bool{key: true}
	}
	c.evict()
}

// evict makes room in the map's random order, passing rows over once that were read
// since the last time.
func (c *cache) evict() {
	for c.bytes > c.limit {
		for key, r := range c.rows {
			if r.used.Swap(false) {
				continue
			}
			if c.remove(key); c.bytes <= c.limit {
				return
			}
		}
	}
}

func (c *cache) remove(key string) {
	r, ok := c.rows[key]
	if !ok {
		return
	}
	delete(c.rows, key)
	delete(c.free, key)
	if user, owned := rules.Owner([]byte(key)); owned {
		delete(c.byUser[user], key)
		if len(c.byUser[user]) == 0 {
			delete(c.byUser, user)
		}
	}
	c.bytes -= len(key) + len(r.value) + rowOverhead
}

func (c *cache) drop(ch change) {
	if ch.all {
		c.clear()
		return
	}
	for user := range ch.users {
		for key := range c.byUser[user] {
			c.remove(key)
		}
	}
	if ch.system {
		for key := range c.free {
			c.remove(key)
		}
	}
}
