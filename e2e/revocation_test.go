package e2e

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/statement"
)

// revocation: under 64 readers nothing is granted after the acknowledgement, and that takes
// two blocks at most.
func revocation(t *testing.T, v *vault) {
	p := v.enrol(t)
	key, c := p.agent(t, "first")
	var before, after atomic.Int64
	var acked atomic.Bool
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				late := acked.Load()
				val, err := c.Read(ctx, "first", agentkeys.Wallet{}, nil)
				if err == nil {
					val.Secret.Wipe()
					before.Add(1)
					if late {
						after.Add(1)
					}
				}
			}
		})
	}
	within(t, 20*time.Second, "readers read", func() bool { return before.Load() > 100 })
	n, err := ledger.NewNode(v.cfg.RPC())
	if err != nil {
		t.Fatal(err)
	}
	st, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acc := p.submit(t, statement.RevokeAgent{User: p.key.Wallet(), Agent: key.Wallet(), Counter: 1})
	acked.Store(true)
	// A block that was being made when it was asked counts as the first.
	if acc.Height > st.Height+2 {
		t.Errorf("asked at height %d, in block %d: more than two blocks", st.Height, acc.Height)
	}
	time.Sleep(500 * time.Millisecond)
	stop()
	wg.Wait()
	if after.Load() != 0 {
		t.Errorf("%d reads were granted after the acknowledgement", after.Load())
	}
	if err := c.Login(t.Context(), key, p.key.Wallet(), 0); err == nil {
		t.Error("a revoked agent logged in")
	}
	p.rotated(t, 1)
	p.mustRead(t, "first")
}
