package erasure

import (
	"context"
	"sync"

	"example.org/agentkeys"
)

// parallel bounds requests to the store that are in flight for one call.
const parallel = 16

// each calls do for 0 to n-1, some at a time and each scrubbed, and returns the first
// error after all calls have ended.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan int)
	var workers sync.WaitGroup
	for range min(n, parallel) {
		workers.Go(func() {
			for i := range todo {
				if ctx.Err() != nil {
					continue
				}
				agentkeys.Scrubbed(func() {
					if err := do(ctx, i); err != nil {
						cancel(err)
					}
				})
			}
		})
	}
	for i := range n {
		todo <- i
	}
	close(todo)
	workers.Wait()
	return context.Cause(ctx)
}
