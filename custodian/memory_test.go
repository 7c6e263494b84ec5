package custodian

import (
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
)

func TestEnvelopesAreBounded(t *testing.T) {
	c := newEnvelopes(100)
	a, b, d := agentkeys.Hash{1}, agentkeys.Hash{2}, agentkeys.Hash{3}
	c.put(a, make([]byte, 40))
	c.put(b, make([]byte, 40))
	c.get(a)
	c.put(d, make([]byte, 40)) // b was used least recently
	if _, ok := c.get(b); ok {
		t.Error("the least recently used one stays")
	}
	if _, ok := c.get(a); !ok {
		t.Error("one in use was dropped")
	}
	c.put(agentkeys.Hash{4}, make([]byte, 101))
	if c.size != 80 || c.order.Len() != 2 {
		t.Errorf("%d bytes in %d", c.size, c.order.Len())
	}
}

func TestNonces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNonces()
		a, b := n.give(), n.give()
		if !n.take(a[:]) || n.take(a[:]) {
			t.Error("a challenge counts exactly once")
		}
		if n.take(nil) || n.take(make([]byte, 32)) {
			t.Error("a challenge that was not given")
		}
		time.Sleep(nonceLife)
		if n.take(b[:]) {
			t.Error("an old challenge")
		}
		for range maxNonces + 10 {
			n.give()
		}
		if len(n.order) > maxNonces || len(n.until) > maxNonces {
			t.Errorf("%d challenges", len(n.until))
		}
	})
}

func TestRevocations(t *testing.T) {
	r := newRevocations()
	u, a := agentkeys.Wallet{1}, agentkeys.Wallet{2}
	r.add(u, a, 3)
	r.add(u, a, 1)
	for counter, want := range map[uint64]bool{1: true, 3: true, 4: false} {
		if r.covers(u, a, counter) != want {
			t.Errorf("counter %d: %v", counter, !want)
		}
	}
	if r.covers(a, u, 1) {
		t.Error("another's revocation")
	}
	r.remove(u, a, 2) // an older one was proven
	if !r.covers(u, a, 3) {
		t.Error("a newer revocation is forgotten")
	}
	r.remove(u, a, 3)
	if r.covers(u, a, 1) {
		t.Error("a proven revocation stays")
	}
}

func TestRevocationsAreBounded(t *testing.T) {
	r := newRevocations()
	first := agentkeys.Wallet{1}
	for i := range maxRevokedAgents + 10 {
		r.add(first, agentkeys.Wallet{byte(i), byte(i >> 8)}, 1)
	}
	for i := range maxRevokingUsers + 10 {
		r.add(agentkeys.Wallet{2, byte(i), byte(i >> 8)}, first, 1)
	}
	if len(r.below[first]) != maxRevokedAgents || len(r.below) != maxRevokingUsers {
		t.Fatalf("%d agents of one user, %d users", len(r.below[first]), len(r.below))
	}
	// One that is kept is still raised, and room is used again.
	r.add(first, agentkeys.Wallet{}, 7)
	if !r.covers(first, agentkeys.Wallet{}, 7) {
		t.Fatal("a newer revocation of the same agent is not obeyed")
	}
	r.forget(first)
	r.add(agentkeys.Wallet{3}, first, 1)
	if !r.covers(agentkeys.Wallet{3}, first, 1) {
		t.Fatal("there is room, and it is not used")
	}
}

func TestHints(t *testing.T) {
	h := newHints()
	s := agentkeys.Slot{User: agentkeys.Wallet{1}, Agent: agentkeys.Wallet{1}}
	h.read(s)
	h.read(s)
	for range 2 {
		if len(h.users()) != 1 || !h.slots(s.User)[s] {
			t.Error("a slot stays until it moved")
		}
	}
	h.done(s)
	if len(h.slots(s.User)) != 0 {
		t.Error("a slot that moved stays")
	}
}
