package custodian

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

func (r *rotating) anchor(i int) rules.Anchor {
	r.chain.mu.Lock()
	defer r.chain.mu.Unlock()
	return r.chain.vault.Anchor(statement.AnchorID(r.anchors[i].id))
}

func TestOpenTakesLeasesAndMakesAnchorsLive(t *testing.T) {
	rotate(t, 2, func(t *testing.T, r *rotating) {
		for i := range r.anchors {
			a := r.anchor(i)
			if a.State != rules.AnchorLive || a.Keeper != r.state.Key() || a.Term != 1 || a.Generation == 0 || a.LeaseUntil < r.in(leaseLeft) {
				t.Fatalf("anchor %d: %+v", i, a)
			}
		}
		said := r.said(statement.KindTakeKeeper)
		// A lease that lasts is left alone, also by a new start.
		r.restart()
		r.pass(time.Second)
		if n := r.said(statement.KindTakeKeeper); n != said {
			t.Fatalf("%d leases taken, before %d", n, said)
		}
		r.pass((leaseFor - leaseLeft + 1) * time.Second)
		check(t, r.keeper.Open(t.Context()))
		if n, a := r.said(statement.KindTakeKeeper), r.anchor(0); n != said+2 || a.Term != 1 || a.LeaseUntil < r.in(leaseFor-10) {
			t.Fatalf("renewed %d times: %+v", n-said, a)
		}
	})
}

// What the chain shows as hardware must not be a file: nothing of it is opened, and a start
// reads through the other anchor.
func TestAnchorOfAnotherKind(t *testing.T) {
	rotate(t, 2, func(t *testing.T, r *rotating) {
		r.pause()
		key := rules.AnchorKey(statement.AnchorID(r.anchors[1].id))
		a := r.anchor(1)
		a.Type = statement.AnchorTPM
		check(t, r.chain.vault.KV.Set(key, a.Append(nil)))
		r.pass(0)
		if err := r.keeper.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "the chain has it as tpm, and this process was told file") {
			t.Fatalf("opened: %v", err)
		}
		r.resume()
		r.restart()
		r.pass(time.Second)
		if r.keeper.set.Tree(r.anchors[1].id) != nil || !r.keeper.Readable() {
			t.Errorf("opened: the other kind %v, readable %v", r.keeper.set.Tree(r.anchors[1].id) != nil, r.keeper.Readable())
		}
	})
}

// While somebody else holds the lease nothing is opened; once it has run out the
// next term begins.
func TestLeaseOfAnotherKeeper(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		r.pause()
		key := rules.AnchorKey(statement.AnchorID(r.anchors[0].id))
		a := r.anchor(0)
		a.Keeper, a.LeaseUntil = rulestest.PublicKey(rulestest.Process("other custodian")), r.in(900)
		check(t, r.chain.vault.KV.Set(key, a.Append(nil)))
		if err := r.keeper.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "lease") {
			t.Fatalf("opened under another keeper's lease: %v", err)
		}
		time.Sleep(910 * time.Second)
		r.pass(0)
		check(t, r.keeper.Open(t.Context()))
		if b := r.anchor(0); b.Keeper != r.state.Key() || b.Term != a.Term+1 {
			t.Fatalf("%+v", b)
		}
		r.resume()
		r.ask()
		r.settle(2)
		r.intact()
	})
}

// A second anchor joins with every live share, and counts from its first commit.
func TestAnchorJoins(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.draining("github")
		r.halt()
		r.join()
		r.at(nil)
		r.start()
		r.pass(2 * time.Second)
		for _, epoch := range []agentkeys.Epoch{1, 2} {
			one, ok1 := r.keeper.set.Tree(r.anchors[0].id).Get(r.share(epoch))
			two, ok2 := r.keeper.set.Tree(r.anchors[1].id).Get(r.share(epoch))
			if !ok1 || !ok2 || one != two {
				t.Fatalf("epoch %d: the trees differ", epoch)
			}
		}
		if a := r.anchor(1); a.State != rules.AnchorLive || a.Generation != 1 {
			t.Fatalf("%+v", a)
		}
		r.settle(2)
		r.intact()
	})
}

// A share is made once: a repeat, also after a restart, finds it.
func TestNewShareIsMadeOnce(t *testing.T) {
	rotate(t, 2, func(t *testing.T, r *rotating) {
		share := func() []byte {
			check(t, r.keeper.newShare(t.Context(), erasure.ShareID{User: r.owner.Wallet(), Epoch: 2, WrapVersion: 1}))
			s, err := r.keeper.Get(r.owner.Wallet(), 2, 1)
			check(t, err)
			return bytes.Clone(s.Reveal())
		}
		first := share()
		again := share()
		r.restart()
		r.pass(time.Second)
		if third := share(); !bytes.Equal(first, again) || !bytes.Equal(first, third) {
			t.Fatal("an epoch got a second share")
		}
		if _, err := r.keeper.Get(r.owner.Wallet(), 3, 1); err == nil {
			t.Fatal("a share nobody made")
		}
	})
}

// Two trees with different shares of an epoch that is not open, which a store brings about
// that withholds a record from a start: both are given up once no statement of before can
// be valid any more, and rotation goes on. Those of a live epoch are never given up.
func TestTwoSharesAreGivenUp(t *testing.T) {
	rotate(t, 2, func(t *testing.T, r *rotating) {
		r.keep("github")
		for i, share := range []erasure.Share{{1}, {2}} {
			_, err := r.keeper.set.Tree(r.anchors[i].id).Put(t.Context(), r.share(2), share)
			check(t, err)
		}
		r.ask()
		if err := r.keeper.newShare(t.Context(), r.share(2)); !errors.Is(err, erasure.ErrTwoShares) || !strings.Contains(err.Error(), "both are given up in") {
			t.Fatalf("a share while an older OpenEpoch may be valid: %v", err)
		}
		if _, ok := r.keeper.set.Tree(r.anchors[0].id).Get(r.share(2)); !ok {
			t.Fatal("given up at once")
		}
		r.pass(2 * statementLife * time.Second)
		r.settle(2)
		for _, a := range r.anchors {
			if s, ok := r.keeper.set.Tree(a.id).Get(r.share(2)); !ok || s == (erasure.Share{1}) || s == (erasure.Share{2}) {
				t.Error("not made anew")
			}
		}
		if err := r.keeper.startOver(t.Context(), r.share(2), erasure.ErrTwoShares); err == nil || !strings.Contains(err.Error(), "a row names it") {
			t.Errorf("a live share was given up: %v", err)
		}
		r.intact()
	})
}

// A node's list that leaves out a user, or names one twice to hide another, stops
// the erasing: a live share could go with it.
func TestIncompleteUserListStopsErasing(t *testing.T) {
	for name, lie := range map[string]func([][]byte) [][]byte{
		"left out":    func(keys [][]byte) [][]byte { return keys[:1] },
		"named twice": func(keys [][]byte) [][]byte { return [][]byte{keys[0], keys[0]} },
		"invented": func(keys [][]byte) [][]byte {
			return [][]byte{keys[0], rules.UserKey(agentkeys.Wallet{1})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rotate(t, 1, func(t *testing.T, r *rotating) {
				r.enrol(rulestest.Wallet("other"))
				r.drained("github")
				r.chain.set(func(c *fakeChain) {
					c.named = func(keys [][]byte) [][]byte {
						if len(keys) == 2 && bytes.HasPrefix(keys[0], rules.UsersPrefix()) {
							return lie(keys)
						}
						return keys
					}
				})
				for range 3 {
					r.look()
					r.pass(13 * time.Second)
				}
				if !r.holds(1) || r.user().Draining.Epoch != 1 || !r.logged("does not match the proven counts") {
					t.Fatalf("erased on an incomplete list: %+v", r.user())
				}
				r.chain.set(func(c *fakeChain) { c.named = nil })
				r.settle(2)
				r.intact()
			})
		})
	}
}
