package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"example.org/agentkeys"
)

// maxClimb bounds the headers fetched on the way to one new head.
const maxClimb = 1024

// advance verifies the node's newest header and makes it the head.
func (c *Client) advance(ctx context.Context) error {
	c.advancing.Lock()
	defer c.advancing.Unlock()
	err := c.step(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = err
	if errors.Is(err, ErrFork) && c.refused == nil {
		c.refused = err
		close(c.moved)
		c.moved = make(chan struct{})
	}
	return err
}

func (c *Client) step(ctx context.Context) error {
	if _, _, err := c.watch(); err != nil {
		return err
	}
	signed, err := c.node.Commit(ctx, 0)
	if err != nil {
		return err
	}
	if signed.Header.Height <= c.block.Header.Height {
		return c.compare(ctx, signed)
	}
	next, err := c.complete(ctx, signed)
	if err != nil {
		return err
	}
	if err := c.climb(ctx, next); err != nil {
		return err
	}
	ch := c.changed(ctx, c.Head(), headOf(next))
	c.block, c.dirty = next, true
	c.setHead(next, ch)
	return nil
}

// complete adds the validator set, from the node only when it is not the known one.
func (c *Client) complete(ctx context.Context, s SignedHeader) (*LightBlock, error) {
	set := c.block.Validators
	if hash := set.Hash(); !bytes.Equal(s.Header.ValidatorsHash, hash[:]) {
		var err error
		if set, err = c.node.Validators(ctx, s.Header.Height); err != nil {
			return nil, err
		}
	}
	return &LightBlock{s.Header, s.Commit, set}, nil
}

// climb verifies target from the trusted block, by headers in between where too few of
// the trusted validators signed.
func (c *Client) climb(ctx context.Context, target *LightBlock) error {
	trusted, open := c.block, []*LightBlock{target}
	for fetched := 0; len(open) > 0; {
		next := open[len(open)-1]
		err := c.rules.Verify(trusted, next, time.Now())
		if err == nil {
			if err = c.linked(trusted, next); err == nil {
				trusted, open = next, open[:len(open)-1]
				continue
			}
		}
		if !errors.Is(err, errTrust) {
			return err
		}
		if fetched++; fetched > maxClimb {
			return errors.New("ledger: too many validator changes since the trusted header: configure a newer one")
		}
		middle := trusted.Header.Height + (next.Header.Height-trusted.Header.Height)/2
		b, err := c.node.LightBlock(ctx, middle)
		if err != nil {
			return err
		}
		open = append(open, b)
	}
	return nil
}

// linked compares the hash that an adjacent header gives for its parent. Its validators
// signed it, so another parent is another valid chain.
func (c *Client) linked(trusted, next *LightBlock) error {
	hash := trusted.Header.Hash()
	if next.Header.Height != trusted.Header.Height+1 || bytes.Equal(next.Header.LastBlockID.Hash, hash[:]) {
		return nil
	}
	return c.forked(trusted, next)
}

// compare holds a header that is not newer against the one verified at its height.
// Another one is a fork if it is signed by its validators and a third of ours; without
// that the node just talks nonsense.
func (c *Client) compare(ctx context.Context, s SignedHeader) error {
	known, ok := c.HashAt(s.Header.Height)
	if !ok || known == s.Header.Hash() {
		return nil
	}
	other, err := c.complete(ctx, s)
	if err != nil {
		return err
	}
	if err := c.rules.Check(other); err != nil {
		return err
	}
	if other.Commit.power(c.block.Validators) <= c.block.Validators.total/3 {
		return fmt.Errorf("ledger: the node's header at height %d is of another chain", s.Header.Height)
	}
	return c.forked(c.block, other)
}

func headOf(b *LightBlock) Head {
	return Head{
		Height: b.Header.Height, StateHeight: b.Header.Height - 1, Time: b.Header.Time,
		Hash: b.Header.Hash(), AppHash: agentkeys.Hash(b.Header.AppHash),
	}
}

// setHead publishes a verified block, drops the rows that changed and wakes who waits.
func (c *Client) setHead(b *LightBlock, ch change) {
	head := headOf(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head = head
	c.recent.put(head.Height, head.Hash)
	if head.Height > 1 {
		c.recent.put(head.StateHeight, agentkeys.Hash(b.Header.LastBlockID.Hash))
	}
	c.cache.drop(ch)
	for key, f := range c.flights {
		f.stale = f.stale || ch.concerns([]byte(key))
	}
	close(c.moved)
	c.moved = make(chan struct{})
}

// ring keeps the hashes of recent heights.
type ring [4096]struct {
	height uint64
	hash   agentkeys.Hash
}

func (r *ring) put(height uint64, hash agentkeys.Hash) {
	r[height%uint64(len(r))] = struct {
		height uint64
		hash   agentkeys.Hash
	}{height, hash}
}

func (r *ring) at(height uint64) (agentkeys.Hash, bool) {
	slot := r[height%uint64(len(r))]
	return slot.hash, height != 0 && slot.height == height
}
