package proxy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
)

// child is one command under "agentkeys run": it speaks with a token of its own, for a
// session that delegated to this proxy, and dies with the connection that brought it.
type child struct {
	k     *leases
	name  string // the agent's, for people
	began time.Time
	id    [32]byte      // hash of its token
	ended chan struct{} // closed when its connection is

	// Under the keeper's lock.
	delegation api.Delegation
	session    string
	wallet     string
	dead       bool // begins nothing any more
	names      []agentkeys.Service
	rules      map[agentkeys.Service][]credential.HostRule
	held       map[agentkeys.Service]*lease
	asked      map[agentkeys.Service]*question
}

// admit makes a child for named services. Each is asked for at once, so that what is
// missing shows before the command starts. Drops reach it from the first on.
func (k *leases) admit(ctx context.Context, name string, d api.Delegation, names []agentkeys.Service) (token string, c *child, err error) {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	token = hex.EncodeToString(b)
	c = &child{k: k, name: name, began: time.Now(), ended: make(chan struct{}), id: sha256.Sum256([]byte(token)), delegation: d, names: names,
		rules: map[agentkeys.Service][]credential.HostRule{}, held: map[agentkeys.Service]*lease{}, asked: map[agentkeys.Service]*question{}}
	k.mu.Lock()
	k.children[c.id] = c
	k.mu.Unlock()
	if err := k.furnish(ctx, c); err != nil {
		k.dismiss(c)
		return "", nil, err
	}
	return token, c, nil
}

// furnish asks for everything that a child names, and checks that it can be used.
func (k *leases) furnish(ctx context.Context, c *child) error {
	for _, n := range c.names {
		l, err := k.lend(ctx, c, n)
		if err != nil {
			return err
		}
		wired := len(l.Hosts) > 0 && l.Kind != credential.Other
		k.end(l)
		if !wired {
			return denied(http.StatusForbidden, "no_host_rule", string(n)+" names no host, so it cannot be put on the wire",
				"Ask the owner to run: agentkeys replace "+string(n)+" --host HOST. Do not retry", false)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.dead {
		return c.revoked()
	}
	if a, b, host, clash := c.overlap(); clash {
		return overlapping(a, b, host)
	}
	return nil
}

func overlapping(a, b agentkeys.Service, host string) error {
	return denied(http.StatusConflict, "hosts_overlap", string(a)+" and "+string(b)+" both name "+host+", so it is not clear which to use",
		"Name one of them in --with, or ask the owner to change the hosts of one. Do not retry", false)
}

// overlap finds two services that name the same host.
func (c *child) overlap() (a, b agentkeys.Service, host string, clash bool) {
	for i, a := range c.names {
		for _, b := range c.names[i+1:] {
			if rule, ok := credential.Overlap(c.rules[a], c.rules[b]); ok {
				return a, b, rule.Pattern, true
			}
		}
	}
	return "", "", "", false
}

// dismiss ends a child with its calls, and forgets it.
func (k *leases) dismiss(c *child) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.children, c.id)
	c.dead = true
	select {
	case <-c.ended:
	default:
		close(c.ended)
	}
	for l := range k.loans {
		if l.child == c {
			l.cancel()
			k.release(l)
		}
	}
}

// find looks a child up by its token: by the token's hash, so that the time it takes
// says nothing of another's.
func (k *leases) find(token string) (caller, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.children[sha256.Sum256([]byte(token))]
	return c, ok
}

func (c *child) pick(host string, port uint16) (name agentkeys.Service, ok bool, err error) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if c.dead {
		return "", false, c.revoked()
	}
	for _, n := range c.names {
		if !slices.ContainsFunc(c.rules[n], func(r credential.HostRule) bool { return r.Matches(host, port) }) {
			continue
		}
		if ok {
			return "", false, overlapping(name, n, host)
		}
		name, ok = n, true
	}
	return name, ok, nil
}

func (c *child) revoked() error {
	return denied(http.StatusForbidden, "revoked", c.name+" was revoked, or its session ended", "Do not retry. Ask the owner", false)
}

func (c *child) begin(ctx context.Context, name agentkeys.Service) (call, error) {
	return c.k.begin(ctx, c, name)
}

func (c *child) hosts() (all []credential.HostRule) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	for _, n := range c.names {
		all = append(all, c.rules[n]...)
	}
	return all
}

func (c *child) agent() string { return c.name }

func (c *child) gone() <-chan struct{} { return c.ended }

// renew takes a delegation by a newer session of the same agent: the end of the older
// one is not the child's any more.
func (k *leases) renew(c *child, d api.Delegation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.delegation, c.session = d, ""
}

func denied(status int, code, message, next string, retry bool) *api.Error {
	return &api.Error{Status: status, Code: code, Message: message, Next: next, Retry: retry}
}
