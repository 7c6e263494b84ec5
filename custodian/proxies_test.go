package custodian

import (
	"context"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"slices"
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
func (p *proxyOf) watch(calls ...api.Calls) error { return p.watchIn(p.w.t.Context(), calls...) }

func (p *proxyOf) watchIn(ctx context.Context, calls ...api.Calls) error {
	out, err := p.w.s.watch(ctx, p.claims, api.Watch{Instance: p.instance, Boot: p.last.Boot, Seen: p.seen, Calls: calls})
	if err == nil {
		p.last = out
	}
	return err
}

// seenThere is what the custodian knows it to have carried out.
func (p *proxyOf) seenThere() uint64 {
	all := p.w.s.proxies
	all.mu.Lock()
	defer all.mu.Unlock()
	for id, i := range all.by {
		if id.wallet == p.claims.Agent {
			return i.seen
		}
	}
	return 0
}

// carryOut confirms what the last watch told.
func (p *proxyOf) carryOut() error { return p.carryOutIn(p.w.t.Context()) }

func (p *proxyOf) carryOutIn(ctx context.Context) error {
	for _, d := range p.last.Drops {
		p.seen = d.Number
	}
	return p.watchIn(ctx)
}

// obeys watches and confirms until it is stopped.
func (p *proxyOf) obeys() (stop func()) {
	ctx, cancel := context.WithCancel(p.w.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			_ = p.carryOutIn(ctx)
		}
	})
	return func() { cancel(); running.Wait() }
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
	l, err := w.s.list(t.Context(), p.claims, struct{}{})
	if err != nil || len(l.Credentials)+len(l.Grants)+len(l.Epochs) != 0 || len(l.Agents) != 1 || l.Agents[0].Agent != proxyKey.Wallet().String() {
		t.Errorf("a proxy sees %+v, %v", l, err)
	}
	_, err = w.s.sessions(t.Context(), p.claims, struct{}{})
	wantCode(t, err, useOnly)
	_, err = w.s.reads(t.Context(), p.claims, api.ReadsRequest{})
	wantCode(t, err, useOnly)
	_, err = w.s.viewingKey(t.Context(), p.claims, struct{}{})
	wantCode(t, err, useOnly)
	for _, b := range []statement.Body{statement.Delete{User: w.owner.Wallet(), Agent: w.owner.Wallet(), Service: w.serviceID("github"), Version: 1},
		statement.AdmitAgent{User: w.owner.Wallet(), Agent: proxyKey.Wallet(), Role: statement.RoleAgent, Counter: 1, Expires: w.in(3600)}} {
		_, err = w.s.statement(t.Context(), api.Statement{Wire: w.kit.SignUser(proxyKey, b)})
		wantCode(t, err, signatureInvalid)
	}
}

// Calls of one lease become one record, however they are told.
func TestCallsAreFolded(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	u, err := p.use("github")
	check(t, err)
	before := len(w.s.outbox.pendingFrom(0, record.MaxSegment))
	calls := func(n uint32) api.Calls {
		return api.Calls{Session: u.Session, ServiceID: u.ServiceID, Version: 1, Count: n}
	}
	check(t, p.watch(calls(2), calls(0), calls(3)))
	check(t, p.watch(calls(1), calls(math.MaxUint32)))
	told := w.s.outbox.pendingFrom(0, record.MaxSegment)[before:]
	if len(told) != 2 || told[0].Calls != 5 || told[1].Calls != math.MaxUint32 {
		t.Errorf("on record: %+v", told)
	}
}

// A drop counts as carried out only once its last calls are on disk.
func TestNoConfirmationWithoutItsCalls(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	u, err := p.use("github")
	check(t, err)
	done := w.revokeScribe()
	for len(p.last.Drops) == 0 {
		check(t, p.watch())
	}
	p.seen = p.last.Drops[0].Number
	told := api.Calls{Session: u.Session, ServiceID: u.ServiceID, Version: 1, Count: 3}
	full, err := os.Open(w.s.outbox.file.Name()) // not for writing
	check(t, err)
	defer full.Close()
	swap := func(f *os.File) (before *os.File) {
		w.s.outbox.mu.Lock()
		defer w.s.outbox.mu.Unlock()
		before, w.s.outbox.file = w.s.outbox.file, f
		return before
	}
	good := swap(full)
	wantCode(t, p.watch(told), auditUnavailable)
	swap(good)
	if p.seenThere() >= p.seen {
		t.Fatal("confirmed, and its calls are not on record")
	}
	check(t, p.watch(told))
	check(t, <-done)
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

// Statements can be read off the chain: one sent again by a stranger cuts nothing that
// was lent since.
func TestOldStatementsCutNothing(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	user, scribe := w.owner.Wallet(), w.scribe.Wallet()
	revoke := statement.RevokeAgent{User: user, Agent: scribe, Counter: 1}
	w.must(w.owner, revoke)
	w.must(w.owner, statement.AdmitAgent{User: user, Agent: scribe, Role: statement.RoleAgent, Counter: 2, Expires: w.in(3600)})
	grant := statement.Grant{User: user, Agent: scribe, Service: w.serviceID("github"), Previous: 1, Counter: 2,
		Mode: statement.ModeUse, Slot: statement.SlotShared, Expires: w.in(600), SealedName: w.sealName("github")}
	w.must(w.owner, grant)
	_, err := p.use("github")
	check(t, err)
	boot := p.last.Boot
	for _, b := range []statement.Body{revoke, grant} {
		out, err := w.s.statement(t.Context(), api.Statement{Wire: w.kit.SignUser(w.owner, b)})
		if err != nil || out.Name != "already_applied" {
			t.Errorf("%T again: %+v, %v", b, out, err)
		}
	}
	check(t, p.watch())
	if len(p.last.Drops) != 0 || p.last.Boot != boot {
		t.Errorf("told to drop %+v, or given up after a wait for it", p.last.Drops)
	}
	if _, err := p.use("github"); err != nil {
		t.Error(err)
	}
}

// Who sent a statement may be gone before its block: what it takes is dropped.
func TestDropWithoutTheSender(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	_, err := p.use("github")
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	w.step = func(name string) {
		if name == "statement.relay" {
			cancel()
		}
	}
	done := make(chan error, 1)
	wire := w.kit.SignUser(w.owner, statement.Delete{User: w.owner.Wallet(), Agent: w.owner.Wallet(), Service: w.serviceID("github"), Version: 1})
	go func() { _, err := w.s.statement(ctx, api.Statement{Wire: wire}); done <- err }()
	for len(p.last.Drops) == 0 {
		check(t, p.watch())
	}
	check(t, p.carryOut())
	check(t, <-done)
}

// A proxy that is revoked itself hears of it, confirms, and gets nothing any more.
func TestRevokedProxyConfirms(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	u, err := p.use("github")
	check(t, err)
	done := make(chan error, 1)
	wire := w.kit.SignUser(w.owner, statement.RevokeAgent{User: w.owner.Wallet(), Agent: proxyKey.Wallet(), Counter: 1})
	obeyed := make(chan struct{})
	w.step = func(name string) {
		if name == "statement.relay" {
			close(obeyed)
		}
	}
	go func() { _, err := w.s.statement(context.Background(), api.Statement{Wire: wire}); done <- err }()
	<-obeyed
	_, err = p.use("github")
	wantCode(t, err, agentRevoked)
	p.seen = 1
	wantCode(t, p.watch(api.Calls{Session: u.Session, ServiceID: u.ServiceID, Version: 1, Count: 5}), agentRevoked)
	check(t, <-done)
	waiting := w.s.outbox.pendingFrom(0, record.MaxSegment)
	if last := waiting[len(waiting)-1]; last.Kind != record.KindCalls || last.Calls != 5 {
		t.Errorf("its last calls are not on record: %+v", last)
	}
	_, err = p.use("github")
	wantCode(t, err, agentRevoked)
}

// A lease is given before the drop is made, which then names it, or not at all: when a
// revocation is acknowledged, every proxy with a value of it has carried a drop out that
// came after the value was asked for.
func TestLeaseOrDropUnderRevocation(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	given := 0
	for counter := uint64(1); counter <= 12; counter++ {
		d := w.delegation(proxyKey.Wallet(), nil)
		before := p.seen
		var lent atomic.Bool
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := w.s.use(t.Context(), p.claims, api.Use{Delegation: d, Service: "github", Instance: p.instance}); err == nil {
					lent.Store(true)
				}
			})
		}
		revoke := w.kit.SignUser(w.owner, statement.RevokeAgent{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Counter: counter})
		stop := p.obeys()
		time.Sleep(time.Duration(counter) * 100 * time.Microsecond) // meet the uses at another step each time
		_, err := w.s.statement(t.Context(), api.Statement{Wire: revoke})
		check(t, err)
		done := p.seenThere()
		wg.Wait()
		w.must(w.owner, statement.AdmitAgent{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Role: statement.RoleAgent, Counter: counter + 1, Expires: w.in(3600)})
		w.must(w.owner, statement.Grant{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Service: w.serviceID("github"), Previous: counter, Counter: counter + 1,
			Mode: statement.ModeUse, Slot: statement.SlotShared, Expires: w.in(600), SealedName: w.sealName("github")})
		stop()
		if lent.Load() {
			given++
			if done <= before {
				t.Fatalf("round %d: a value is on loan and its proxy was never told", counter)
			}
		}
	}
	t.Logf("%d of 12 rounds had a value on loan", given)
}

// A revocation that is obeyed before any step of a use ends it.
func TestRevokedAtEveryStepOfUse(t *testing.T) {
	w := newWorld(t)
	p := w.proxy()
	steps := w.steps("read.", func() error { _, err := p.use("github"); return err })
	if !slices.Contains(steps, "read.lend") {
		t.Fatalf("steps: %v", steps)
	}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			p := w.proxy()
			d := w.delegation(proxyKey.Wallet(), nil)
			obeyed := make(chan struct{})
			var done <-chan error
			var once sync.Once
			w.step = func(name string) {
				switch name {
				case step:
					once.Do(func() {
						done = w.revokeScribe()
						<-obeyed
					})
				case "statement.relay":
					close(obeyed)
				}
			}
			_, err := w.s.use(t.Context(), p.claims, api.Use{Delegation: d, Service: "github", Instance: p.instance})
			wantCode(t, err, agentRevoked)
			defer p.obeys()()
			check(t, <-done)
		})
	}
}

// all is a drop of everything.
func all() taken {
	return taken{api.Drop{Reason: "session_ended"}, func(loan, loaned) bool { return true }}
}

// holding is a proxy that watches and has something on loan.
func (p *proxies) holding(t *testing.T, user agentkeys.Wallet, start byte) proxyID {
	t.Helper()
	id := proxyID{start: [16]byte{start}}
	if _, ok := p.watching(id, user, time.Now()); !ok || !p.lend(id, loan{}, loaned{until: time.Now().Add(time.Minute)}) {
		t.Fatal("it does not watch, or gets no lease")
	}
	return id
}

// waits says how long a drop is waited for.
func (p *proxies) waits(t *testing.T, user agentkeys.Wallet, what taken) time.Duration {
	t.Helper()
	began := time.Now()
	check(t, p.drop(user, what)(t.Context()))
	return time.Since(began)
}

// A silent proxy is waited for exactly as long as it may hold something.
func TestSilentProxyIsWaitedFor(t *testing.T) {
	user := agentkeys.Wallet{1}
	for name, c := range map[string]struct {
		want time.Duration
		do   func(*testing.T, *proxies, proxyID)
	}{
		"silent from now on": {api.WatchLife, func(*testing.T, *proxies, proxyID) {}},
		"silent for a while": {api.WatchLife - time.Second, func(*testing.T, *proxies, proxyID) { time.Sleep(time.Second) }},
		"watched since": {api.WatchLife - time.Second, func(t *testing.T, p *proxies, id proxyID) {
			time.Sleep(4 * time.Second)
			_, _ = p.watching(id, user, time.Now())
			time.Sleep(time.Second)
		}},
		"goes on watching, never confirms": {api.WatchLife, func(t *testing.T, p *proxies, id proxyID) {
			go func() {
				for range 20 {
					time.Sleep(time.Second)
					_, _ = p.watching(id, user, time.Now())
				}
			}()
		}},
		"confirms after a second": {time.Second, func(_ *testing.T, p *proxies, id proxyID) {
			boot := p.by[id].boot
			time.AfterFunc(time.Second, func() { p.confirm(id, boot, 1) })
		}},
		"confirms for another registration": {api.WatchLife, func(_ *testing.T, p *proxies, id proxyID) {
			time.AfterFunc(time.Second, func() { p.confirm(id, "other", 1<<40) })
		}},
		"confirms for another instance": {api.WatchLife, func(_ *testing.T, p *proxies, id proxyID) {
			boot := p.by[id].boot
			time.AfterFunc(time.Second, func() { p.confirm(proxyID{start: [16]byte{7}}, boot, 1<<40) })
		}},
		"over already": {0, func(*testing.T, *proxies, proxyID) { time.Sleep(api.WatchLife) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProxies(1)
				c.do(t, p, p.holding(t, user, 1))
				if waited := p.waits(t, user, all()); waited != c.want {
					t.Errorf("waited %v, want %v", waited, c.want)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// Who holds nothing of what is taken is neither told nor waited for.
func TestOthersAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies(1)
		user := agentkeys.Wallet{1}
		id := p.holding(t, user, 1)
		if waited := p.waits(t, agentkeys.Wallet{2}, all()); waited != 0 {
			t.Errorf("waited %v for another user's proxy", waited)
		}
		if waited := p.waits(t, user, takesSession([16]byte{9})); waited != 0 {
			t.Errorf("waited %v for a proxy that holds nothing of it", waited)
		}
		if news, _ := p.news(p.by[id]); len(news.Drops) != 0 {
			t.Errorf("told %+v", news.Drops)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.drop(user, all())(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that gave up: %v", err)
		}
	})
}

// What was dropped is forgotten; what was lent again meanwhile is not.
func TestConfirmedLeasesAreForgotten(t *testing.T) {
	p := newProxies(1)
	user := agentkeys.Wallet{1}
	id := p.holding(t, user, 1)
	i := p.by[id]
	p.lend(id, loan{version: 2}, loaned{})
	first := p.drop(user, all())
	p.lend(id, loan{version: 2}, loaned{})
	p.confirm(id, i.boot, p.drops)
	check(t, first(t.Context()))
	if _, kept := i.leases[loan{version: 2}]; len(i.leases) != 1 || !kept {
		t.Errorf("left: %v", i.leases)
	}
}

// What a statement takes is what was lent by the rows before it.
func TestWhatIsTaken(t *testing.T) {
	user, agent, other, proxy := agentkeys.Wallet{1}, agentkeys.Wallet{2}, agentkeys.Wallet{3}, agentkeys.Wallet{4}
	github, openai := agentkeys.ServiceID{1}, agentkeys.ServiceID{2}
	l := loan{session: [16]byte{5}, service: github, version: 3}
	w := loaned{agent: agent, counter: 2, proxy: proxy, admitted: 4, grant: 6, owner: user}
	of := func(b statement.Body) taken {
		t.Helper()
		out, ok := takes(b)
		if !ok {
			t.Fatalf("%T takes nothing", b)
		}
		return out
	}
	for name, c := range map[string]struct {
		taken taken
		want  bool
	}{
		"its agent":               {of(statement.RevokeAgent{User: user, Agent: agent, Counter: 2}), true},
		"its agent, long ago":     {of(statement.RevokeAgent{User: user, Agent: agent, Counter: 1}), false},
		"another agent":           {of(statement.RevokeAgent{User: user, Agent: other, Counter: 9}), false},
		"its proxy":               {of(statement.RevokeAgent{User: user, Agent: proxy, Counter: 4}), true},
		"its proxy, long ago":     {of(statement.RevokeAgent{User: user, Agent: proxy, Counter: 3}), false},
		"its grant":               {of(statement.Grant{User: user, Agent: agent, Service: github, Previous: 6}), true},
		"its grant, long ago":     {of(statement.Grant{User: user, Agent: agent, Service: github, Previous: 5}), false},
		"another agent's grant":   {of(statement.Grant{User: user, Agent: other, Service: github, Previous: 6}), false},
		"another service's grant": {of(statement.Grant{User: user, Agent: agent, Service: openai, Previous: 6}), false},
		"its value":               {of(statement.Delete{User: user, Agent: user, Service: github, Version: 3}), true},
		"an older value":          {of(statement.Delete{User: user, Agent: user, Service: github, Version: 2}), false},
		"another slot":            {of(statement.Delete{User: user, Agent: agent, Service: github, Version: 3}), false},
		"its session":             {takesSession([16]byte{5}), true},
		"another session":         {takesSession([16]byte{6}), false},
	} {
		if got := c.taken.from(l, w); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	for _, b := range []statement.Body{statement.Grant{User: user, Agent: agent, Service: github}, statement.Enrol{User: user}, statement.AdmitAgent{User: user, Agent: agent}} {
		if _, ok := takes(b); ok {
			t.Errorf("%+v takes something away", b)
		}
	}
}

// Proxies of an earlier start may hold something for a while.
func TestRevocationAfterAStartWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies(2)
		time.Sleep(time.Second)
		if waited := p.waits(t, agentkeys.Wallet{1}, all()); waited != api.WatchLife-time.Second {
			t.Errorf("waited %v", waited)
		}
		if waited := p.waits(t, agentkeys.Wallet{1}, all()); waited != 0 {
			t.Errorf("waited once more, %v", waited)
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
		p.drop(user, takesSession([16]byte{}))
	}
	if news, _ := p.news(i); len(news.Drops) != 1 || news.Drops[0].Session != "" {
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
	_, err := p.use("github")
	check(t, err)
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
	use := func() { t.Helper(); _, err := p.use("github"); check(t, err) }
	w.grant("github", statement.ModeNone, w.in(600))
	w.must(w.owner, statement.Grant{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Service: w.serviceID("github"), Previous: 2, Counter: 1,
		Mode: statement.ModeUse, Slot: statement.SlotShared, Expires: w.in(600), SealedName: w.sealName("github")})
	use()
	_, err = w.s.write(t.Context(), w.session(w.owner), api.Write{Service: "github", Credential: secretBytes(t, "two"), Idle: 1, Previous: 1, Presence: w.presence("overwrite", "github", 1)})
	check(t, err)
	use()
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
