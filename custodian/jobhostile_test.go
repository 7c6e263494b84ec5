package custodian

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// flip alters one bit of a copy.
func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at%len(b)] ^= 1
	return b
}

// loot is what a hostile courier has kept of another user and of earlier jobs.
type loot struct {
	envelope  []byte
	handshake []byte
	frames    []byte
	receipts  []api.JobReceipt
}

// tricks are what a hostile courier can do to one job of two rows.
var tricks = map[string]func(l *loot, h *hand){
	"handshake altered":   func(_ *loot, h *hand) { h.handshake = func(b []byte) []byte { return flip(b, len(b)-1) } },
	"handshake of before": func(l *loot, h *hand) { h.handshake = func([]byte) []byte { return l.handshake } },
	"handshake cut":       func(_ *loot, h *hand) { h.handshake = func(b []byte) []byte { return b[1:] } },
	"no frames":           func(_ *loot, h *hand) { h.frames = func([]byte) []byte { return nil } },
	"first frame dropped": func(_ *loot, h *hand) { h.frames = func(b []byte) []byte { return b[channel.FrameSize:] } },
	"last frame dropped":  func(_ *loot, h *hand) { h.frames = func(b []byte) []byte { return b[:len(b)-channel.FrameSize] } },
	"frame repeated": func(_ *loot, h *hand) {
		h.frames = func(b []byte) []byte { return slices.Concat(b[:channel.FrameSize], b) }
	},
	"frames reordered": func(_ *loot, h *hand) {
		h.frames = func(b []byte) []byte { return slices.Concat(b[channel.FrameSize:], b[:channel.FrameSize]) }
	},
	"frame altered":    func(_ *loot, h *hand) { h.frames = func(b []byte) []byte { return flip(b, len(b)-1) } },
	"frames of before": func(l *loot, h *hand) { h.frames = func([]byte) []byte { return l.frames } },
	"envelopes swapped": func(_ *loot, h *hand) {
		h.envelopes = func(_ []api.Move, e [][]byte) { last := len(e) - 1; e[0], e[last] = e[last], e[0] }
	},
	"envelope altered": func(_ *loot, h *hand) { h.envelopes = func(_ []api.Move, e [][]byte) { e[0] = flip(e[0], 100) } },
	"envelope of another user": func(l *loot, h *hand) {
		h.envelopes = func(_ []api.Move, e [][]byte) { e[0] = l.envelope }
	},
	"stored elsewhere": func(_ *loot, h *hand) {
		h.sealed = func(to string, b []byte) (string, []byte) { return to + "x", b }
	},
	"stored altered": func(_ *loot, h *hand) {
		h.sealed = func(to string, b []byte) (string, []byte) { return to, flip(b, 90) }
	},
	"stored swapped": func(_ *loot, h *hand) {
		var all []api.Move
		h.envelopes = func(moves []api.Move, _ [][]byte) { all = moves }
		h.sealed = func(to string, b []byte) (string, []byte) {
			last := len(all) - 1
			return all[last-slices.IndexFunc(all, func(m api.Move) bool { return m.To == to })].To, b
		}
	},
	"stored another user's": func(l *loot, h *hand) {
		h.sealed = func(to string, _ []byte) (string, []byte) { return to, l.envelope }
	},
	"receipts dropped": func(_ *loot, h *hand) { h.receipts = func([]api.JobReceipt) []api.JobReceipt { return nil } },
	"receipt altered": func(_ *loot, h *hand) {
		h.receipts = func(r []api.JobReceipt) []api.JobReceipt { r[0].Body = flip(r[0].Body, 40); return r }
	},
	"receipt of before": func(l *loot, h *hand) { h.receipts = func([]api.JobReceipt) []api.JobReceipt { return l.receipts } },
	"receipt of before under this job": func(l *loot, h *hand) {
		h.receipts = func(r []api.JobReceipt) []api.JobReceipt {
			old := slices.Clone(l.receipts)
			for i := range old {
				old[i].ID = r[0].ID
			}
			return old
		}
	},
	"receipt as another kind": func(_ *loot, h *hand) {
		h.receipts = func(r []api.JobReceipt) []api.JobReceipt { r[0].Kind = 1; return r }
	},
}

// plunder lets the courier see another user's rotation and an own job that was
// replaced: it keeps everything that passed by.
func (r *rotating) plunder() *loot {
	r.t.Helper()
	l := &loot{}
	watch := func() {
		r.courier.hand.handshake = func(b []byte) []byte { l.handshake = b; return b }
		r.courier.hand.frames = func(b []byte) []byte { l.frames = bytes.Clone(b); return b }
	}
	other := rulestest.Wallet("other")
	r.enrol(other)
	r.as(other, func() {
		r.draining("github", "openai")
		r.courier.hand.envelopes = func(_ []api.Move, e [][]byte) { l.envelope = e[0] }
		watch()
		r.settle(2)
	})
	l.receipts = r.courier.kept
	r.courier.hand = hand{}
	r.draining("github", "openai")
	r.courier.kept = nil
	watch()
	r.courier.hand.carried = func(api.Job) {}
	_, err := r.courier.next(r.t.Context(), r.owner.Wallet())
	check(r.t, err)
	l.receipts = append(l.receipts, r.courier.kept...)
	r.courier.hand = hand{}
	return l
}

// Nothing a courier does gets anything onto the chain that is not so, and an honest
// one finishes afterwards.
func TestHostileCourier(t *testing.T) {
	for name, trick := range tricks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rotate(t, 1, func(t *testing.T, r *rotating) {
				l := r.plunder()
				moved := r.said(statement.KindRotateBlobs)
				before := r.user()
				for range 3 {
					r.courier.hand = hand{}
					trick(l, &r.courier.hand)
					if _, err := r.courier.next(t.Context(), r.owner.Wallet()); err == nil && name != "receipts dropped" {
						t.Fatal("the trick went unnoticed")
					}
				}
				if n := r.said(statement.KindRotateBlobs); n != moved || r.user() != before {
					t.Fatalf("%d chunks were accepted: %+v", n-moved, r.user())
				}
				r.courier.hand = hand{}
				r.settle(2)
				r.intact()
				r.as(rulestest.Wallet("other"), r.intact)
			})
		})
	}
}

// A courier that loses every third object for ever delays a rotation and does not block it.
func TestEveryThirdPutIsDropped(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		names := make([]string, 20)
		for i := range names {
			names[i] = fmt.Sprintf("service%d", i)
		}
		r.draining(names...)
		puts, jobs := 0, 0
		r.courier.hand.sealed = func(to string, b []byte) (string, []byte) {
			if puts++; puts%3 == 0 {
				to += "x"
			}
			return to, b
		}
		for r.user().Draining.LiveCount > 0 {
			if jobs++; jobs > 200 {
				t.Fatalf("%d credentials still wait after %d jobs", r.user().Draining.LiveCount, jobs)
			}
			_, _ = r.courier.next(t.Context(), r.owner.Wallet())
			r.pass(time.Second)
		}
		r.settle(2)
		r.intact()
		if puts < len(names)*5/4 {
			t.Errorf("%d puts of %d objects: none was repeated", puts, len(names))
		}
	})
}

// Repeats and another order of good receipts change nothing.
func TestReceiptsRepeated(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github", "openai")
		r.courier.hand.receipts = func(in []api.JobReceipt) []api.JobReceipt { return slices.Concat(in, in, in) }
		r.settle(2)
		if n := r.said(statement.KindRotateBlobs); n != 1 {
			t.Fatalf("accepted %d times", n)
		}
		r.intact()
		for _, old := range r.courier.kept {
			if err := r.jobs.receipt(t.Context(), old); err != nil {
				wantCode(t, err, conflict)
			}
		}
		r.intact()
	})
}

// A make job in a courier's hand: whatever it does, an epoch that opens has a data
// key that opens.
func TestHostileCourierOfAMakeJob(t *testing.T) {
	for name, h := range map[string]hand{
		"handshake altered": {handshake: func(b []byte) []byte { return flip(b, 70) }},
		"frame altered":     {frames: func(b []byte) []byte { return flip(b, 20) }},
		"no frames":         {frames: func([]byte) []byte { return nil }},
		"receipt altered": {receipts: func(r []api.JobReceipt) []api.JobReceipt {
			r[0].Body = flip(r[0].Body, len(r[0].Body)-1)
			return r
		}},
		"receipt as another kind": {receipts: func(r []api.JobReceipt) []api.JobReceipt { r[0].Kind = 2; return r }},
		"receipt dropped":         {receipts: func([]api.JobReceipt) []api.JobReceipt { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rotate(t, 1, func(t *testing.T, r *rotating) {
				r.keep("github")
				r.ask()
				for range 3 {
					r.courier.hand = h
					_, _ = r.courier.next(t.Context(), r.owner.Wallet())
				}
				if u := r.user(); u.Active.Epoch != 1 {
					t.Fatalf("%+v", u)
				}
				r.courier.hand = hand{}
				r.settle(2)
				r.intact()
			})
		})
	}
}

// Tricks at random over whole rotations, with writes between them.
func TestHostileCourierAtRandom(t *testing.T) {
	names := make([]string, 0, len(tricks))
	for name := range tricks {
		names = append(names, name)
	}
	slices.Sort(names)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rotate(t, 1, func(t *testing.T, r *rotating) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				l := r.plunder()
				for range 40 {
					r.courier.hand = hand{}
					if rnd.IntN(3) > 0 {
						tricks[names[rnd.IntN(len(names))]](l, &r.courier.hand)
					}
					if rnd.IntN(6) == 0 {
						r.keep("github")
					}
					wait, _ := r.courier.next(t.Context(), r.owner.Wallet()) // the trick may spoil it
					r.betweenStarts()
					r.pass(min(max(wait, 0), 15*time.Second))
					if u := r.user(); u.Draining.Epoch == 0 && u.Due <= u.Active.Epoch {
						r.ask()
					}
				}
				r.courier.hand = hand{}
				due := max(r.user().Due, r.user().Active.Epoch)
				r.settle(due)
				r.intact()
				for e := range due {
					if len(r.under(e)) != 0 {
						t.Errorf("left in %s", blobstore.EpochPrefix(r.owner.Wallet(), e))
					}
				}
			})
		})
	}
}
