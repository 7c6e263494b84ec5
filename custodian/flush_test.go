package custodian

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/statement"
)

// holdingRelay keeps the first RecordReads back and gives the chain that one in place
// of every later try.
type holdingRelay struct {
	*fakeChain
	held []byte
}

func (h *holdingRelay) Submit(ctx context.Context, wires [][]byte) (api.Relayed, error) {
	if statement.Kind(wires[0][0]) != statement.KindRecordReads {
		return h.fakeChain.Submit(ctx, wires)
	}
	if h.held == nil {
		h.held = wires[0]
		return api.Relayed{}, errDown
	}
	return h.fakeChain.Submit(ctx, [][]byte{h.held})
}

// A block that was held back shows the batch of a later try too: it makes the head as
// fresh as the first try, not as the last.
func TestHeldBackRecordsDoNotMakeTheHeadFresh(t *testing.T) {
	for name, restart := range map[string]bool{"tried again": false, "tried again after a restart": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				relay := &holdingRelay{fakeChain: w.chain}
				w.s.cfg.Relay = relay
				if err := w.s.flush(t.Context()); err == nil {
					t.Fatal("nothing was held back")
				}
				time.Sleep(7 * time.Second)
				if restart {
					w.restart()
					w.s.cfg.Relay = relay
				}
				check(t, w.s.flush(t.Context()))
				if len(w.s.outbox.pendingFrom(0, 10)) != map[bool]int{false: 0, true: 1}[restart] {
					t.Fatal("the row does not show the batch")
				}
				if w.s.fresh.within(6 * time.Second) {
					t.Fatal("the head counts as fresh")
				}
				// A batch that is new does make it fresh.
				w.s.cfg.Relay = w.chain
				if !restart {
					w.mustPut("github", "one", 0)
					w.grant("github", statement.ModeReveal, w.in(600))
					_, err := w.get("github")
					check(t, err)
					w.s.fresh = freshness{}
				}
				check(t, w.s.flush(t.Context()))
				if !w.s.fresh.within(6 * time.Second) {
					t.Fatal("a committed batch does not make the head fresh")
				}
			})
		})
	}
}
