package rules_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
	"pgregory.net/rapid"
)

// signed is a statement that somebody has in hand; order counts signatures and
// accepted removals alike, so that "before" has a meaning.
type signed struct {
	wire   []byte
	body   statement.Body
	order  int
	honest bool // signed over the rows as they stood
}

type pair struct{ user, agent agentkeys.Wallet }

// run is one random history and what it must never do.
type run struct {
	*world
	order    int
	held     []signed
	accepted []signed
	ended    bool // an anchor was retired or evicted
	revoked  map[pair]int
	removed  map[agentkeys.Slot]int
	versions map[agentkeys.Slot]uint64
	marks    map[string]uint64 // numbers that only go up
	codes    map[rules.Code]int
}

func newRun(t *rapid.T) *run {
	return &run{world: newWorld(t), revoked: map[pair]int{}, removed: map[agentkeys.Slot]int{}, versions: map[agentkeys.Slot]uint64{},
		marks: map[string]uint64{}, codes: map[rules.Code]int{}}
}

// TestRandomHistories holds the invariants on random histories: statements valid,
// spoiled, held back, reordered and repeated, by users, custodians and rotators
// that are registered or not.
func TestRandomHistories(t *testing.T) {
	codes := map[rules.Code]int{}
	rapid.Check(t, func(rt *rapid.T) {
		r := newRun(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"":        func(*rapid.T) { r.check() },
			"speak":   func(*rapid.T) { r.speak() },
			"speak2":  func(*rapid.T) { r.speak() },
			"speak3":  func(*rapid.T) { r.speak() },
			"cycle":   func(*rapid.T) { r.cycle() },
			"deliver": func(*rapid.T) { r.deliver() },
			"repeat":  func(*rapid.T) { r.repeat() },
			"act":     func(*rapid.T) { r.act() },
			"block":   func(*rapid.T) { r.block() },
		})
		r.replayAll()
		r.audit()
		for c, n := range r.codes {
			codes[c] += n
		}
	})
	for _, c := range []rules.Code{rules.OK, rules.AlreadyApplied, rules.BadSignature, rules.NotRegistered, rules.Expired, rules.NotFound,
		rules.Stale, rules.NotAdmitted, rules.WrongEpoch, rules.NotDrained, rules.NotKeeper, rules.TooEarly, rules.Refused} {
		if codes[c] == 0 {
			t.Errorf("no random statement was answered %v: the test does not reach it", c)
		}
	}
	t.Logf("answers: %v", codes)
}

// sign signs an honest body, now and then spoiled in one bit or with another key.
func (r *run) sign(body statement.Body, spoil uint64) signed {
	s := signed{body: body, honest: true}
	if spoil == 0 {
		s.honest = false
		b := body.Append([]byte{byte(body.Kind())})
		b[1+r.number(0, uint64(len(b)-2), "byte")] ^= 1 << r.number(0, 7, "bit")
		if got, err := statement.Parse(append(b, make([]byte, signatureSize(body.Kind()))...)); err == nil {
			s.body = got.Body
		}
	}
	kit := rulestest.Kit{Vault: vaultID, Custodian: r.custodians[0], Rotator: r.rotators[0]}
	if spoil == 1 {
		kit.Custodian, kit.Rotator = r.custodians[1], r.rotators[1]
	}
	if body.Kind().ByUser() {
		s.wire = kit.SignUser(r.keys[agentkeys.Wallet(body.Append(nil)[:20])], s.body) // the user comes first in each
	} else {
		s.wire = kit.SignProcess(s.body)
	}
	r.order++
	s.order = r.order
	return s
}

func signatureSize(k statement.Kind) int {
	switch {
	case k.ByUser():
		return 65
	case k.HasReceipt():
		return 192
	}
	return 96
}

func (r *run) speak() {
	for range 3 {
		r.one()
	}
}

func (r *run) one() {
	kind := pick(r.world, slices.Sorted(maps.Keys(bodies)), "kind")
	s := r.sign(bodies[kind](r.world), r.number(0, 9, "spoil"))
	if r.number(0, 4, "held") == 0 {
		r.held = append(r.held, s)
		return
	}
	r.submit(s)
}

// cycle turns the epoch of a user over by what an honest rotation signs, so that
// histories get further than one epoch.
func (r *run) cycle() {
	u := r.wallet("user")
	for range 6 {
		row := r.User(u)
		if row.Draining.Epoch == 0 {
			r.submit(r.sign(r.openEpoch(u), 9))
			return
		}
		if row.Draining.LiveCount > 0 {
			r.submit(r.sign(r.rotateUser(u, 99), 9))
		}
		for _, id := range r.anchors {
			a := r.Anchor(id)
			r.submit(r.sign(statement.TakeKeeper{Anchor: id, Term: a.Term, LeaseUntil: r.Block.Time + 60, ValidUntil: r.Block.Time + 9}, 9))
			r.submit(r.sign(statement.DestroyEpoch{Anchor: id, Term: a.Term, Generation: a.Generation, User: u, Epoch: row.Draining.Epoch, ValidUntil: r.Block.Time + 9}, 9))
		}
	}
}

func (r *run) deliver() {
	if len(r.held) == 0 {
		return
	}
	i := int(r.number(0, uint64(len(r.held)-1), "which"))
	s := r.held[i]
	r.held = slices.Delete(r.held, i, i+1)
	r.submit(s)
}

func (r *run) repeat() {
	if len(r.accepted) > 0 {
		r.refused(pick(r.world, r.accepted, "which"))
	}
}

// refused submits something that was accepted before: it must change nothing. Only
// a keeper's word about a share may count again, once an anchor it waited for has
// ended: it is still true then.
func (r *run) refused(s signed) {
	if _, destroy := s.body.(statement.DestroyEpoch); destroy && r.ended {
		return
	}
	res, err := r.Apply(s.wire)
	if err != nil || res.Code == rules.OK {
		r.t.Fatalf("%T %+v was accepted a second time: %v", s.body, s.body, err)
	}
}

func (r *run) act() {
	if r.number(0, 2, "rare") != 0 {
		return
	}
	act := pick(r.world, acts, "act")(r.world)
	res, err := r.Act(act)
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	r.codes[res.Code]++
	if k := act.Kind(); res.Code == rules.OK && (k == statement.KindRetireAnchor || k == statement.KindEvictAnchor) {
		r.ended = true
	}
}

func (r *run) block() {
	if err := r.NextBlock(pick(r.world, []uint64{0, 1, 1, 5, 60, 700, 80000, 300000}, "seconds")); err != nil {
		r.t.Fatalf("%v", err)
	}
}

func (r *run) submit(s signed) {
	res, err := r.Apply(s.wire)
	if err != nil {
		r.t.Fatalf("%T: %v", s.body, err)
	}
	r.codes[res.Code]++
	if res.Code != rules.OK {
		return
	}
	r.accepted = append(r.accepted, s)
	r.order++
	switch b := s.body.(type) {
	case statement.RevokeAgent:
		r.revoked[pair{b.User, b.Agent}] = r.order
		if a := r.Agent(b.User, b.Agent); b.User != b.Agent && a.Expires != 0 || a.Counter <= b.Counter {
			r.t.Fatalf("revoked, but %+v", a)
		}
	case statement.AdmitAgent:
		r.afterRemoval(s, r.revoked[pair{b.User, b.Agent}], "revocation")
	case statement.Grant:
		if b.Mode != statement.ModeNone {
			r.afterRemoval(s, r.revoked[pair{b.User, b.Agent}], "revocation")
		}
	case statement.Delete:
		r.removed[agentkeys.Slot{User: b.User, Agent: b.Agent, Service: b.Service}] = r.order
	case statement.Drop:
		r.removed[agentkeys.Slot{User: b.User, Agent: b.Agent, Service: b.Service}] = r.order
	case statement.RegisterBlob:
		slot := agentkeys.Slot{User: b.User, Agent: b.Agent, Service: b.Service}
		r.afterRemoval(s, r.removed[slot], "deletion")
		if v := r.Pointer(slot).Version; v <= r.versions[slot] {
			r.t.Fatalf("version %d after %d", v, r.versions[slot])
		}
		r.versions[slot] = r.Pointer(slot).Version
	}
}

func (r *run) afterRemoval(s signed, at int, what string) {
	if s.honest && s.order < at {
		r.t.Fatalf("%T signed before a %s applied after it: %+v", s.body, what, s.body)
	}
}

// check holds the rows against the counts and the numbers against their past.
func (r *run) check() {
	if err := rules.CheckRows(r.KV.Rows()); err != nil {
		r.t.Fatalf("%v", err)
	}
	for _, w := range r.wallets {
		u := r.User(w)
		name := w.String()
		r.up("rev "+name, u.Rev)
		r.up("floor "+name, u.Floor)
		r.up("active "+name, uint64(u.Active.Epoch))
		first := u.Active.Epoch // the oldest live epoch never goes back: the destroyed stay destroyed
		if u.Draining.Epoch != 0 {
			first = u.Draining.Epoch
		}
		r.up("first "+name, uint64(first))
		for _, a := range r.wallets {
			r.up("counter "+name+a.String(), r.Agent(w, a).Counter)
			for _, svc := range r.services {
				r.up("grant "+name+a.String()+svc.String(), r.Grant(agentkeys.Slot{User: w, Agent: a, Service: svc}).Version)
			}
		}
	}
	for _, id := range r.anchors {
		a := r.Anchor(id)
		r.up("term "+string(id[:]), a.Term)
		r.up("generation "+string(id[:]), a.Generation)
		r.up("state "+string(id[:]), uint64(a.State))
	}
	for _, c := range r.custodians {
		reads := r.Reads(rulestest.PublicKey(c))
		r.up("reads "+string(c), reads.Next)
		r.up("beat "+string(c), reads.Beat)
		r.up("seen "+string(c), reads.SeenHeight)
	}
	r.up("system", r.System().Rev)
}

func (r *run) up(name string, n uint64) {
	if n < r.marks[name] {
		r.t.Fatalf("%s went from %d back to %d", name, r.marks[name], n)
	}
	r.marks[name] = n
}

// replayAll submits everything ever accepted again, shuffled, first while it is
// valid and then when it is not: no row changes.
func (r *run) replayAll() {
	seed := r.number(0, 1<<32, "shuffle")
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, later := range []uint64{1, 2 * 86400} {
		if err := r.NextBlock(later); err != nil {
			r.t.Fatalf("%v", err)
		}
		before := r.KV.Rows()
		for _, i := range rng.Perm(len(r.accepted)) {
			r.refused(r.accepted[i])
		}
		if !sameRows(before, r.KV.Rows()) {
			r.t.Fatalf("a replay changed rows")
		}
	}
}

// audit replays the history into an empty vault, as an auditor does, and holds
// each user's statements against the log.
func (r *run) audit() {
	again, err := rulestest.NewVault(vaultID, statement.DefaultParams())
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	logs := map[agentkeys.Wallet]agentkeys.Hash{}
	for _, e := range r.History {
		res, err := e.Run(again.KV)
		if err != nil || res.Code != rules.OK {
			r.t.Fatalf("replay: %v %v", res, err)
		}
		for _, u := range res.Users {
			logs[u] = rules.NextLog(logs[u], e.Block, statement.Hash(e.Wire))
		}
	}
	for _, u := range r.wallets {
		if got := r.User(u).Log; got != logs[u] {
			r.t.Fatalf("log %s, rehashed %s", got, logs[u])
		}
	}
	for key := range r.KV {
		if key[0] != 't' && key[0] != 'T' && string(r.KV[key]) != string(again.KV[key]) {
			r.t.Fatalf("row %x differs after a replay", key)
		}
	}
}
