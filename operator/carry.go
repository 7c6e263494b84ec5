package operator

import (
	"context"
	"errors"
	"sync"

	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/envelope"
	"golang.org/x/sync/errgroup"
)

// workers is how many objects are on their way to or from the store at once.
const workers = 16

// fetch gets the old envelopes of a chunk in order. Objects that are not there,
// or have other bytes, come back together in an errMissing; an outage is an outage.
func fetch(ctx context.Context, store *blobstore.Courier, moves []api.Move) ([][]byte, error) {
	out := make([][]byte, len(moves))
	var mu sync.Mutex
	var missing errMissing
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i, m := range moves {
		g.Go(func() error {
			b, err := store.Get(ctx, m.From, int64(envelope.MaxEnvelope))
			other := err == nil && envelope.HashOf(b).String() != m.Hash
			if other || errors.Is(err, blobstore.ErrNotFound) || errors.Is(err, blobstore.ErrDenied) {
				mu.Lock()
				missing.keys = append(missing.keys, m.From)
				mu.Unlock()
				return nil
			}
			out[i] = b
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(missing.keys) > 0 {
		return nil, missing
	}
	return out, nil
}

// prefetch begins to fetch a chunk and gives what waits for it.
func prefetch(ctx context.Context, store *blobstore.Courier, moves []api.Move) func() ([][]byte, error) {
	var old [][]byte
	var g errgroup.Group
	g.Go(func() (err error) {
		old, err = fetch(ctx, store, moves)
		return err
	})
	return func() ([][]byte, error) {
		err := g.Wait()
		return old, err
	}
}

// puts stores new envelopes beside the rotator's work.
type puts struct {
	g     *errgroup.Group
	ctx   context.Context
	store *blobstore.Courier
}

func newPuts(ctx context.Context, store *blobstore.Courier) *puts {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	return &puts{g, ctx, store}
}

// add stores one object; one that is there already is the same bytes or the
// custodian's hash check will say so.
func (p *puts) add(key string, body []byte) {
	p.g.Go(func() error {
		err := p.store.Put(p.ctx, key, body)
		if errors.Is(err, blobstore.ErrExists) {
			return nil
		}
		return err
	})
}

func (p *puts) wait() error { return p.g.Wait() }

// reports brings receipts to the custodian while the next chunk is carried.
type reports struct{ g errgroup.Group }

func newReports() *reports {
	r := &reports{}
	r.g.SetLimit(4)
	return r
}

func (r *reports) add(f func() error) { r.g.Go(f) }
func (r *reports) wait() error        { return r.g.Wait() }
