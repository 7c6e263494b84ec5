package custodian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// One run is a random history of two users on one custodian with two anchors, whose
// relay, store and courier do what they like until faults stop. After every act the
// invariants of model/README.md are held against rows, store and anchors; the thief has
// every tree object that was ever written. STATEMACHINE_SEED=n replays one history,
// STATEMACHINE_RUNS=n takes that many, STATEMACHINE_ACTS=n makes them longer.
// Records that are withheld are those of one tree, and in each third history of both.
func TestRandomVault(t *testing.T) {
	runs, acts := number(t, "STATEMACHINE_RUNS", 12), number(t, "STATEMACHINE_ACTS", 60)
	first := uint64(1)
	if os.Getenv("STATEMACHINE_SEED") != "" {
		first, runs = number(t, "STATEMACHINE_SEED", 0), 1
	}
	did := struct {
		sync.Mutex
		n map[string]int
	}{n: map[string]int{}}
	t.Run("seed", func(t *testing.T) {
		for seed := first; seed < first+runs; seed++ {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := newMachine(t, seed)
					t.Cleanup(m.halt)
					t.Cleanup(func() { m.replay(seed) })
					m.live(int(acts))
					m.rest()
					did.Lock()
					defer did.Unlock()
					for what, n := range m.did {
						did.n[what] += n
					}
				})
			})
		}
	})
	t.Logf("%v", did.n)
	if t.Failed() || runs < 12 {
		return
	}
	// What never happened was not tested.
	for _, want := range []string{"acknowledged", "overwritten", "read", "deleted", "revoked", "crashed", "unknown", "held", "delivered late", "repeated",
		"lost answer", "put lost", "frames spoiled", "receipts reordered", "hidden", "expired", "destroyed", "rewrapped"} {
		if did.n[want] == 0 {
			t.Errorf("%s: never", want)
		}
	}
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 32)
	check(t, err)
	return n
}

// promise is what is known of one slot.
type promise struct {
	acked     uint64              // newest version that was acknowledged
	tried     map[uint64][]string // values of writes that may have made a version
	deletes   uint64              // newest version that somebody tried to delete
	mayExpire bool
}

// machine is a [rotating] world with a hostile surrounding.
type machine struct {
	*rotating
	rng   *rand.Rand // of what the test does
	users []eip712.Key
	slots map[agentkeys.Wallet]map[string]*promise
	trace []string
	blind bool // tree objects were withheld at the start: what they hold may be missing until the next

	mu     sync.Mutex // of what is below: the eraser speaks too
	own    *rand.Rand // of what befalls the eraser's statements
	calm   bool
	held   [][]byte // statements that the relay keeps
	wires  [][]byte // all there ever were
	hidden map[string][]byte
	seeing string            // the tree whose records are never withheld; "" = none
	loot   map[string][]byte // every tree object ever
	did    map[string]int
}

func newMachine(t *testing.T, seed uint64) *machine {
	m := &machine{rotating: newRotating(t, 2), rng: rand.New(rand.NewPCG(seed, 1)), own: rand.New(rand.NewPCG(seed, 2)), calm: true,
		users: []eip712.Key{rulestest.Wallet("owner"), rulestest.Wallet("other")}, slots: map[agentkeys.Wallet]map[string]*promise{},
		seeing: []string{"", "tree/01", "tree/02"}[seed%3], hidden: map[string][]byte{}, loot: map[string][]byte{}, did: map[string]int{}}
	m.boot()
	for _, u := range m.users {
		m.slots[u.Wallet()] = map[string]*promise{}
		m.enrol(u)
	}
	return m
}

// boot is [rotating.start] with this machine's relay and stores.
func (m *machine) boot() {
	m.t.Helper()
	var err error
	m.state, err = OpenState(m.home, true)
	check(m.t, err)
	m.kit.Custodian = m.state.Instance
	cfg := m.config()
	cfg.Relay, cfg.Store = m, lossy{m.store, m}
	cfg.Step = func(name string) {
		if !strings.HasPrefix(name, "outbox.") { // in a goroutine of its own, which nothing could catch
			m.stepped(name)
		}
	}
	var kept []KeptAnchor
	for _, a := range m.anchors {
		kept = append(kept, KeptAnchor{a.id, statement.AnchorFile, a})
	}
	m.keeper = NewKeeper(cfg, looted{trees{system{m.store}}, m}, kept, m.stepped)
	cfg.Shares = m.keeper
	m.s, err = New(cfg)
	check(m.t, err)
	m.jobs = NewJobs(m.s, m.keeper, m, m.emptier)
	m.courier = &testCourier{r: m.rotating}
	m.resume()
}

// chance is true once in n while there are faults.
func (m *machine) chance(rng *rand.Rand, n int, what string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calm || rng.IntN(n) != 0 {
		return false
	}
	m.did[what]++
	return true
}

func (m *machine) note(what string, detail ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.did[what]++
	m.trace = append(m.trace, fmt.Sprintln(append([]any{what}, detail...)...))
}

// Submit is the relay: it keeps statements, carries them twice, says that it did and did
// not, and the other way round.
func (m *machine) Submit(ctx context.Context, wires [][]byte) (out api.Relayed, err error) {
	kind := statement.Kind(wires[0][0])
	rng := m.rng
	switch kind {
	case statement.KindHeartbeat:
		return m.chain.Submit(ctx, wires)
	case statement.KindTakeKeeper, statement.KindCommitTree, statement.KindDestroyEpoch:
		rng = m.own
	}
	m.stepped(fmt.Sprintf("relay %d", kind))
	m.mu.Lock()
	m.wires = append(m.wires, wires[0])
	m.mu.Unlock()
	if m.chance(rng, 8, "held") {
		m.mu.Lock()
		m.held = append(m.held, wires[0])
		polite := rng.IntN(2) == 0
		m.mu.Unlock()
		if polite {
			return api.Relayed{Height: m.chain.Head().Height, Results: []api.Accepted{{Name: "ok"}}}, nil
		}
		return out, errDown
	}
	out, err = m.chain.Submit(ctx, wires)
	if m.chance(rng, 12, "repeated") {
		_, _ = m.chain.Submit(ctx, wires)
	}
	m.stepped(fmt.Sprintf("relayed %d", kind))
	if m.chance(rng, 12, "lost answer") {
		return api.Relayed{}, errDown
	}
	return out, err
}

// lossy is the users' store: some PUTs fail, before or after they are durable.
type lossy struct {
	*fakeStore
	m *machine
}

func (l lossy) Put(ctx context.Context, user agentkeys.Wallet, key string, b []byte) error {
	if l.m.chance(l.m.rng, 12, "put lost") {
		return blobstore.ErrUnavailable
	}
	err := l.fakeStore.Put(ctx, user, key, b)
	if err == nil && l.m.chance(l.m.rng, 12, "put unanswered") {
		return blobstore.ErrUnavailable
	}
	return err
}

// looted is the trees' store. The thief keeps every version of every object. A name that is
// withheld stays taken: create-only is what decides between two shares for one id.
type looted struct {
	trees
	m *machine
}

func (l looted) Put(ctx context.Context, key string, b []byte) error {
	taken := false
	l.m.objects(func(map[string][]byte) { _, taken = l.m.hidden[key] })
	if taken {
		return blobstore.ErrExists
	}
	l.m.mu.Lock()
	if l.m.loot[key] == nil {
		l.m.loot[key] = bytes.Clone(b)
	}
	l.m.mu.Unlock()
	return l.trees.Put(ctx, key, b)
}

// live does random acts, and looks at everything after each.
func (m *machine) live(acts int) {
	m.t.Helper()
	m.opened()
	m.look()
	m.mu.Lock()
	m.calm = false
	m.mu.Unlock()
	deeds := []struct {
		weight int
		do     func()
	}{{6, m.write}, {3, m.readOne}, {1, m.remove}, {2, m.rotateSoon}, {12, m.carry}, {1, m.revoke}, {2, m.dieSoon}, {3, m.deliver}, {1, m.hide}, {2, m.age}, {1, m.rewrap}}
	total := 0
	for _, d := range deeds {
		total += d.weight
	}
	for range acts {
		n := m.rng.IntN(total)
		i := 0
		for ; n >= deeds[i].weight; i++ {
			n -= deeds[i].weight
		}
		m.owner = m.users[m.rng.IntN(len(m.users))]
		m.survive(deeds[i].do)
		m.look()
		if m.died() != "" {
			m.again()
			m.look()
		}
	}
}

// rewrap begins the next shielding key, where none is under way.
func (m *machine) rewrap() {
	if _, err := m.jobs.shielding(m.t.Context(), api.ShieldingRequest{Begin: true}); err == nil {
		m.note("rewrapped", m.keeper.version())
	}
}

// again is the start after a crash. Now and then the store withholds records at it;
// then the relay has lost what it kept (model/README.md, the last limit).
func (m *machine) again() {
	m.note("crashed", m.died())
	m.halt()
	m.at(nil)
	m.relieve()
	records := false
	if m.rng.IntN(3) == 0 {
		m.mu.Lock()
		m.held = nil
		m.mu.Unlock()
		records = m.conceal(func(key string) bool { return strings.Contains(key, "/record/") && m.rng.IntN(2) == 0 })
	}
	m.blind = m.withholds("tree/")
	m.boot()
	m.pass(2 * time.Second)
	if records {
		m.reveal()
	}
}

// relieve is the relay's part in that: what it kept does not meet a start that is blind.
func (m *machine) relieve() {
	if !m.withholds("/record/") {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = nil
}

func (m *machine) withholds(part string) bool {
	for k := range m.hidden {
		if strings.Contains(k, part) {
			return true
		}
	}
	return false
}

// pick chooses a name and its promise.
func (m *machine) pick() (string, *promise) {
	name := []string{"github", "openai", "slack"}[m.rng.IntN(3)]
	p := m.slots[m.owner.Wallet()][name]
	if p == nil {
		p = &promise{tried: map[uint64][]string{}}
		m.slots[m.owner.Wallet()][name] = p
	}
	return name, p
}

func (m *machine) write() {
	name, p := m.pick()
	// After an answer that says nothing people try again, and forget about the first.
	if !m.writeTo(name, p) && m.rng.IntN(2) == 0 {
		m.writeTo(name, p)
	}
}

func (m *machine) writeTo(name string, p *promise) bool {
	before := m.pointer(name)
	next := before.Version + 1
	if before.Version == 0 {
		next = m.user().Floor + 1
	}
	value := fmt.Sprintf("-%s-%d-%d", name, next, m.rng.Uint32())
	m.idle = statement.IdleCarry
	if name != "github" && m.rng.IntN(3) > 0 {
		m.idle, p.mayExpire = statement.IdleExpire, true
	}
	// Until it is known better any version from here on may be this one: a write goes to
	// the next version by itself when the floor moves.
	p.tried[next] = append(p.tried[next], value)
	out, err := m.put(name, value, before.Version)
	if err != nil {
		m.note("unknown", name, next, err)
		return false
	}
	if out.Version != next {
		m.t.Fatalf("%s: a write of version %d made %d", name, next, out.Version)
	}
	p.acked, p.tried[next] = out.Version, []string{value}
	m.note("acknowledged", name, out.Version)
	if before.Version != 0 {
		m.note("overwritten", name)
	}
	return true
}

// readOne reads as the agent, by whatever it is granted now.
func (m *machine) readOne() {
	name, _ := m.pick()
	if p := m.pointer(name); p.Version == 0 {
		return
	}
	if !m.allowed(name) {
		return
	}
	got, err := m.readAs(name)
	if err != nil {
		m.note("not read", name, err)
		return
	}
	if want := m.plain(name); got != want {
		m.t.Fatalf("%s reads %q, the store has %q", name, got, want)
	}
	m.note("read", name)
}

// readAs is a login of the agent and a read.
func (m *machine) readAs(name string) (string, error) {
	c, _, _, err := m.login(m.scribe)
	if err != nil {
		return "", err
	}
	return m.getAs(c, name)
}

// allowed admits the agent and grants it the slot, as far as the rows do not show it.
func (m *machine) allowed(name string) bool {
	slot := agentkeys.Slot{User: m.owner.Wallet(), Agent: m.scribe.Wallet(), Service: m.serviceID(name)}
	rows := func() (rules.Agent, rules.Grant) {
		m.chain.mu.Lock()
		defer m.chain.mu.Unlock()
		return m.chain.vault.Agent(slot.User, slot.Agent), m.chain.vault.Grant(slot)
	}
	a, g := rows()
	if a.Expires <= m.in(0) {
		m.say(statement.AdmitAgent{User: slot.User, Agent: slot.Agent, Role: statement.RoleAgent, Counter: a.Counter, Expires: m.in(365 * 86400)})
		a, g = rows()
	}
	if a.Expires > m.in(0) && (g.Version == 0 || g.Counter != a.Counter) {
		m.say(statement.Grant{User: slot.User, Agent: slot.Agent, Service: slot.Service, Previous: g.Version, Counter: a.Counter,
			Mode: statement.ModeReveal, Slot: statement.SlotShared, Expires: m.in(300 * 86400), SealedName: m.sealName(name)})
		a, g = rows()
	}
	return a.Expires > m.in(0) && g.Version != 0 && g.Counter == a.Counter
}

// say sends a user's statement; whether it was acknowledged is the answer.
func (m *machine) say(b statement.Body) bool {
	out, err := m.s.statement(m.t.Context(), api.Statement{Wire: m.kit.SignUser(m.owner, b)})
	return err == nil && rules.Code(out.Code).Done()
}

func (m *machine) remove() {
	name, p := m.pick()
	row := m.pointer(name)
	if row.Version == 0 {
		return
	}
	p.deletes = max(p.deletes, row.Version)
	slot := m.slot(name)
	if m.say(statement.Delete{User: slot.User, Agent: slot.Agent, Service: slot.Service, Version: row.Version}) {
		m.note("deleted", name, row.Version)
		if after := m.pointer(name); after.Version != 0 && after.Version <= row.Version {
			m.t.Fatalf("%s: deleted version %d and %d is there", name, row.Version, after.Version)
		}
	}
}

// rotateSoon makes the next epoch due: eager, or lazy by age.
func (m *machine) rotateSoon() {
	if m.rng.IntN(3) == 0 {
		m.reveal()
		m.note("lazy")
		m.pass(7 * 24 * time.Hour)
		m.carry()
		if m.rng.IntN(2) == 0 {
			m.pass(73 * time.Hour) // the drain window is over
			m.carry()
		}
		return
	}
	u := m.user()
	m.note("eager", u.Active.Epoch)
	m.say(statement.AskRotation{User: m.owner.Wallet(), Due: u.Active.Epoch + 1})
}

// revoke ends the agent's sessions: none reads after the acknowledgement.
func (m *machine) revoke() {
	name, _ := m.pick()
	session, _, _, err := m.login(m.scribe)
	if err != nil {
		return // not admitted
	}
	m.chain.mu.Lock()
	a := m.chain.vault.Agent(m.owner.Wallet(), m.scribe.Wallet())
	m.chain.mu.Unlock()
	if !m.say(statement.RevokeAgent{User: m.owner.Wallet(), Agent: m.scribe.Wallet(), Counter: a.Counter}) {
		return
	}
	m.note("revoked")
	if got, err := m.getAs(session, name); err == nil {
		m.t.Fatalf("%s reads %q after the revocation", name, got)
	}
}

// carry lets the courier work, not always faithfully.
func (m *machine) carry() {
	hand := hand{}
	switch m.rng.IntN(10) {
	case 0:
		m.note("frames spoiled")
		hand.frames = func(b []byte) []byte { return append(bytes.Clone(b[len(b)/2:]), b[:len(b)/2]...) }
	case 1:
		m.note("receipts reordered")
		hand.receipts = func(rs []api.JobReceipt) []api.JobReceipt {
			rs = append(slices.Clone(m.courier.kept), rs...)
			slices.Reverse(rs)
			return append(rs, rs...)
		}
	case 2:
		hand.sealed = func(to string, b []byte) (string, []byte) {
			if m.chance(m.rng, 2, "put lost") {
				to = blobstore.UserPrefix(m.owner.Wallet()) + "lost/" + strconv.Itoa(int(m.rng.Uint32()))
			}
			return to, b
		}
	}
	m.courier.hand = hand
	defer func() { m.courier.hand = hand0 }()
	for range 1 + m.rng.IntN(8) {
		wait, err := m.courier.next(m.t.Context(), m.owner.Wallet())
		if err != nil {
			wait = time.Second
		}
		m.pass(min(max(wait, 0), 13*time.Second))
	}
}

var hand0 hand

// dieSoon is a crash some steps from here.
func (m *machine) dieSoon() {
	left := 1 + m.rng.IntN(25)
	m.at(func(name string) bool {
		if ofRotation(name) || strings.HasPrefix(name, "write.") || strings.HasPrefix(name, "statement.") || strings.HasPrefix(name, "put:") {
			left--
		}
		return left == 0
	})
}

// deliver is a statement that was kept, or any that there ever was, once more.
func (m *machine) deliver() {
	m.mu.Lock()
	var wire []byte
	if n := len(m.held); n > 0 && m.rng.IntN(3) > 0 {
		i := n - 1
		if m.rng.IntN(2) == 0 {
			i = m.rng.IntN(n)
		}
		wire = m.held[i]
		m.held = slices.Delete(m.held, i, i+1)
		m.did["delivered late"]++
	} else if n := len(m.wires); n > 0 {
		wire = m.wires[m.rng.IntN(n)]
		m.did["repeated"]++
	}
	m.mu.Unlock()
	if wire != nil {
		_, err := m.chain.Submit(m.t.Context(), [][]byte{wire})
		check(m.t, err)
	}
}

// hide withholds objects until the next time, at most a quarter of an hour.
func (m *machine) hide() {
	m.reveal()
	if m.conceal(func(string) bool { return m.rng.IntN(6) == 0 }) {
		m.note("hidden")
	}
}

func (m *machine) conceal(which func(key string) bool) (any bool) {
	m.objects(func(o map[string][]byte) {
		var keys []string
		for k := range o {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			if m.seeing != "" && strings.HasPrefix(k, m.seeing) && strings.Contains(k, "/record/") {
				continue
			}
			if which(k) {
				m.hidden[k], any = o[k], true
				delete(o, k)
			}
		}
	})
	return any
}

// reveal puts back what was withheld.
func (m *machine) reveal() {
	m.objects(func(o map[string][]byte) {
		for k, b := range m.hidden {
			if _, again := o[k]; !again {
				o[k] = b
			}
		}
		clear(m.hidden)
	})
}

// age lets time go by; a drain window may end.
func (m *machine) age() {
	if m.rng.IntN(4) == 0 {
		m.reveal()
		m.pass(73 * time.Hour)
		return
	}
	m.pass(time.Duration(m.rng.IntN(600)) * time.Second)
}

// plain opens what the row names with the bytes of the store, whoever is allowed to.
func (m *machine) plain(name string) string {
	m.t.Helper()
	slot, p := m.slot(name), m.pointer(name)
	object := m.object(m.objectKey(name))
	if object == nil {
		object = m.hidden[m.objectKey(name)]
	}
	b, err := m.s.open(verdict{slot: slot, user: m.user(), pointer: p}, object)
	if err != nil {
		m.fail("%s version %d in epoch %d does not open: %v", name, p.Version, p.Epoch, err)
	}
	cred, err := credential.Parse(b)
	check(m.t, err)
	return strings.TrimPrefix(string(cred.Secret.Reveal()), canary)
}

func (m *machine) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf(format, args...)
}

// replay says how a history that failed is seen again.
func (m *machine) replay(seed uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.t.Failed() {
		m.t.Logf("replay: STATEMACHINE_SEED=%d go test -run TestRandomVault ./custodian\n%s", seed, strings.Join(m.trace, ""))
	}
}

// look holds every invariant against what is durable, and what is acknowledged against
// what can be read.
func (m *machine) look() {
	m.t.Helper()
	synctest.Wait() // the eraser is between two steps, or waits for a block
	before := m.owner
	defer func() { m.owner = before }()
	for _, u := range m.users {
		m.owner = u
		m.lookAtEpochs()
		for name, p := range m.slots[u.Wallet()] {
			m.lookAtSlot(name, p)
		}
	}
	m.lookAtAnchors()
}

func (m *machine) lookAtEpochs() {
	m.t.Helper()
	u := m.user()
	if d := u.Draining.Epoch; d != 0 && d+1 != u.Active.Epoch {
		m.fail("epochs %d and %d are live", d, u.Active.Epoch)
	}
	count := map[agentkeys.Epoch]uint32{}
	for name := range m.slots[m.owner.Wallet()] {
		if p := m.pointer(name); p.Version != 0 {
			count[p.Epoch]++
		}
	}
	for e, n := range count {
		if e != u.Active.Epoch && e != u.Draining.Epoch {
			m.fail("%d pointers into epoch %d, which is not live", n, e)
		}
	}
	if count[u.Active.Epoch] != u.Active.LiveCount || u.Draining.Epoch != 0 && count[u.Draining.Epoch] != u.Draining.LiveCount {
		m.fail("%v pointers, the row counts %d and %d", count, u.Active.LiveCount, u.Draining.LiveCount)
	}
}

func (m *machine) lookAtSlot(name string, p *promise) {
	m.t.Helper()
	row := m.pointer(name)
	if row.Version == 0 {
		if gone := m.user().Floor >= p.acked && (p.deletes >= p.acked || p.mayExpire); p.acked != 0 && !gone {
			m.fail("%s: version %d was acknowledged and is gone", name, p.acked)
		}
		if p.acked != 0 && p.deletes < p.acked {
			m.note("expired", name)
			p.deletes = p.acked
		}
		return
	}
	if row.Version < p.acked {
		m.fail("%s: version %d was acknowledged, the row has %d", name, p.acked, row.Version)
	}
	key := m.objectKey(name)
	object := m.object(key)
	if object == nil {
		object = m.hidden[key]
	}
	if object == nil || envelope.HashOf(object) != row.Hash {
		m.fail("%s: a row names an object that is gone, or has other bytes", name)
	}
	if m.up() {
		if got := m.plain(name); !slices.Contains(p.tried[row.Version], got) {
			m.fail("%s version %d is %q, want %q", name, row.Version, got, p.tried[row.Version])
		}
	}
}

// up says whether the custodian runs and at least one tree is open.
func (m *machine) up() bool {
	return m.died() == "" && !m.blind && (m.keeper.set.Tree(m.anchors[0].id) != nil || m.keeper.set.Tree(m.anchors[1].id) != nil)
}

// lookAtAnchors opens what is durable beside the custodian, as a start would, and as a
// thief would who has each root that the anchor holds and every tree object ever.
func (m *machine) lookAtAnchors() {
	m.t.Helper()
	m.mu.Lock()
	loot := make(vaultCopy, len(m.loot))
	for k, b := range m.loot {
		loot[k] = b
	}
	m.mu.Unlock()
	for i, a := range m.anchors {
		row := m.anchor(i)
		roots, err := a.Roots(m.t.Context())
		check(m.t, err)
		if row.Generation == 0 {
			continue
		}
		// The root that the chain names opens everything live.
		tree, err := m.openCopy(i, loot, roots, erasure.Row{Generation: row.Generation, IndexHash: row.IndexHash})
		if err != nil {
			m.fail("anchor %s: what the chain names does not open: %v", a.id, err)
		}
		reach := map[erasure.ShareID]bool{}
		for _, r := range roots {
			for key, object := range loot {
				var g uint64
				if at := strings.Index(key, "/index/"); at < 0 || !strings.Contains(key, a.id.String()) {
					continue
				} else if _, err := fmt.Sscanf(key[at:], "/index/%d/", &g); err != nil {
					m.t.Fatal(err)
				}
				stolen, err := m.openCopy(i, loot, []erasure.Root{r}, erasure.Row{Generation: g, IndexHash: sha256.Sum256(object)})
				if err != nil {
					continue
				}
				for id := range stolen.IDs() {
					reach[id] = true
				}
			}
		}
		m.lookAtShares(i, tree, reach)
	}
}

func (m *machine) lookAtShares(i int, tree *erasure.Tree, reach map[erasure.ShareID]bool) {
	m.t.Helper()
	for _, k := range m.users {
		m.owner = k
		u := m.user()
		for _, e := range []rules.EpochRow{u.Active, u.Draining} {
			if e.Epoch == 0 || e.Epoch == u.Draining.Epoch && e.LiveCount == 0 {
				continue
			}
			if _, ok := tree.Get(shareOf(k.Wallet(), e)); !ok {
				m.fail("anchor %d: the share of live epoch %d is gone", i, e.Epoch)
			}
		}
		for id := range reach {
			if id.User != k.Wallet() || id.Epoch > u.Active.Epoch {
				continue
			}
			said := id.Epoch == u.Draining.Epoch && u.Draining.Erased&(1<<i) != 0
			if said || id.Epoch != u.Active.Epoch && id.Epoch != u.Draining.Epoch {
				m.fail("anchor %d still opens %s, which was called erased", i, id)
			}
		}
	}
}

// openCopy opens a copy of a tree, so that nothing is changed by looking.
func (m *machine) openCopy(i int, loot vaultCopy, roots []erasure.Root, row erasure.Row) (*erasure.Tree, error) {
	row.Height, row.Term = 1<<62, 1<<62
	objects := vaultCopy{}
	for k, b := range loot {
		objects[k] = b
	}
	return erasure.Open(m.t.Context(), erasure.Config{Vault: m.vault, ID: m.anchors[i].id, Objects: objects, Anchor: fixedRoots(roots), Chain: fixedRow(row),
		Version: 1, Shielding: m.keeper.shielding, Live: func(context.Context, func(erasure.ShareID) error) error { return nil }})
}

// vaultCopy, fixedRoots and fixedRow are what a copy is opened from.
type vaultCopy map[string][]byte

func (v vaultCopy) Put(_ context.Context, name string, b []byte) error {
	if _, ok := v[name]; ok {
		return erasure.ErrExists
	}
	v[name] = b
	return nil
}

func (v vaultCopy) Get(_ context.Context, name string) ([]byte, error) {
	if b, ok := v[name]; ok {
		return b, nil
	}
	return nil, erasure.ErrNotFound
}

func (v vaultCopy) List(_ context.Context, prefix string) (names []string, _ error) {
	for k := range v {
		if strings.HasPrefix(k, prefix) {
			names = append(names, k)
		}
	}
	return names, nil
}

func (v vaultCopy) Delete(context.Context, string) error {
	return errors.New("copy: not to be changed")
}

type fixedRoots []erasure.Root

func (f fixedRoots) Roots(context.Context) ([]erasure.Root, error) { return slices.Clone(f), nil }
func (fixedRoots) Stage(context.Context, erasure.Root) error {
	return errors.New("copy: not to be changed")
}
func (fixedRoots) Destroy(context.Context, erasure.Root) error {
	return errors.New("copy: not to be changed")
}

type fixedRow erasure.Row

func (f fixedRow) Anchor(context.Context, erasure.AnchorID) (erasure.Row, error) {
	return erasure.Row(f), nil
}
func (f fixedRow) CommitTree(context.Context, erasure.AnchorID, uint64, uint64, agentkeys.Hash) (erasure.Row, error) {
	return erasure.Row{}, errors.New("copy: not to be changed")
}
func (fixedRow) Destroyed(context.Context, agentkeys.Wallet, agentkeys.Epoch) (bool, error) {
	return false, nil
}

// rest ends the faults: everything comes to an end, and what was promised is there.
func (m *machine) rest() {
	m.t.Helper()
	m.mu.Lock()
	m.calm = true
	m.mu.Unlock()
	m.reveal()
	// A custodian that missed a record or a staged index at its start says so, and looks for
	// neither again: whoever runs it starts it again.
	if m.died() != "" || m.blind {
		m.halt()
		m.blind = false
		m.boot()
	}
	m.at(nil)
	m.opened()
	for _, u := range m.users {
		m.owner = u
		from := m.user().Active.Epoch
		// What the relay kept and nobody delivered has run out.
		m.pass(20 * time.Minute)
		m.drive(func() bool { return m.say(statement.AskRotation{User: u.Wallet(), Due: m.user().Active.Epoch + 1}) })
		m.drive(func() bool {
			x := m.user()
			return x.Active.Epoch > from && x.Due <= x.Active.Epoch && x.Draining.Epoch == 0
		})
		m.pass(30 * time.Second)
		m.did["destroyed"] += int(m.user().Active.Epoch) - 1
	}
	// What was put back, or came late, into the prefix of a destroyed epoch goes at a start;
	// a revocation that was obeyed and never came into a block is forgotten at one.
	m.halt()
	m.boot()
	m.opened()
	m.pass(5 * time.Second)
	m.look()
	for i, a := range m.anchors {
		roots, err := a.Roots(m.t.Context())
		if err != nil || len(roots) != 1 {
			m.fail("anchor %d holds %d roots at the end, %v", i, len(roots), err)
		}
	}
	for _, u := range m.users {
		m.owner = u
		for e := agentkeys.Epoch(1); e < m.user().Active.Epoch; e++ {
			if left := m.under(e); len(left) != 0 {
				m.fail("epoch %d is destroyed and its prefix has %d objects", e, len(left))
			}
		}
		for name, p := range m.slots[u.Wallet()] {
			if m.pointer(name).Version != 0 && m.allowed(name) {
				if got, err := m.readAs(name); err != nil || !slices.Contains(p.tried[m.pointer(name).Version], got) {
					m.fail("%s reads %q, %v", name, got, err)
				}
			}
		}
	}
}
