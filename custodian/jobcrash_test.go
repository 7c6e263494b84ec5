package custodian

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// survive runs f as part of the process: it ends where the process dies.
func (r *rotating) survive(f func()) (died bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, is := p.(crashed); !is {
				panic(p)
			}
			died = true
		}
	}()
	f()
	return r.died() != ""
}

// ofRotation are the steps of make, move and destroy, those of the trees' commits
// and both sides of every statement that the relay carries meanwhile.
func ofRotation(name string) bool {
	for _, p := range []string{"make.", "made.", "move.", "moved.", "destroy.", "commit:", "relay"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// turn takes a user with credentials from epoch 1 to epoch 2, all the way, or to the
// death of the process; restarts are the caller's.
func (r *rotating) turn() (died bool) {
	return r.survive(func() {
		r.drive(func() bool {
			u := r.user()
			return r.died() != "" || u.Active.Epoch == 2 && u.Draining.Epoch == 0 && len(r.under(1)) == 0
		})
	})
}

// crashWorld is a user whose next epoch is due.
func crashWorld(r *rotating) {
	r.keep("github", "openai", "slack")
	r.ask()
}

// stepsOfATurn lists the steps of a whole rotation, in order.
func stepsOfATurn(t *testing.T, anchors int) (names []string) {
	rotate(t, anchors, func(t *testing.T, r *rotating) {
		crashWorld(r)
		r.at(func(name string) bool {
			if ofRotation(name) {
				names = append(names, name)
			}
			return false
		})
		r.turn()
		r.at(nil)
		r.intact()
	})
	return names
}

// A crash before any step of a rotation, and on both sides of any block, loses
// nothing and leaves nothing behind. The next start does the rest from rows.
func TestCrashInRotation(t *testing.T) {
	names := stepsOfATurn(t, 1)
	for _, want := range []string{"make.share", "make.channel", "made.check", "made.statement", "move.list", "move.channel", "moved.check",
		"moved.statement", "moved.proven", "destroy.lease", "destroy.erase", "destroy.commit", "destroy.statement", "destroy.empty"} {
		if !slices.Contains(names, want) {
			t.Errorf("no step %s in %v", want, names)
		}
	}
	seen := map[string]int{}
	for _, name := range names {
		seen[name]++
		n := seen[name]
		t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
			t.Parallel()
			rotate(t, 1, func(t *testing.T, r *rotating) { crashAndGoOn(r, name, n) })
		})
	}
}

// crashAndGoOn dies before the n-th step of a name, starts again and goes on.
func crashAndGoOn(r *rotating, name string, n int) {
	r.t.Helper()
	crashWorld(r)
	r.at(func(step string) bool {
		if step == name {
			n--
		}
		return n == 0
	})
	if !r.turn() {
		r.t.Fatal("it did not crash")
	}
	r.betweenStarts()
	r.restart()
	r.turn()
	r.intact()
	r.endsWhole()
}

// betweenStarts checks what has to hold while the process is dead.
func (r *rotating) betweenStarts() {
	r.t.Helper()
	u := r.user()
	if d := u.Draining.Epoch; d != 0 && d+1 != u.Active.Epoch {
		r.t.Fatalf("epochs %d and %d are live", d, u.Active.Epoch)
	}
	for name := range r.values[r.owner.Wallet()] {
		p := r.pointer(name)
		if p.Epoch != u.Active.Epoch && p.Epoch != u.Draining.Epoch {
			r.t.Fatalf("%s is in epoch %d, which is not live", name, p.Epoch)
		}
		if r.object(r.objectKey(name)) == nil {
			r.t.Fatalf("%s: a row names an object that is gone", name)
		}
	}
}

// endsWhole turns once more, which nothing left behind may hinder.
func (r *rotating) endsWhole() {
	r.t.Helper()
	r.ask()
	r.settle(3)
	r.intact()
	if r.pass(15 * time.Second); len(r.under(1))+len(r.under(2)) != 0 {
		r.t.Fatalf("left behind: %v %v", r.under(1), r.under(2))
	}
}

// With two anchors a crash can fall between them.
func TestCrashBetweenAnchors(t *testing.T) {
	seen := map[string]int{}
	for _, name := range stepsOfATurn(t, 2) {
		seen[name]++
		n := seen[name]
		if !strings.HasPrefix(name, "relay") || n < 2 {
			continue
		}
		t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
			t.Parallel()
			rotate(t, 2, func(t *testing.T, r *rotating) { crashAndGoOn(r, name, n) })
		})
	}
}

// A process that dies at every start gets further each time.
func TestCrashAgainAndAgain(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		crashWorld(r)
		crashes := 0
		for range 100 {
			took := map[string]bool{}
			// Every step once a life, then it dies at the first that is new.
			r.at(func(step string) bool {
				dies := ofRotation(step) && len(took) >= 1+crashes/3 && !took[step]
				took[step] = true
				return dies
			})
			if !r.turn() {
				break
			}
			crashes++
			r.betweenStarts()
			r.restart()
		}
		r.at(nil)
		if crashes < 8 {
			t.Fatalf("only %d crashes", crashes)
		}
		r.intact()
		r.endsWhole()
	})
}

// The rows alone say what is left to do: a chain that is ahead of a dead process
// never has the process open an epoch twice.
func TestEpochOpensOnce(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		crashWorld(r)
		r.at(func(step string) bool { return step == fmt.Sprintf("relayed %d", statement.KindOpenEpoch) })
		if !r.turn() {
			t.Fatal("it did not crash")
		}
		opened := r.user().Active
		if opened.Epoch != 2 {
			t.Fatalf("the block came before the crash: %+v", opened)
		}
		r.restart()
		r.turn()
		if now := r.user().Active; now.Epoch != agentkeys.Epoch(2) || now.DEKID != opened.DEKID {
			t.Fatalf("%+v", now)
		}
		r.intact()
		r.pause()
		defer r.resume()
		if s := r.chain.vault.System(); s.LiveEpochs != 1 {
			t.Fatalf("%+v", s)
		}
	})
}
