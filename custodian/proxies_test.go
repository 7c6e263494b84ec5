package custodian

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/record"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

// proxyOf is a proxy of the world's owner, as it talks to the custodian.
type proxyOf struct {
	w        *world
	claims   token.Claims
	instance string
	last     api.Watched
	seen     uint64
}

var proxyKey = rulestest.Wallet("proxy")

// proxy admits a proxy, which watches, and lets scribe use github.
func (w *world) proxy() *proxyOf {
	w.t.Helper()
	w.must(w.owner, statement.AdmitAgent{User: w.owner.Wallet(), Agent: proxyKey.Wallet(), Role: statement.RoleProxy, Expires: w.in(3000)})
	p := &proxyOf{w: w, claims: w.session(proxyKey), instance: strings.Repeat("ab", 16)}
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeUse, w.in(600))
	check(w.t, p.watch())
	return p
}

// watch is one poll.
func (p *proxyOf) watch(calls ...api.Calls) (err error) {
	p.last, err = p.w.s.watch(p.w.t.Context(), p.claims, api.Watch{Instance: p.instance, Boot: p.last.Boot, Seen: p.seen, Calls: calls})
	return err
}

// carryOut confirms what the last watch told.
func (p *proxyOf) carryOut() error {
	for _, d := range p.last.Drops {
		p.seen = d.Number
	}
	return p.watch()
}

// delegation is scribe's for this proxy.
func (w *world) delegation(proxy agentkeys.Wallet, change func(*api.Delegation)) api.Delegation {
	w.t.Helper()
	c, text, key, err := w.login(w.scribe)
	check(w.t, err)
	d := api.Delegate(key, w.vault, text, proxy, c.Expires)
	if change != nil {
		change(&d)
	}
	return d
}

func (p *proxyOf) use(name string) (api.Used, error) {
	return p.w.s.use(p.w.t.Context(), p.claims, api.Use{Delegation: p.w.delegation(proxyKey.Wallet(), nil), Service: name, Instance: p.instance})
}

func secretOf(t testing.TB, cred []byte) string {
	t.Helper()
	c, err := credential.Parse(cred)
	check(t, err)
	return strings.TrimPrefix(string(c.Secret.Reveal()), canary)
}

func TestUseOnBehalfOfASession(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	u, err := p.use("github")
	check(t, err)
	if got := secretOf(t, u.Credential); got != "one" || u.Version != 1 || u.Lease != 60 || u.Agent != w.scribe.Wallet().String() || u.ServiceID != w.serviceID("github").String() {
		t.Errorf("got %q, %+v", got, u)
	}
	r, err := record.ParseReceipt(u.Receipt)
	if err != nil || r.Record.Mode != uint8(statement.ModeUse) || r.Record.Agent != w.scribe.Wallet() || hex.EncodeToString(r.Record.Session[:]) != u.Session {
		t.Errorf("the record is %+v, %v", r.Record, err)
	}
	// The session itself gets nothing.
	_, err = w.get("github")
	wantCode(t, err, useOnly)
	// Calls are on record, of what was lent only.
	check(t, p.watch(api.Calls{Session: u.Session, ServiceID: u.ServiceID, Version: 1, Count: 7}, api.Calls{Session: u.Session, ServiceID: u.ServiceID, Version: 2, Count: 9},
		api.Calls{Session: strings.Repeat("00", 16), ServiceID: u.ServiceID, Version: 1, Count: 9}))
	waiting := w.s.outbox.pendingFrom(0, record.MaxSegment)
	last := waiting[len(waiting)-1]
	if last.Kind != record.KindCalls || last.Calls != 7 || last.Agent != w.scribe.Wallet() || last.Version != 1 || waiting[len(waiting)-2].Kind != record.KindRead {
		t.Errorf("on record: %+v", last)
	}
	// The owner's own session may use as well, without presence.
	c, text, key, err := w.login(w.owner)
	check(t, err)
	if _, err := w.s.use(t.Context(), p.claims, api.Use{Delegation: api.Delegate(key, w.vault, text, proxyKey.Wallet(), c.Expires), Service: "github", Instance: p.instance}); err != nil {
		t.Errorf("the owner's session: %v", err)
	}
}

func TestUseRefuses(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	use := func(change func(*api.Use)) error {
		in := api.Use{Delegation: w.delegation(proxyKey.Wallet(), nil), Service: "github", Instance: p.instance}
		change(&in)
		_, err := w.s.use(t.Context(), p.claims, in)
		return err
	}
	delegated := func(change func(*api.Delegation)) func(*api.Use) {
		return func(in *api.Use) { in.Delegation = w.delegation(proxyKey.Wallet(), change) }
	}
	for name, c := range map[string]struct {
		want   code
		change func(*api.Use)
	}{
		"no such service":            {grantMissing, func(in *api.Use) { in.Service = "openai" }},
		"does not watch":             {notWatching, func(in *api.Use) { in.Instance = strings.Repeat("cd", 16) }},
		"for another proxy":          {sessionInvalid, func(in *api.Use) { in.Delegation = w.delegation(w.owner.Wallet(), nil) }},
		"named for it afterwards":    {sessionInvalid, delegated(func(d *api.Delegation) { d.Signature[3] ^= 1 })},
		"prolonged":                  {sessionInvalid, delegated(func(d *api.Delegation) { d.Until++ })},
		"no token":                   {sessionInvalid, delegated(func(d *api.Delegation) { d.Token = "x" })},
		"token of another signature": {sessionInvalid, delegated(func(d *api.Delegation) { d.Token = w.delegation(proxyKey.Wallet(), nil).Token })},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, use(c.change), c.want) })
	}
	// Longer than the session: only its key could say so, and it does not help.
	_, text, key, err := w.login(w.scribe)
	check(t, err)
	wantCode(t, use(func(in *api.Use) {
		in.Delegation = api.Delegate(key, w.vault, text, proxyKey.Wallet(), uint64(time.Now().Add(48*time.Hour).Unix()))
	}), sessionExpired)
	wantCode(t, use(func(in *api.Use) { in.Delegation = api.Delegate(key, w.vault, text, proxyKey.Wallet(), 1) }), sessionExpired)
	// Another user's proxy.
	foreign := p.claims
	foreign.User = rulestest.Wallet("other").Wallet()
	_, err = w.s.use(t.Context(), foreign, api.Use{Delegation: w.delegation(proxyKey.Wallet(), nil), Service: "github", Instance: p.instance})
	wantCode(t, err, sessionInvalid)
	// An agent that calls itself a proxy, and what a proxy may not do.
	scribe := w.session(w.scribe)
	_, err = w.s.use(t.Context(), scribe, api.Use{Delegation: w.delegation(w.scribe.Wallet(), nil), Service: "github", Instance: p.instance})
	wantCode(t, err, notProxy)
	_, err = w.s.watch(t.Context(), scribe, api.Watch{Instance: p.instance})
	wantCode(t, err, notProxy)
	_, err = w.getAs(p.claims, "github")
	wantCode(t, err, useOnly)
	_, err = w.s.rules(t.Context(), p.claims, api.RulesRequest{Service: "github"})
	wantCode(t, err, useOnly)
	_, err = w.s.write(t.Context(), p.claims, api.Write{Service: "new", Credential: secretBytes(t, "x"), Idle: 1})
	wantCode(t, err, useOnly)
}

// revoke has the owner sign, and says when it is acknowledged.
func (w *world) revokeScribe() <-chan error {
	done := make(chan error, 1)
	wire := w.kit.SignUser(w.owner, statement.RevokeAgent{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Counter: 1})
	go func() {
		_, err := w.s.statement(context.Background(), api.Statement{Wire: wire})
		done <- err
	}()
	return done
}

func TestRevocationWaitsForTheProxy(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	u, err := p.use("github")
	check(t, err)
	before := w.delegation(proxyKey.Wallet(), nil)
	done := w.revokeScribe()
	for len(p.last.Drops) == 0 {
		check(t, p.watch())
	}
	if d := p.last.Drops[0]; d.Agent != w.scribe.Wallet().String() || d.ServiceID != "" || d.Reason != "agent_revoked" {
		t.Errorf("told to drop %+v", d)
	}
	select {
	case err := <-done:
		t.Fatalf("acknowledged before the proxy has confirmed: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	// Calls up to the drop are told with its confirmation.
	p.seen = p.last.Drops[0].Number
	check(t, p.watch(api.Calls{Session: u.Session, ServiceID: u.ServiceID, Version: 1, Count: 3}))
	check(t, <-done)
	_, err = w.s.use(t.Context(), p.claims, api.Use{Delegation: before, Service: "github", Instance: p.instance})
	wantCode(t, err, agentRevoked)
}

// A lease is given before the drop is made, which then names it, or not at all.
func TestLeaseOrDropUnderRevocation(t *testing.T) {
	for range 6 {
		w := newWorld(t)
		p := w.proxy()
		d := w.delegation(proxyKey.Wallet(), nil)
		var given atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := w.s.use(t.Context(), p.claims, api.Use{Delegation: d, Service: "github", Instance: p.instance})
			given.Store(err == nil)
		})
		done := w.revokeScribe()
		wg.Wait()
		told := false
		for end := false; !end; {
			check(t, p.carryOut())
			told = told || len(p.last.Drops) > 0
			select {
			case err := <-done:
				check(t, err)
				end = true
			default:
			}
		}
		if given.Load() && !told {
			t.Fatal("a value is on loan and its proxy was never told")
		}
	}
}

// A silent proxy is waited for exactly as long as it may hold something.
func TestSilentProxyIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies(1)
		user, id := agentkeys.Wallet{1}, proxyID{start: [16]byte{1}}
		_, _ = p.watching(id, user, time.Now())
		time.Sleep(2 * time.Second)
		_, _ = p.watching(id, user, time.Now())
		time.Sleep(time.Second)
		began := time.Now()
		check(t, p.drop(user, api.Drop{})(t.Context()))
		if waited := time.Since(began); waited != api.WatchLife-time.Second {
			t.Errorf("waited %v", waited)
		}
		// One that goes on watching and never confirms is not prolonged.
		_, _ = p.watching(id, user, time.Now())
		began = time.Now()
		carriedOut := p.drop(user, api.Drop{})
		go func() {
			for range 20 {
				time.Sleep(time.Second)
				_, _ = p.watching(id, user, time.Now())
			}
		}()
		check(t, carriedOut(t.Context()))
		if waited := time.Since(began); waited != api.WatchLife {
			t.Errorf("waited %v for one that does not confirm", waited)
		}
		// Another user's proxies are not waited for.
		began = time.Now()
		check(t, p.drop(agentkeys.Wallet{2}, api.Drop{})(t.Context()))
		if time.Since(began) != 0 {
			t.Error("waited for another user's proxy")
		}
		// A confirmation ends the wait at once; that of another boot does not.
		i, _ := p.watching(proxyID{start: [16]byte{2}}, user, time.Now())
		carriedOut = p.drop(user, api.Drop{})
		p.confirm(proxyID{start: [16]byte{2}}, "other", 1<<40)
		p.confirm(id, "", 1<<40)
		if news, _ := p.news(i); len(news.Drops) != 1 {
			t.Errorf("left to do: %+v", news.Drops)
		}
		time.Sleep(30 * time.Second)
		check(t, carriedOut(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		_, _ = p.watching(proxyID{start: [16]byte{3}}, user, time.Now())
		cancel()
		if err := p.drop(user, api.Drop{})(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that gave up: %v", err)
		}
	})
}

// Proxies of an earlier start may hold something for a while.
func TestRevocationAfterAStartWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies(2)
		time.Sleep(time.Second)
		began := time.Now()
		check(t, p.drop(agentkeys.Wallet{1}, api.Drop{})(t.Context()))
		if waited := time.Since(began); waited != api.WatchLife-time.Second {
			t.Errorf("waited %v", waited)
		}
		began = time.Now()
		check(t, p.drop(agentkeys.Wallet{1}, api.Drop{})(t.Context()))
		if time.Since(began) != 0 {
			t.Error("waited once more")
		}
	})
}

func TestProxiesAreBounded(t *testing.T) {
	p := newProxies(1)
	now := time.Now()
	user := agentkeys.Wallet{1}
	for n := range maxOfUser + 1 {
		_, ok := p.watching(proxyID{start: [16]byte{byte(n), byte(n >> 8)}}, user, now)
		if ok != (n < maxOfUser) {
			t.Fatalf("proxy %d of one user: %v", n, ok)
		}
	}
	id := proxyID{start: [16]byte{0}}
	for n := range maxLoans + 1 {
		if ok := p.lend(id, loan{version: uint64(n)}, loaned{until: now.Add(time.Minute)}); ok != (n < maxLoans) {
			t.Fatalf("lease %d: %v", n, ok)
		}
	}
	i := p.by[id]
	for range maxDrops + 1 {
		p.drop(user, api.Drop{Agent: "a"})
	}
	if news, _ := p.news(i); len(news.Drops) != 1 || news.Drops[0].Agent != "" {
		t.Errorf("%d drops, the first %+v: want one for everything", len(news.Drops), news.Drops[0])
	}
	// Who can hold nothing any more makes room.
	if _, ok := p.watching(proxyID{start: [16]byte{0xff, 0xff}}, user, now.Add(api.WatchLife)); !ok {
		t.Error("there is room, and it is not used")
	}
	if p.lend(id, loan{}, loaned{}) {
		t.Error("lent to a proxy that does not watch any more")
	}
}

func TestWhatTakesAwayIsTold(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	confirming := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var reasons []string
	wg.Go(func() {
		for {
			select {
			case <-confirming:
				return
			default:
			}
			if p.carryOut() != nil {
				return
			}
			mu.Lock()
			for _, d := range p.last.Drops {
				reasons = append(reasons, d.Reason)
			}
			mu.Unlock()
		}
	})
	w.grant("github", statement.ModeNone, w.in(600))
	w.must(w.owner, statement.Grant{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Service: w.serviceID("github"), Previous: 2, Counter: 1,
		Mode: statement.ModeUse, Slot: statement.SlotShared, Expires: w.in(600), SealedName: w.sealName("github")})
	_, err := w.s.write(t.Context(), w.session(w.owner), api.Write{Service: "github", Credential: secretBytes(t, "two"), Idle: 1, Previous: 1, Presence: w.presence("overwrite", "github", 1)})
	check(t, err)
	_, err = w.s.statement(t.Context(), api.Statement{Wire: w.kit.SignUser(w.owner, statement.Delete{User: w.owner.Wallet(), Agent: w.owner.Wallet(), Service: w.serviceID("github"), Version: 2})})
	check(t, err)
	close(confirming)
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"grant_changed", "replaced", "deleted"} {
		if !strings.Contains(strings.Join(reasons, " "), want) {
			t.Errorf("told %v, want %s", reasons, want)
		}
	}
}

func TestRulesWithoutTheValue(t *testing.T) {
	w := newWorld(t)
	w.proxy()
	for name, c := range map[string]token.Claims{"owner": w.session(w.owner), "agent": w.session(w.scribe)} {
		r, err := w.s.rules(t.Context(), c, api.RulesRequest{Service: "github"})
		if err != nil || r.Version != 1 || r.Kind == 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	_, err := w.s.rules(t.Context(), w.session(w.scribe), api.RulesRequest{Service: "openai"})
	wantCode(t, err, grantMissing)
}
