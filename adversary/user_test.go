package adversary

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/client"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
)

// habit is how a user's epochs come to their end.
type habit string

const (
	asks    habit = "asks (eager)"
	revokes habit = "revokes (eager)"
	waits   habit = "waits (lazy)"
)

// user lives through epochs and remembers every value that was ever written.
type user struct {
	s     *stage
	name  string
	habit habit
	key   eip712.Key
	c     *client.Client
	dice  *rand.Rand

	mu     sync.Mutex
	values map[string]bool
	n      int
}

func (s *stage) enrol(t *testing.T, name string, h habit) *user {
	t.Helper()
	key, err := eip712.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	u := &user{s: s, name: name, habit: h, key: key, c: s.dial(t), dice: rand.New(rand.NewPCG(1, uint64(len(name)))), values: map[string]bool{}}
	u.submit(t, statement.Enrol{User: key.Wallet()})
	u.try(t, "login", func(ctx context.Context) error { return u.c.Login(ctx, key, key.Wallet(), 0) })
	u.try(t, "store first", func(ctx context.Context) error { return u.put(ctx, "first") })
	return u
}

// try repeats until it works: processes are killed meanwhile.
func (u *user) try(t *testing.T, what string, act func(context.Context) error) {
	var last error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end) && t.Context().Err() == nil; time.Sleep(100 * time.Millisecond) {
		if last = u.once(t, act); last == nil {
			return
		}
	}
	t.Errorf("%s: %s: %v", u.name, what, last)
}

func (u *user) once(t *testing.T, act func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return act(ctx)
}

func (u *user) submit(t *testing.T, b statement.Body) {
	u.try(t, fmt.Sprintf("%T", b), func(ctx context.Context) error {
		acc, err := u.c.Submit(ctx, u.key, b)
		// Said twice, because the first answer was lost, some statements are stale.
		if err == nil && acc.Name != "ok" && acc.Name != "already_applied" && acc.Name != "stale" {
			err = fmt.Errorf("%+v", acc)
		}
		return err
	})
}

// put writes a value of its own under a name, over what is there.
func (u *user) put(ctx context.Context, name agentkeys.Service) error {
	u.mu.Lock()
	u.n++
	value := fmt.Sprintf("value-%04d-of-%s-under-%s", u.n, u.name, name)
	u.values[value] = true
	u.mu.Unlock()
	l, err := u.c.List(ctx)
	if err != nil {
		return err
	}
	var previous uint64
	for _, it := range l.Credentials {
		if it.Service == string(name) {
			previous = it.Version
		}
	}
	cred := credential.Credential{Secret: agentkeys.NewSecret([]byte(value)), Kind: credential.Other}
	owner := &u.key
	if previous == 0 {
		owner = nil
	}
	_, err = u.c.Write(ctx, name, agentkeys.Wallet{}, cred, statement.IdleCarry, previous, owner)
	return err
}

func (u *user) read(ctx context.Context, name agentkeys.Service) error {
	v, err := u.c.Read(ctx, name, agentkeys.Wallet{}, &u.key)
	if err == nil {
		v.Secret.Wipe()
	}
	return err
}

func (u *user) delete(ctx context.Context, name agentkeys.Service) error {
	it, err := u.c.Item(ctx, name, agentkeys.Wallet{})
	if err != nil {
		return err
	}
	id, err := u.id(ctx, name)
	if err != nil {
		return err
	}
	_, err = u.c.Submit(ctx, u.key, statement.Delete{User: u.key.Wallet(), Agent: u.key.Wallet(), Service: id, Version: it.Version})
	return err
}

func (u *user) id(ctx context.Context, name agentkeys.Service) (agentkeys.ServiceID, error) {
	tag, err := u.c.TagKey(ctx)
	if err != nil {
		return agentkeys.ServiceID{}, err
	}
	defer tag.Wipe()
	label, err := tag.Label(name)
	return eip712.ServiceID(label), err
}

// epochs gives the active epoch and the draining one, 0 if there is none.
func (u *user) epochs(t *testing.T) (active, draining uint32) {
	u.try(t, "list", func(ctx context.Context) error {
		l, err := u.c.List(ctx)
		active, draining = 0, 0
		for _, e := range l.Epochs {
			if e.State == "active" {
				active = e.Epoch
			} else {
				draining = e.Epoch
			}
		}
		return err
	})
	return active, draining
}

// use writes, overwrites, reads and deletes, a little at a time.
func (u *user) use(t *testing.T) {
	name := func() agentkeys.Service { return agentkeys.Service(fmt.Sprintf("service-%d", u.dice.IntN(4))) }
	// A name may be deleted or moving just now: what comes of it does not matter here.
	_ = u.once(t, func(ctx context.Context) error { return u.put(ctx, name()) })
	_ = u.once(t, func(ctx context.Context) error { return u.read(ctx, name()) })
	if u.dice.IntN(3) == 0 {
		_ = u.once(t, func(ctx context.Context) error { return u.delete(ctx, name()) })
	}
}

// live goes through epochs until the active one is the last.
func (u *user) live(t *testing.T, last uint32) {
	for now, _ := u.epochs(t); now < last && !t.Failed(); {
		u.use(t)
		switch u.habit {
		case asks:
			u.submit(t, statement.AskRotation{User: u.key.Wallet(), Due: agentkeys.Epoch(now + 1)})
		case revokes:
			u.agent(t)
		}
		next := now
		for end := time.Now().Add(3 * time.Minute); next == now && !t.Failed(); {
			if time.Now().After(end) {
				t.Errorf("%s: epoch %d does not come", u.name, now+1)
				return
			}
			u.use(t)
			next, _ = u.epochs(t)
		}
		now = next
	}
	u.try(t, "store last", func(ctx context.Context) error { return u.put(ctx, "first") })
}

// agent admits an agent, lets it read, and revokes it.
func (u *user) agent(t *testing.T) {
	key, err := eip712.NewKey()
	if err != nil {
		t.Error(err)
		return
	}
	me, expires := u.key.Wallet(), uint64(time.Now().Add(time.Hour).Unix())
	u.submit(t, statement.AdmitAgent{User: me, Agent: key.Wallet(), Role: statement.RoleAgent, Expires: expires})
	g := statement.Grant{User: me, Agent: key.Wallet(), Counter: 1, Mode: statement.ModeReveal, Slot: statement.SlotShared, Expires: expires}
	u.try(t, "seal the name", func(ctx context.Context) error {
		tag, err := u.c.TagKey(ctx)
		if err != nil {
			return err
		}
		defer tag.Wipe()
		if g.Service, err = u.id(ctx, "first"); err != nil {
			return err
		}
		g.SealedName, err = tag.SealName(me, g.Service, "first")
		return err
	})
	u.submit(t, g)
	_ = u.once(t, func(ctx context.Context) error {
		c := u.s.dial(t)
		if err := c.Login(ctx, key, me, 0); err != nil {
			return err
		}
		v, err := c.Read(ctx, "first", agentkeys.Wallet{}, nil)
		if err == nil {
			v.Secret.Wipe()
		}
		return err
	})
	u.submit(t, statement.RevokeAgent{User: me, Agent: key.Wallet(), Counter: 1})
}

func loopback(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
