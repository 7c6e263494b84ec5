package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
)

// flight is one fetch of a row that others wait for. A head that changes the row makes
// it stale: then its value may be returned for the old head, but not kept.
type flight struct {
	done  chan struct{}
	stale bool
	err   error
}

// rowTries is how often a read that new heads overtake starts over before it settles
// for one head.
const rowTries = 3

// Row returns the value under key, nil if the row is absent, and the head at which that
// is proven. Values belong to the caller.
func (c *Client) Row(ctx context.Context, key []byte) (value []byte, at Head, err error) {
	values, at, err := c.Rows(ctx, key)
	if err != nil {
		return nil, at, err
	}
	return values[0], at, nil
}

// Rows returns several rows as they stand at one head.
func (c *Client) Rows(ctx context.Context, keys ...[]byte) ([][]byte, Head, error) {
	for range rowTries {
		values, head, missing, err := c.cached(keys)
		if err != nil || len(missing) == 0 {
			return values, head, err
		}
		if err := c.fetchAll(ctx, missing, head); err != nil {
			return nil, head, err
		}
	}
	return c.pinned(ctx, keys)
}

// cached reads what the cache has, all at the current head.
func (c *Client) cached(keys [][]byte) (values [][]byte, head Head, missing [][]byte, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.refused != nil {
		return nil, c.head, nil, c.refused
	}
	values = make([][]byte, len(keys))
	for i, key := range keys {
		value, ok := c.cache.get(key)
		if !ok {
			missing = append(missing, key)
			continue
		}
		values[i] = bytes.Clone(value)
	}
	return values, c.head, missing, nil
}

func (c *Client) fetchAll(ctx context.Context, keys [][]byte, head Head) error {
	if len(keys) == 1 {
		return c.fetch(ctx, keys[0], head)
	}
	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for i, key := range keys {
		wg.Go(func() { errs[i] = c.fetch(ctx, key, head) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fetch brings one row into the cache, proven at head. Whoever comes first asks the
// node, the others wait for it; a stale or cancelled fetch is no error to them, they
// look again.
func (c *Client) fetch(ctx context.Context, key []byte, head Head) error {
	c.mu.Lock()
	f, waiting := c.flights[string(key)]
	if !waiting {
		if c.head.Height != head.Height { // overtaken: what may have changed is unknown here
			c.mu.Unlock()
			return nil
		}
		f = &flight{done: make(chan struct{})}
		c.flights[string(key)] = f
	}
	c.mu.Unlock()
	if waiting {
		return f.wait(ctx)
	}
	value, err := c.prove(ctx, key, head)
	c.land(string(key), f, value, err)
	return err
}

func (f *flight) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.done:
	}
	if errors.Is(f.err, context.Canceled) || errors.Is(f.err, context.DeadlineExceeded) {
		return nil
	}
	return f.err
}

func (c *Client) land(key string, f *flight, value []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, key)
	f.err = err
	if err == nil && !f.stale && c.refused == nil {
		c.cache.put(key, value)
	}
	close(f.done)
}

// pinned reads all keys at one head without the cache.
func (c *Client) pinned(ctx context.Context, keys [][]byte) ([][]byte, Head, error) {
	head, _, err := c.watch()
	if err != nil {
		return nil, head, err
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		if values[i], err = c.prove(ctx, key, head); err != nil {
			return nil, head, err
		}
	}
	return values, head, nil
}

// prove asks the node for one row at the head's state and checks the proof.
func (c *Client) prove(ctx context.Context, key []byte, head Head) ([]byte, error) {
	if head.StateHeight < 2 {
		return nil, ErrNoState
	}
	a, err := c.node.Query(ctx, "/store/"+c.cfg.Store+"/key", key, head.StateHeight, true)
	if err != nil {
		return nil, err
	}
	if a.Code != 0 || a.Proof == nil {
		return nil, fmt.Errorf("ledger: the node does not prove the row at height %d: code %d: %s", head.StateHeight, a.Code, a.Log)
	}
	if len(a.Value) == 0 {
		return nil, VerifyAbsent(head.AppHash[:], c.cfg.Store, key, *a.Proof)
	}
	if err := VerifyRow(head.AppHash[:], c.cfg.Store, key, a.Value, *a.Proof); err != nil {
		return nil, err
	}
	return a.Value, nil
}
