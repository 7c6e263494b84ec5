package ledger

import (
	"context"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
)

// maxWalk bounds the Touched rows read for one new head; beyond it everything is
// dropped, which costs about as much.
const maxWalk = 256

// change is what may differ between two states: everything, or the rows of some users
// and all rows without a user. The zero change is none at all.
type change struct {
	all    bool
	system bool
	users  map[agentkeys.Wallet]bool
}

func (ch change) concerns(key []byte) bool {
	if ch.all {
		return true
	}
	user, owned := rules.Owner(key)
	return owned && ch.users[user] || !owned && ch.system
}

// changed finds what changed from one head to a later one, from proven rows alone: the
// newest Touched row and, by the previous height that each names, those before it. It
// never fails: what cannot be told counts as everything.
func (c *Client) changed(ctx context.Context, from, to Head) change {
	if from.AppHash == to.AppHash {
		return change{}
	}
	everything := change{all: true}
	if c.cacheEmpty() {
		return everything
	}
	users := map[agentkeys.Wallet]bool{}
	key, bound := rules.TouchedHeadKey(), to.StateHeight
	for i := range maxWalk {
		value, err := c.prove(ctx, key, to)
		if err != nil {
			return everything
		}
		row, err := rules.ParseTouched(value)
		if err != nil || row.Height > bound || i > 0 && row.Height != bound {
			return everything
		}
		if row.Height > from.StateHeight {
			if row.Scope == rules.TouchedAll || row.Previous >= row.Height {
				return everything
			}
			for _, u := range row.Users {
				users[u] = true
			}
		}
		if row.Height <= from.StateHeight || row.Previous <= from.StateHeight {
			return change{system: true, users: users}
		}
		key, bound = rules.TouchedKey(row.Previous), row.Previous
	}
	return everything
}

func (c *Client) cacheEmpty() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.cache.rows) == 0 && len(c.flights) == 0
}
