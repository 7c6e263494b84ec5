package adversary

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
)

// long is asked for by "make adversary", CI and nobody else: it takes some minutes.
func long() bool { return os.Getenv("AGENTKEYS_ADVERSARY") == "long" }

// TestAdversary plays users through many epochs while everything is recorded and
// processes are killed; then the thief takes all secrets. With AGENTKEYS_MUTANT the
// vault leaks, and the test has to fail.
func TestAdversary(t *testing.T) {
	if name := os.Getenv("AGENTKEYS_MUTANT"); name != "" {
		m, err := Change(name)
		if err != nil || m.Caught == nil {
			t.Fatalf("mutant %s: %v; see MUTANT=list", name, err)
		}
		s, names := shortPlay(t, m)
		leaks := Leaks(thief(t, s.loot(t), names, false).Report())
		if i := slices.IndexFunc(leaks, m.Caught.MatchString); i >= 0 {
			t.Errorf("LEAK, as it has to be (%s): %s", m.What, leaks[i])
		}
		return
	}
	s := start(t, 8)
	last := uint32(6)
	if long() {
		last = 12
	}
	users := []*user{s.enrol(t, "anna", asks), s.enrol(t, "bruno", revokes), s.enrol(t, "clara", waits)}
	var playing sync.WaitGroup
	for _, u := range users {
		playing.Go(func() { u.live(t, last) })
	}
	for _, name := range []string{custodian, rotator, "agentkeys-operator", "agentkeysd", "agentkeys-devcloud", custodian} {
		time.Sleep(3 * time.Second)
		s.kill(t, name)
	}
	playing.Wait()
	if t.Failed() {
		return
	}
	l := s.loot(t)
	rows := judge(t, l, named(users...), long())
	epochs := map[agentkeys.Wallet]int{}
	for _, r := range rows {
		if r.State == Destroyed {
			epochs[r.User]++
		}
	}
	for _, u := range users {
		if epochs[u.key.Wallet()] < int(last)-2 {
			t.Errorf("%s: %d epochs are destroyed, want at least %d", u.name, epochs[u.key.Wallet()], last-2)
		}
	}
	values(t, l, users)
}

func named(users ...*user) map[agentkeys.Wallet]string {
	names := map[agentkeys.Wallet]string{}
	for _, u := range users {
		names[u.key.Wallet()] = u.name + ", " + string(u.habit)
	}
	return names
}

// thief tries everything.
func thief(t *testing.T, l *Loot, names map[agentkeys.Wallet]string, thorough bool) *Thief {
	t.Helper()
	th, err := NewThief(l)
	if err != nil {
		t.Fatal(err)
	}
	th.Thorough, th.Stride = thorough, stride
	if err := th.Everything(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := th.Try(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("the thief, after %.0f s:\n%s\n%s", time.Since(began).Seconds(), Table(th.Report(), names), th.Counts())
	return th
}

// judge demands that exactly the live epochs open.
func judge(t *testing.T, l *Loot, names map[agentkeys.Wallet]string, thorough bool) []Row {
	t.Helper()
	rows := thief(t, l, names, thorough).Report()
	if err := Check(rows); err != nil {
		t.Error(err)
	}
	return rows
}

// values holds what opened against what was written: the thief reads the truth.
func values(t *testing.T, l *Loot, users []*user) {
	th := control(t, l, named(users...))
	for _, u := range users {
		n := 0
		for name, value := range th.Values {
			if strings.HasPrefix(name, u.key.Wallet().String()) {
				if n++; !u.values[value] {
					t.Errorf("%s holds %q, which %s never wrote", name, value, u.name)
				}
			}
		}
		if n == 0 {
			t.Errorf("nothing of %s was read", u.name)
		}
	}
}

// control: with roots that were copied out of the anchor before they were destroyed, the
// same thief opens every envelope there ever was. So the harness can fail.
func control(t *testing.T, l *Loot, names map[agentkeys.Wallet]string) *Thief {
	t.Helper()
	th, err := NewThief(l)
	if err != nil {
		t.Fatal(err)
	}
	th.Look(l.OldAnchor...)
	for _, p := range l.Pieces {
		if p.From == "anchor" {
			th.Look(p)
		}
	}
	if err := th.Try(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows := th.Report()
	for _, r := range rows {
		if r.Opened != r.Ever {
			t.Errorf("control: %s epoch %d opens %d of %d", names[r.User], r.Epoch, r.Opened, r.Ever)
		}
	}
	t.Logf("control, with %d copies of old roots:\n%s", len(l.OldAnchor), Table(rows, names))
	return th
}

// shortPlay is one user with two destroyed epochs, and no process killed.
func shortPlay(t *testing.T, changes ...Mutant) (*stage, map[agentkeys.Wallet]string) {
	t.Helper()
	s := start(t, 3600, changes...)
	u := s.enrol(t, "anna", asks)
	u.live(t, 3)
	within(t, "epochs 1 and 2 are destroyed", func() bool { now, draining := u.epochs(t); return now == 3 && draining == 0 })
	return s, named(u)
}

// TestKeptObjects: an old object that is kept is no leak by itself.
func TestKeptObjects(t *testing.T) {
	if !long() {
		t.Skip("one stack more: run make adversary, or set AGENTKEYS_ADVERSARY=long")
	}
	m, err := Change("objects-kept")
	if err != nil {
		t.Fatal(err)
	}
	s, names := shortPlay(t, m)
	for _, r := range judge(t, s.loot(t), names, false) {
		if r.State == Destroyed && r.Ever == 0 {
			t.Errorf("epoch %d has no envelope left: nothing was kept", r.Epoch)
		}
	}
}
