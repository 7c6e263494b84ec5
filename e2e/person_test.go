package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
)

// person is a user of the SDK with a wallet of its own.
type person struct {
	v   *vault
	key eip712.Key
	c   *client.Client
}

func (v *vault) dial(t *testing.T) *client.Client {
	t.Helper()
	id, err := v.cfg.Vault()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(client.Endpoint{URL: v.cfg.API(), Pin: v.cfg.Custodian.Pin, Vault: id})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// enrol makes a new user whose first epoch is open.
func (v *vault) enrol(t *testing.T) *person {
	t.Helper()
	key, err := eip712.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	p := &person{v, key, v.dial(t)}
	p.submit(t, statement.Enrol{User: key.Wallet()})
	if err := p.c.Login(t.Context(), key, key.Wallet(), 0); err != nil {
		t.Fatal(err)
	}
	p.store(t, "first")
	return p
}

func (p *person) submit(t *testing.T, b statement.Body) api.Accepted {
	t.Helper()
	acc, err := p.c.Submit(t.Context(), p.key, b)
	if err != nil || acc.Name != "ok" {
		t.Fatalf("%T: %+v %v", b, acc, err)
	}
	return acc
}

func valueOf(name agentkeys.Service) string { return "value-of-" + string(name) + "-secret" }

// put stores the value that belongs to a name.
func (p *person) put(ctx context.Context, name agentkeys.Service) error {
	secret := agentkeys.NewSecret([]byte(p.v.keep(valueOf(name))))
	_, err := p.c.Write(ctx, name, agentkeys.Wallet{}, credential.Credential{Secret: secret, Kind: credential.Other}, statement.IdleCarry, 0, nil)
	return err
}

func (p *person) store(t *testing.T, name agentkeys.Service) {
	t.Helper()
	if err := p.put(t.Context(), name); err != nil {
		t.Fatalf("store %s: %v", name, err)
	}
}

// reads is what the owner gets to see under a name.
func (p *person) read(ctx context.Context, name agentkeys.Service) (string, error) {
	val, err := p.c.Read(ctx, name, agentkeys.Wallet{}, &p.key)
	if err != nil {
		return "", err
	}
	defer val.Secret.Wipe()
	return string(val.Secret.Reveal()), nil
}

func (p *person) mustRead(t *testing.T, names ...agentkeys.Service) {
	t.Helper()
	for _, n := range names {
		if got, err := p.read(t.Context(), n); err != nil || got != valueOf(n) {
			t.Errorf("%s reads %q, %v", n, got, err)
		}
	}
}

func (p *person) list(t *testing.T) api.Listing {
	t.Helper()
	l, err := p.c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// agent admits a new agent that may read the names, and logs it in.
func (p *person) agent(t *testing.T, names ...agentkeys.Service) (eip712.Key, *client.Client) {
	t.Helper()
	key, err := eip712.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	expires := uint64(time.Now().Add(time.Hour).Unix())
	p.submit(t, statement.AdmitAgent{User: p.key.Wallet(), Agent: key.Wallet(), Role: statement.RoleAgent, Expires: expires})
	tag, err := p.c.TagKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tag.Wipe()
	for _, n := range names {
		label, err := tag.Label(n)
		if err != nil {
			t.Fatal(err)
		}
		g := statement.Grant{User: p.key.Wallet(), Agent: key.Wallet(), Service: eip712.ServiceID(label), Counter: 1,
			Mode: statement.ModeReveal, Slot: statement.SlotShared, Expires: expires}
		if g.SealedName, err = tag.SealName(g.User, g.Service, n); err != nil {
			t.Fatal(err)
		}
		p.submit(t, g)
	}
	c := p.v.dial(t)
	if err := c.Login(t.Context(), key, p.key.Wallet(), 0); err != nil {
		t.Fatal(err)
	}
	return key, c
}

// active is the active epoch; draining the other live one, 0 when there is none.
func active(l api.Listing) (active, draining uint32) {
	for _, e := range l.Epochs {
		if e.State == "active" {
			active = e.Epoch
		} else {
			draining = e.Epoch
		}
	}
	return active, draining
}

func (p *person) ask(t *testing.T) uint32 {
	t.Helper()
	now, _ := active(p.list(t))
	p.submit(t, statement.AskRotation{User: p.key.Wallet(), Due: agentkeys.Epoch(now + 1)})
	return now
}

// rotated waits until an epoch and everything below it are destroyed.
func (p *person) rotated(t *testing.T, epoch uint32) {
	t.Helper()
	within(t, 40*time.Second, fmt.Sprintf("epoch %d is destroyed", epoch), func() bool {
		l, err := p.c.List(t.Context())
		if err != nil {
			return false
		}
		now, draining := active(l)
		return now > epoch && draining == 0
	})
}

// replace puts a new value in the place of the stored one.
func (p *person) replace(t *testing.T, name agentkeys.Service, value string) {
	t.Helper()
	it, err := p.c.Item(t.Context(), name, agentkeys.Wallet{})
	if err != nil {
		t.Fatal(err)
	}
	secret := agentkeys.NewSecret([]byte(p.v.keep(value)))
	_, err = p.c.Write(t.Context(), name, agentkeys.Wallet{}, credential.Credential{Secret: secret, Kind: credential.Other},
		statement.IdleCarry, it.Version, &p.key)
	if err != nil {
		t.Fatalf("replace %s: %v", name, err)
	}
}
