package custodian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

var errDead = errors.New("anchor: dead")

// testAnchor is a file anchor that can be cut off.
type testAnchor struct {
	id   erasure.AnchorID
	file *erasure.FileAnchor

	mu      sync.Mutex
	dead    bool
	putsOff time.Duration // Stage says to wait that long
}

// putOff has Stage refuse, as a chip does that spares its memory.
func (a *testAnchor) putOff(wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.putsOff = wait
}

func (a *testAnchor) kill(dead bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead = dead
}

func (a *testAnchor) alive() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead {
		return errDead
	}
	return nil
}

func (a *testAnchor) Roots(ctx context.Context) ([]erasure.Root, error) {
	if err := a.alive(); err != nil {
		return nil, err
	}
	return a.file.Roots(ctx)
}

func (a *testAnchor) Stage(ctx context.Context, r erasure.Root) error {
	if err := a.alive(); err != nil {
		return err
	}
	a.mu.Lock()
	wait := a.putsOff
	a.mu.Unlock()
	if wait > 0 {
		return erasure.TooSoon{Kind: "tpm", Wait: wait}
	}
	return a.file.Stage(ctx, r)
}

func (a *testAnchor) Destroy(ctx context.Context, r erasure.Root) error {
	if err := a.alive(); err != nil {
		return err
	}
	return a.file.Destroy(ctx, r)
}

// trees is the custodian's tree/ in the fake store.
type trees struct{ system }

func (t trees) Delete(ctx context.Context, keys ...string) error {
	return t.s.Delete(ctx, agentkeys.Wallet{}, keys...)
}

// emptier empties prefixes of the fake store and counts it.
type emptier struct {
	s       *fakeStore
	mu      sync.Mutex
	emptied []string
	fails   int           // so many calls fail first
	listing time.Duration // how long a list takes
}

func (e *emptier) List(ctx context.Context, _ agentkeys.Wallet, prefix string) iter.Seq2[blobstore.Object, error] {
	e.mu.Lock()
	takes := e.listing
	e.mu.Unlock()
	_ = sleep(ctx, takes)
	return system{e.s}.List(ctx, prefix)
}

func (e *emptier) EmptyPrefix(_ context.Context, user agentkeys.Wallet, epoch agentkeys.Epoch) (done blobstore.Emptied, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fails > 0 {
		e.fails--
		return done, blobstore.ErrUnavailable
	}
	prefix := blobstore.EpochPrefix(user, epoch)
	e.emptied = append(e.emptied, prefix)
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	for k := range e.s.objects {
		if strings.HasPrefix(k, prefix) {
			delete(e.s.objects, k)
			done.Versions++
		}
	}
	return done, nil
}

// rotating is one custodian with real shares, jobs and a real rotator behind a
// courier, on the fakes of [world]. It lives in a bubble: time passes when all wait.
// Chain, store, anchors and home outlive restarts.
type rotating struct {
	*world
	anchors []*testAnchor
	emptier *emptier
	keeper  *Keeper
	jobs    *Jobs
	courier *testCourier
	cancel  context.CancelFunc
	ended   chan struct{}
	values  map[agentkeys.Wallet]map[string]string // acknowledged, by owner and name

	hook struct {
		sync.Mutex
		at   func(string) bool // true = the process dies here
		dead string            // the step it died at
	}
}

// rotate runs a test in a bubble with a founded vault and a user without an epoch.
func rotate(t *testing.T, anchors int, f func(t *testing.T, r *rotating)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRotating(t, anchors)
		r.start()
		t.Cleanup(r.halt)
		r.enrol(r.owner)
		f(t, r)
	})
}

func newRotating(t *testing.T, anchors int) *rotating {
	vault := agentkeys.VaultID(sha256.Sum256([]byte("vault of rotation tests")))
	v, err := rulestest.NewVault(vault, statement.DefaultParams())
	check(t, err)
	v.Block.Time = uint64(time.Now().Unix())
	store := &fakeStore{objects: map[string][]byte{}}
	r := &rotating{world: &world{t: t, vault: vault, home: t.TempDir(), chain: &fakeChain{vault: v, moved: make(chan struct{})},
		store: store, log: &logs{}, owner: rulestest.Wallet("owner"), scribe: rulestest.Wallet("scribe")},
		emptier: &emptier{s: store}, values: map[agentkeys.Wallet]map[string]string{}}
	r.state, err = OpenState(r.home, true)
	check(t, err)
	r.kit = rulestest.Kit{Vault: vault, Custodian: r.state.Instance, Rotator: rulestest.Process("rotator")}
	check(t, r.kit.Found(v))
	for range anchors {
		r.join()
	}
	check(t, r.state.Close())
	return r
}

// join adds an anchor; the next start opens it.
func (r *rotating) join() {
	r.t.Helper()
	a := &testAnchor{id: erasure.AnchorID{byte(len(r.anchors) + 1)}, file: erasure.NewFileAnchor(r.t.TempDir())}
	r.anchors = append(r.anchors, a)
	r.act(statement.AddAnchor{Anchor: statement.AnchorID(a.id), Type: statement.AnchorFile})
}

// act has the authority's act accepted.
func (r *rotating) act(b statement.Body) {
	r.t.Helper()
	r.chain.mu.Lock()
	defer r.chain.mu.Unlock()
	res, err := r.chain.vault.Act(b)
	check(r.t, err)
	if !res.Code.Done() {
		r.t.Fatalf("act %T: %s: %s", b, res.Code, res.Reason)
	}
	r.chain.block(0)
}

// stepped is the hook of every step. Once dead, the process takes no other one.
func (r *rotating) stepped(name string) {
	r.hook.Lock()
	defer r.hook.Unlock()
	if r.hook.dead == "" && r.hook.at != nil && r.hook.at(name) {
		r.hook.dead = name
	}
	if r.hook.dead != "" {
		panic(crashed{r.hook.dead})
	}
}

func (r *rotating) at(f func(string) bool) {
	r.hook.Lock()
	defer r.hook.Unlock()
	r.hook.at, r.hook.dead = f, ""
}

func (r *rotating) died() string {
	r.hook.Lock()
	defer r.hook.Unlock()
	return r.hook.dead
}

// Submit is the relay, with a step before the block and one before its answer. A
// heartbeat has none: it is in a goroutine of its own and belongs to no flow.
func (r *rotating) Submit(ctx context.Context, wires [][]byte) (api.Relayed, error) {
	if statement.Kind(wires[0][0]) == statement.KindHeartbeat {
		return r.chain.Submit(ctx, wires)
	}
	r.stepped(fmt.Sprintf("relay %d", wires[0][0]))
	out, err := r.chain.Submit(ctx, wires)
	r.stepped(fmt.Sprintf("relayed %d", wires[0][0]))
	return out, err
}

// CourierSession names the user in place of credentials.
func (r *rotating) CourierSession(_ context.Context, user agentkeys.Wallet) (blobstore.Session, error) {
	return blobstore.Session{Endpoint: "memory", AccessKey: user.String(), Expiry: time.Now().Add(time.Hour)}, nil
}

// start is a start of the process on what is durable.
func (r *rotating) start() {
	r.t.Helper()
	var err error
	r.state, err = OpenState(r.home, true)
	check(r.t, err)
	r.kit.Custodian = r.state.Instance
	cfg := r.config()
	cfg.Step, cfg.Relay = r.stepped, r
	var kept []KeptAnchor
	for _, a := range r.anchors {
		kept = append(kept, KeptAnchor{a.id, statement.AnchorFile, a})
	}
	r.keeper = NewKeeper(cfg, trees{system{r.store}}, kept, r.stepped)
	cfg.Shares = r.keeper
	r.s, err = New(cfg)
	check(r.t, err)
	r.jobs = NewJobs(r.s, r.keeper, r, r.emptier)
	r.courier = &testCourier{r: r}
	r.resume()
}

// resume starts the erasing part, pause ends it.
func (r *rotating) resume() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.ended = cancel, make(chan struct{})
	go r.run(ctx)
}

func (r *rotating) pause() {
	r.cancel()
	<-r.ended
}

// run opens the keeper, as the real process does, and erases.
func (r *rotating) run(ctx context.Context) {
	defer close(r.ended)
	defer func() {
		if p := recover(); p != nil {
			if _, is := p.(crashed); !is {
				panic(p)
			}
		}
	}()
	for r.keeper.Open(ctx) != nil {
		if sleep(ctx, time.Second) != nil {
			return
		}
	}
	_ = r.jobs.Run(ctx)
}

// halt ends the process however far it is.
func (r *rotating) halt() {
	if r.s == nil {
		return
	}
	r.pause()
	r.courier.drop()
	r.stop()
}

// restart is a crash and a new start on the same durable state.
func (r *rotating) restart() {
	r.t.Helper()
	r.halt()
	r.at(nil)
	r.start()
}

// pass lets time go by, on the chain too. Nothing is erased in a long time: its tick
// of a second would take the test long as well.
func (r *rotating) pass(d time.Duration) {
	if d > time.Hour && r.died() == "" {
		r.pause()
		defer r.resume()
	}
	time.Sleep(d)
	r.chain.mu.Lock()
	defer r.chain.mu.Unlock()
	if now := uint64(time.Now().Unix()); now > r.chain.vault.Block.Time {
		r.chain.block(now - r.chain.vault.Block.Time)
	}
}

// user is the owner's row.
func (r *rotating) user() rules.User {
	r.chain.mu.Lock()
	defer r.chain.mu.Unlock()
	return r.chain.vault.User(r.owner.Wallet())
}

// as makes somebody else the owner for a while.
func (r *rotating) as(owner eip712.Key, f func()) {
	before := r.owner
	r.owner = owner
	defer func() { r.owner = before }()
	f()
}

// enrol makes a user with a first epoch and an agent.
func (r *rotating) enrol(k eip712.Key) {
	r.t.Helper()
	r.as(k, func() {
		r.must(k, statement.Enrol{User: k.Wallet()})
		r.drive(func() bool { return r.user().Active.Epoch == 1 })
		r.must(k, statement.AdmitAgent{User: k.Wallet(), Agent: r.scribe.Wallet(), Role: statement.RoleAgent, Expires: r.in(365 * 86400)})
		r.values[k.Wallet()] = map[string]string{}
	})
}

// keep stores a value that is acknowledged, and shares it with scribe.
func (r *rotating) keep(names ...string) {
	r.t.Helper()
	for _, name := range names {
		value := "value of " + name + " " + r.owner.Wallet().String()[:6]
		r.mustPut(name, value, r.pointer(name).Version)
		r.values[r.owner.Wallet()][name] = value
		if !r.granted(name) {
			r.grant(name, statement.ModeReveal, r.in(300*86400))
		}
	}
}

func (r *rotating) granted(name string) bool {
	slot := agentkeys.Slot{User: r.owner.Wallet(), Agent: r.scribe.Wallet(), Service: r.serviceID(name)}
	r.chain.mu.Lock()
	defer r.chain.mu.Unlock()
	return r.chain.vault.Grant(slot).Version != 0
}

// ask makes the next epoch due.
func (r *rotating) ask() {
	r.t.Helper()
	r.must(r.owner, statement.AskRotation{User: r.owner.Wallet(), Due: r.user().Active.Epoch + 1})
}

// drive takes steps of the courier until done; time passes while it waits.
func (r *rotating) drive(done func() bool) {
	r.t.Helper()
	for range 300 {
		if done() {
			return
		}
		wait, err := r.courier.next(r.t.Context(), r.owner.Wallet())
		if err != nil {
			wait = time.Second
		}
		r.pass(max(wait, 0))
		if wait < 0 {
			r.pass(time.Minute)
		}
	}
	r.t.Fatalf("it never comes to an end: %+v, last error %v\n%s", r.user(), r.courier.err, r.log.b.String())
}

// settle drives until the epoch is open and alone.
func (r *rotating) settle(epoch agentkeys.Epoch) {
	r.t.Helper()
	r.drive(func() bool {
		u := r.user()
		if u.Draining.Epoch != 0 && u.Draining.Epoch+1 != u.Active.Epoch {
			r.t.Fatalf("epochs %d and %d are live", u.Draining.Epoch, u.Active.Epoch)
		}
		return u.Active.Epoch == epoch && u.Draining.Epoch == 0
	})
}

// opened waits until the trees are open: a crash at the very end leaves nothing else
// to do that would wait for it.
func (r *rotating) opened() {
	r.t.Helper()
	for _, a := range r.anchors {
		for n := 0; a.alive() == nil && r.keeper.set.Tree(a.id) == nil; n++ {
			if n == 100 {
				r.t.Fatalf("anchor %s does not open", a.id)
			}
			r.pass(time.Second)
		}
	}
}

// intact checks what has to hold once an epoch is open and alone: everything
// acknowledged reads from the store, every pointer is in the active epoch, no tree
// has a share of another one and each anchor holds one root.
func (r *rotating) intact() {
	r.t.Helper()
	r.opened()
	u := r.user()
	r.forget()
	for name, want := range r.values[r.owner.Wallet()] {
		if got, err := r.get(name); err != nil || got != want {
			r.t.Errorf("%s reads %q, %v; want %q", name, got, err, want)
		}
		if p := r.pointer(name); p.Epoch != u.Active.Epoch {
			r.t.Errorf("%s is in epoch %d, active is %d", name, p.Epoch, u.Active.Epoch)
		}
	}
	if n := len(r.values[r.owner.Wallet()]); int(u.Active.LiveCount) != n || u.Draining.Epoch != 0 {
		r.t.Errorf("%d credentials in the active epoch, want %d; draining %d", u.Active.LiveCount, n, u.Draining.Epoch)
	}
	for _, a := range r.anchors {
		if a.alive() != nil {
			continue
		}
		for id := range r.keeper.set.Tree(a.id).IDs() {
			if id.User == r.owner.Wallet() && id.Epoch != u.Active.Epoch {
				r.t.Errorf("anchor %s still opens %s", a.id, id)
			}
		}
		roots, err := a.Roots(r.t.Context())
		if err != nil || len(roots) != 1 {
			r.t.Errorf("anchor %s holds %d roots, %v", a.id, len(roots), err)
		}
	}
}

// under lists the objects below an epoch's prefix.
func (r *rotating) under(epoch agentkeys.Epoch) (keys []string) {
	for o := range (system{r.store}).List(r.t.Context(), blobstore.EpochPrefix(r.owner.Wallet(), epoch)) {
		keys = append(keys, o.Key)
	}
	return keys
}

// objects changes what the store holds behind everybody's back.
func (r *rotating) objects(change func(map[string][]byte)) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	change(r.store.objects)
}

func (r *rotating) lose(key string) { r.objects(func(o map[string][]byte) { delete(o, key) }) }

func (r *rotating) place(key string, b []byte) {
	r.objects(func(o map[string][]byte) { o[key] = bytes.Clone(b) })
}

func (r *rotating) object(key string) (b []byte) {
	r.objects(func(o map[string][]byte) { b = bytes.Clone(o[key]) })
	return b
}

func (r *rotating) away(v bool) { r.objects(func(map[string][]byte) { r.store.away = v }) }

// emptied lists the prefixes that were emptied.
func (r *rotating) emptied() []string {
	r.emptier.mu.Lock()
	defer r.emptier.mu.Unlock()
	return slices.Clone(r.emptier.emptied)
}

// logged says whether the log has a text.
func (r *rotating) logged(text string) bool { return r.loggedTimes(text) > 0 }

func (r *rotating) loggedTimes(text string) int {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return strings.Count(r.log.b.String(), text)
}
