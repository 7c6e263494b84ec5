package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/credential"
)

var (
	ownWallet    = agentkeys.Wallet{0xaa}
	scribeWallet = agentkeys.Wallet{0x51}
)

// lender is a custodian with the lease protocol and nothing else.
type lender struct {
	mu      sync.Mutex
	boot    string
	down    bool
	drops   []api.Drop
	wake    chan struct{}
	seen    []uint64
	calls   map[uint64]uint32 // by version
	uses    int
	version uint64
	hosts   map[agentkeys.Service]string
	refuse  error
	during  func() // while a Use is under way
	given   []agentkeys.Secret
}

func newLender() *lender {
	return &lender{boot: "1", wake: make(chan struct{}), calls: map[uint64]uint32{}, version: 1,
		hosts: map[agentkeys.Service]string{"github": "api.github.test", "openai": "api.openai.test"}}
}

func (f *lender) Use(_ context.Context, _ api.Delegation, name agentkeys.Service, _ string) (client.Lease, error) {
	f.mu.Lock()
	during := f.during
	f.during = nil
	f.mu.Unlock()
	if during != nil {
		during()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.uses++
	if f.refuse != nil {
		return client.Lease{}, f.refuse
	}
	secret := agentkeys.NewSecret([]byte(fmt.Sprintf("secret-of-%s-v%d", name, f.version)))
	f.given = append(f.given, secret)
	c := credential.Credential{Secret: secret, Kind: credential.Bearer, Hosts: []credential.HostRule{{Pattern: f.hosts[name], Port: 443}}}
	return client.Lease{Value: client.Value{Credential: c, Version: f.version}, ServiceID: idOf(name), Session: "s1", Agent: scribeWallet, Until: time.Now().Add(api.MaxLease)}, nil
}

func idOf(name agentkeys.Service) (id agentkeys.ServiceID) { copy(id[:], name); return id }

func (f *lender) Watch(ctx context.Context, in api.Watch) (api.Watched, error) {
	hold := time.NewTimer(api.WatchHold)
	defer hold.Stop()
	f.mu.Lock()
	f.seen = append(f.seen, in.Seen)
	for _, c := range in.Calls {
		f.calls[c.Version] += c.Count
	}
	for {
		if f.down {
			f.mu.Unlock()
			return api.Watched{}, errors.New("no connection")
		}
		out := api.Watched{Boot: f.boot}
		for _, d := range f.drops {
			if in.Boot != f.boot || d.Number > in.Seen {
				out.Drops = append(out.Drops, d)
			}
		}
		wake := f.wake
		f.mu.Unlock()
		if len(out.Drops) > 0 || in.Boot != out.Boot {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-hold.C:
			return out, nil
		case <-wake:
		}
		f.mu.Lock()
	}
}

func (f *lender) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.wake)
	f.wake = make(chan struct{})
}

func (f *lender) drop(d api.Drop) {
	f.set(func() { d.Number = uint64(len(f.drops) + 1); f.drops = append(f.drops, d) })
}

func (f *lender) confirmed() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[len(f.seen)-1]
}

func (f *lender) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.uses
}

func (f *lender) told(version uint64) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[version]
}

// meanwhile does something while the next value is asked for.
func (f *lender) meanwhile(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.during = do
}

// wiped says how many of the values given out are gone from memory.
func (f *lender) wiped() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.given {
		if len(bytes.Trim(s.Reveal(), "\x00")) == 0 {
			n++
		}
	}
	return n
}

// bubble runs a keeper in a bubble of time, with one child.
func bubble(t *testing.T, f *lender, play func(t *testing.T, k *leases, c *child)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f.wake = make(chan struct{}) // of this bubble
		k := newKeeper(Config{Vault: f, Wallet: ownWallet, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = k.watch(ctx) })
		synctest.Wait()
		_, c, err := k.admit(t.Context(), "scribe", api.Delegation{}, []agentkeys.Service{"github", "openai"})
		if err != nil {
			t.Fatal(err)
		}
		play(t, k, c)
		cancel()
		wg.Wait()
		if f.wiped() != len(f.given) {
			t.Errorf("%d of %d values are wiped at the end", f.wiped(), len(f.given))
		}
	})
}

func code(err error) string { return api.CodeOf(err) }

func TestLeaseRunsOutAndIsAskedForAgain(t *testing.T) {
	f := newLender()
	bubble(t, f, func(t *testing.T, k *leases, c *child) {
		for range 3 {
			got, err := c.begin(t.Context(), "github")
			if err != nil || string(got.credential.Secret.Reveal()) != "secret-of-github-v1" {
				t.Fatal(err)
			}
			got.end()
		}
		if n := f.asked(); n != 2 {
			t.Errorf("asked %d times for two services", n)
		}
		f.set(func() { f.version = 2 })
		time.Sleep(api.MaxLease)
		k.sweep()
		if f.wiped() != 2 {
			t.Errorf("%d values are wiped when their time is over", f.wiped())
		}
		got, err := c.begin(t.Context(), "github")
		if err != nil || got.version != 2 {
			t.Fatal(got.version, err)
		}
		got.end()
		got.end() // once counts
		time.Sleep(api.WatchHold + time.Second)
		if f.told(1) != 3 || f.told(2) != 1 {
			t.Errorf("calls told: %d and %d", f.told(1), f.told(2))
		}
	})
}

// A long stream outlives its lease, and not a drop.
func TestStreamOutlivesItsLeaseAndNotADrop(t *testing.T) {
	f := newLender()
	bubble(t, f, func(t *testing.T, k *leases, c *child) {
		stream, err := c.begin(t.Context(), "github")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(api.MaxLease + time.Second)
		k.sweep()
		if stream.ctx.Err() != nil || string(stream.credential.Secret.Reveal()) == "" {
			t.Fatal("the stream ended with its lease")
		}
		f.drop(api.Drop{Agent: scribeWallet.String(), Reason: "agent_revoked"})
		synctest.Wait()
		if stream.ctx.Err() == nil {
			t.Fatal("the stream goes on after the drop")
		}
		if f.confirmed() != 0 {
			t.Fatal("confirmed while a call has not ended")
		}
		if _, err := c.begin(t.Context(), "openai"); code(err) != "revoked" {
			t.Errorf("a revoked agent begins: %v", err)
		}
		if _, _, err := c.pick("api.github.test", 443); code(err) != "revoked" {
			t.Errorf("a revoked agent picks: %v", err)
		}
		stream.end()
		synctest.Wait()
		if f.confirmed() != 1 || f.told(1) != 1 {
			t.Errorf("confirmed %d with %d calls", f.confirmed(), f.told(1))
		}
	})
}

func TestDropsReachWhatTheyName(t *testing.T) {
	other := agentkeys.Wallet{9}.String()
	for name, c := range map[string]struct {
		drop         api.Drop
		github, dead bool // the lease on github goes; the child does
	}{
		"another agent":       {api.Drop{Agent: other}, false, false},
		"another session":     {api.Drop{Session: "s2"}, false, false},
		"this session":        {api.Drop{Session: "s1"}, true, true},
		"the agent":           {api.Drop{Agent: scribeWallet.String()}, true, true},
		"this proxy":          {api.Drop{Agent: ownWallet.String()}, true, true},
		"a grant":             {api.Drop{Agent: scribeWallet.String(), ServiceID: idOf("github").String()}, true, false},
		"another grant":       {api.Drop{Agent: scribeWallet.String(), ServiceID: idOf("openai").String()}, false, false},
		"a replaced value":    {api.Drop{ServiceID: idOf("github").String()}, true, false},
		"everything, at once": {api.Drop{}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newLender()
			bubble(t, f, func(t *testing.T, k *leases, ch *child) {
				running, err := ch.begin(t.Context(), "github")
				if err != nil {
					t.Fatal(err)
				}
				f.drop(c.drop)
				synctest.Wait()
				if cut := running.ctx.Err() != nil; cut != c.github {
					t.Errorf("cut: %v", cut)
				}
				running.end()
				synctest.Wait()
				uses := f.asked()
				again, err := ch.begin(t.Context(), "github")
				if (err != nil) != c.dead {
					t.Errorf("begins again: %v", err)
				}
				if err == nil {
					again.end()
					if asked := f.asked() > uses; asked != c.github {
						t.Errorf("asked again: %v", asked)
					}
				}
			})
		})
	}
}

// A drop that comes while a value is asked for: the answer is thrown away, and asked
// for again.
func TestAnswerThatADropHasCrossed(t *testing.T) {
	f := newLender()
	bubble(t, f, func(t *testing.T, k *leases, c *child) {
		time.Sleep(api.MaxLease + time.Second)
		k.sweep()
		before := f.asked()
		f.meanwhile(func() {
			f.drop(api.Drop{ServiceID: idOf("github").String(), Reason: "replaced"})
			synctest.Wait()
			f.set(func() { f.version = 2 })
		})
		got, err := c.begin(t.Context(), "github")
		if err != nil || got.version != 2 || f.asked() != before+2 {
			t.Fatalf("version %d, asked %d times, %v", got.version, f.asked()-before, err)
		}
		got.end()
		// And when the drop was a revocation there is nothing to ask for any more.
		time.Sleep(api.MaxLease + time.Second)
		k.sweep()
		f.meanwhile(func() {
			f.drop(api.Drop{Agent: scribeWallet.String(), Reason: "agent_revoked"})
			synctest.Wait()
		})
		if _, err := c.begin(t.Context(), "github"); code(err) != "revoked" {
			t.Fatalf("begins with an answer from before the revocation: %v", err)
		}
	})
}

func TestSilenceEndsEverything(t *testing.T) {
	f := newLender()
	bubble(t, f, func(t *testing.T, k *leases, c *child) {
		running, err := c.begin(t.Context(), "github")
		if err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.down = true })
		time.Sleep(api.WatchLife - api.WatchHold - 100*time.Millisecond)
		if running.ctx.Err() != nil {
			t.Fatal("ended before its time")
		}
		time.Sleep(api.WatchHold + 200*time.Millisecond)
		if running.ctx.Err() == nil {
			t.Fatal("a call runs on although the custodian is silent")
		}
		running.end()
		if _, err := c.begin(t.Context(), "github"); code(err) != "proxy_not_watching" {
			t.Fatalf("begins in silence: %v", err)
		}
		if k.status().Watching {
			t.Error("says that it watches")
		}
		f.set(func() { f.down = false })
		time.Sleep(maxPause + api.WatchHold + time.Second)
		again, err := c.begin(t.Context(), "github")
		if err != nil {
			t.Fatalf("after the silence: %v", err)
		}
		again.end()
	})
}

// A custodian that does not know this proxy any more: what it lent before is dropped.
func TestAnotherRegistrationDropsEverything(t *testing.T) {
	f := newLender()
	bubble(t, f, func(t *testing.T, k *leases, c *child) {
		running, err := c.begin(t.Context(), "github")
		if err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.boot = "2" })
		synctest.Wait()
		if running.ctx.Err() == nil {
			t.Fatal("a call runs on")
		}
		running.end()
		synctest.Wait()
		if f.confirmed() != 0 {
			t.Errorf("confirmed %d, which is of the other registration", f.confirmed())
		}
	})
}

func TestProxyThatIsNoneAnyMoreEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(Config{Vault: refusing{}, Wallet: ownWallet, Log: slog.New(slog.DiscardHandler)})
		if err := k.watch(t.Context()); code(err) != "agent_revoked" {
			t.Errorf("ends with %v", err)
		}
	})
}

type refusing struct{ vault }

func (refusing) Watch(context.Context, api.Watch) (api.Watched, error) {
	return api.Watched{}, &api.Error{Status: 403, Code: "agent_revoked"}
}

func TestAdmitRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		want   string
		change func(*lender)
	}{
		"not granted":  {"grant_missing", func(f *lender) { f.refuse = &api.Error{Status: 403, Code: "grant_missing"} }},
		"one host two": {"hosts_overlap", func(f *lender) { f.hosts["openai"] = f.hosts["github"] }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newLender()
				c.change(f)
				k := newKeeper(Config{Vault: f, Wallet: ownWallet, Log: slog.New(slog.DiscardHandler)})
				k.valid = time.Now().Add(api.WatchLife)
				_, _, err := k.admit(t.Context(), "scribe", api.Delegation{}, []agentkeys.Service{"github", "openai"})
				if code(err) != c.want || len(k.children) != 0 || f.wiped() != len(f.given) {
					t.Errorf("%v; %d children, %d of %d wiped", err, len(k.children), f.wiped(), len(f.given))
				}
			})
		})
	}
}

func TestPickByHost(t *testing.T) {
	bubble(t, newLender(), func(t *testing.T, k *leases, c *child) {
		for host, want := range map[string]agentkeys.Service{"api.github.test": "github", "API.openai.test": "openai", "evil.test": ""} {
			if name, ok, err := c.pick(host, 443); name != want || ok != (want != "") || err != nil {
				t.Errorf("%s: %q %v %v", host, name, ok, err)
			}
		}
		if _, ok, _ := c.pick("api.github.test", 80); ok {
			t.Error("another port is named")
		}
		// Hosts that came to overlap since.
		k.mu.Lock()
		c.rules["openai"] = c.rules["github"]
		k.mu.Unlock()
		if _, _, err := c.pick("api.github.test", 443); code(err) != "hosts_overlap" {
			t.Errorf("two name this host: %v", err)
		}
	})
}
