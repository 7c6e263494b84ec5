package custodian

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/record"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

func TestWriteReadOverwriteDelete(t *testing.T) {
	w := newWorld(t)
	if out := w.mustPut("github", "one", 0); out.Version != 1 || out.Epoch != 1 || out.BlobID == nil {
		t.Fatalf("first write: %+v", out)
	}
	w.grant("github", statement.ModeReveal, w.in(600))
	if v, err := w.get("github"); err != nil || v != "one" {
		t.Fatalf("read %q, %v", v, err)
	}
	if out := w.mustPut("github", "two", 1); out.Version != 2 {
		t.Fatalf("overwrite: %+v", out)
	}
	if v, _ := w.get("github"); v != "two" {
		t.Fatalf("read after overwrite: %q", v)
	}
	out, err := w.s.read(t.Context(), w.session(w.owner), api.Read{Service: "github", Presence: w.presence("reveal", "github", 2)})
	check(t, err)
	r, err := record.ParseReceipt(out.Receipt)
	check(t, err)
	if !r.Verify(w.vault) || r.Custodian != w.s.Key() || r.Record.Version != 2 || r.Record.Agent != w.owner.Wallet() || r.Record.Sequence != 4 {
		t.Fatalf("receipt: %+v", r)
	}
	w.must(w.owner, statement.Delete{User: w.owner.Wallet(), Agent: w.owner.Wallet(), Service: w.serviceID("github"), Version: 2})
	_, err = w.get("github")
	wantCode(t, err, notFound)
	// A slot that was emptied goes on above the floor.
	if out := w.mustPut("github", "three", 0); out.Version != 3 {
		t.Fatalf("write after delete: %+v", out)
	}
}

// Each denial, made true one at a time on a grant that works.
func TestDenials(t *testing.T) {
	owner, scribe := rulestest.Wallet("owner").Wallet(), rulestest.Wallet("scribe").Wallet()
	revealAs := func(change func(*world) *api.Presence) func(*world, token.Claims) error {
		return func(w *world, _ token.Claims) error {
			_, err := w.s.read(w.t.Context(), w.session(w.owner), api.Read{Service: "github", Presence: change(w)})
			return err
		}
	}
	read := func(w *world, c token.Claims) error { _, err := w.getAs(c, "github"); return err }
	after := func(change func(*world)) func(*world, token.Claims) error {
		return func(w *world, c token.Claims) error { change(w); return read(w, c) }
	}
	tests := []struct {
		name string
		want code
		act  func(*world, token.Claims) error
	}{
		{"session over", sessionExpired, after(func(w *world) { w.chain.later(3601) })},
		{"session issued long ago", sessionExpired, func(w *world, c token.Claims) error {
			c.Expires = uint64(time.Now().Unix())
			return read(w, c)
		}},
		{"revoked", agentRevoked, after(func(w *world) { w.must(w.owner, statement.RevokeAgent{User: owner, Agent: scribe, Counter: 1}) })},
		{"revoked, then admitted again", agentRevoked, after(func(w *world) {
			w.must(w.owner, statement.RevokeAgent{User: owner, Agent: scribe, Counter: 1})
			w.must(w.owner, statement.AdmitAgent{User: owner, Agent: scribe, Role: statement.RoleAgent, Counter: 2, Expires: w.in(900)})
		})},
		{"owner ended its own sessions", agentRevoked, func(w *world, _ token.Claims) error {
			c := w.session(w.owner)
			w.must(w.owner, statement.RevokeAgent{User: owner, Agent: owner, Counter: 1})
			_, err := w.s.whoami(w.t.Context(), c, struct{}{})
			return err
		}},
		{"proxy session of one who is no proxy", sessionInvalid, func(w *world, c token.Claims) error {
			c.Role = token.RoleProxy
			return read(w, c)
		}},
		{"no grant", grantMissing, func(w *world, c token.Claims) error { _, err := w.getAs(c, "openai"); return err }},
		{"grant over", grantExpired, after(func(w *world) { w.chain.later(601) })},
		{"grant withdrawn", grantRevoked, after(func(w *world) { w.grant("github", statement.ModeNone, w.in(600)) })},
		{"grant of an older admission", grantRevoked, func(w *world, _ token.Claims) error {
			w.must(w.owner, statement.RevokeAgent{User: owner, Agent: scribe, Counter: 1})
			w.must(w.owner, statement.AdmitAgent{User: owner, Agent: scribe, Role: statement.RoleAgent, Counter: 2, Expires: w.in(900)})
			_, err := w.get("github")
			return err
		}},
		{"use only", useOnly, after(func(w *world) { w.grant("github", statement.ModeUse, w.in(600)) })},
		{"own slot is empty", notFound, after(func(w *world) {
			slot := agentkeys.Slot{User: owner, Agent: scribe, Service: w.serviceID("github")}
			w.must(w.owner, statement.Grant{User: owner, Agent: scribe, Service: slot.Service, Previous: 1, Counter: 1,
				Mode: statement.ModeReveal, Slot: statement.SlotOwn, Expires: w.in(600), SealedName: w.sealName("github")})
		})},
		{"agent writes", ownerOnly, func(w *world, c token.Claims) error {
			_, err := w.s.write(w.t.Context(), c, api.Write{Service: "github", Credential: secretBytes(w.t, "x"), Idle: 1})
			return err
		}},
		{"agent asks for the tag key", ownerOnly, func(w *world, c token.Claims) error {
			_, err := w.s.viewingKey(w.t.Context(), c, struct{}{})
			return err
		}},
		{"agent asks for the audit trail", ownerOnly, func(w *world, c token.Claims) error {
			_, err := w.s.reads(w.t.Context(), c, api.ReadsRequest{})
			return err
		}},
		{"owner away", presenceRequired, revealAs(func(*world) *api.Presence { return nil })},
		{"presence for another version", presenceInvalid, revealAs(func(w *world) *api.Presence { return w.presence("reveal", "github", 2) })},
		{"presence for another action", presenceInvalid, revealAs(func(w *world) *api.Presence { return w.presence("overwrite", "github", 1) })},
		{"presence for another service", presenceInvalid, revealAs(func(w *world) *api.Presence { return w.presence("reveal", "openai", 1) })},
		{"presence by another wallet", presenceInvalid, revealAs(func(w *world) *api.Presence {
			p := w.presence("reveal", "github", 1)
			sig := w.scribe.Sign([32]byte{1})
			p.Signature = sig[:]
			return p
		})},
		{"presence twice", presenceInvalid, revealAs(func(w *world) *api.Presence {
			p := w.presence("reveal", "github", 1)
			_, err := w.s.read(w.t.Context(), w.session(w.owner), api.Read{Service: "github", Presence: p})
			check(w.t, err)
			return p
		})},
		{"presence of a malformed shape", presenceInvalid, revealAs(func(w *world) *api.Presence {
			p := w.presence("reveal", "github", 1)
			p.Signature = p.Signature[:64]
			return p
		})},
		{"overwrite without presence", presenceRequired, func(w *world, _ token.Claims) error {
			_, err := w.s.write(w.t.Context(), w.session(w.owner), api.Write{Service: "github", Credential: secretBytes(w.t, "x"), Idle: 1, Previous: 1})
			return err
		}},
		{"store over what is there", conflict, func(w *world, _ token.Claims) error { _, err := w.put("github", "x", 0); return err }},
		{"replace another version", conflict, func(w *world, _ token.Claims) error { _, err := w.put("github", "x", 7); return err }},
		{"replace what is not there", conflict, func(w *world, _ token.Claims) error { _, err := w.put("openai", "x", 1); return err }},
		{"bad service name", badRequest, func(w *world, c token.Claims) error { _, err := w.getAs(c, "Git Hub"); return err }},
		{"bad credential", badRequest, func(w *world, _ token.Claims) error {
			_, err := w.s.write(w.t.Context(), w.session(w.owner), api.Write{Service: "github", Credential: []byte("x"), Idle: 1})
			return err
		}},
		{"bad idle rule", badRequest, func(w *world, _ token.Claims) error {
			_, err := w.s.write(w.t.Context(), w.session(w.owner), api.Write{Service: "github", Credential: secretBytes(w.t, "x"), Idle: 3})
			return err
		}},
		{"credential too large", tooLarge, func(w *world, _ token.Claims) error {
			_, err := w.s.write(w.t.Context(), w.session(w.owner), api.Write{Service: "github", Credential: make([]byte, 1<<17), Idle: 1})
			return err
		}},
		{"no share", shareUnavailable, after(func(w *world) { delete(w.shares, 1) })},
		{"another share", shareUnavailable, after(func(w *world) { w.shares[1] = bytes.Repeat([]byte{9}, 32) })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.mustPut("github", "one", 0)
			w.grant("github", statement.ModeReveal, w.in(600))
			c := w.session(w.scribe)
			check(t, read(w, c))
			before := w.s.counts.reads.Load()
			e := wantCode(t, tt.act(w, c), tt.want)
			if strings.Contains(e.Error(), canary) {
				t.Fatal("the denial carries the secret")
			}
			if tt.name != "presence twice" && w.s.counts.reads.Load() != before {
				t.Fatal("a denied read was counted")
			}
		})
	}
}

func TestLoginDenials(t *testing.T) {
	w := newWorld(t)
	if _, _, _, err := w.login(rulestest.Wallet("stranger")); err == nil {
		t.Fatal("a stranger got in")
	} else {
		wantCode(t, err, agentNotAdmitted)
	}
	w.must(w.owner, statement.RevokeAgent{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Counter: 1})
	_, _, _, err := w.login(w.scribe)
	wantCode(t, err, agentNotAdmitted)
	// Another user, who is not enrolled.
	c, err := w.s.challenge(t.Context(), struct{}{})
	check(t, err)
	stranger := rulestest.Wallet("stranger").Wallet().String()
	in := api.Login{User: stranger, Agent: stranger, Nonce: c.Nonce, IssuedAt: uint64(time.Now().Unix()),
		SessionKey: make([]byte, 32), SealKey: bytes.Repeat([]byte{9}, 32), Signature: make([]byte, 65)}
	_, err = w.s.login(t.Context(), in)
	wantCode(t, err, signatureInvalid)
	in.IssuedAt -= 3600
	_, err = w.s.login(t.Context(), in)
	wantCode(t, err, signatureInvalid)
	in.TTL = 31 * 86400
	_, err = w.s.login(t.Context(), in)
	wantCode(t, err, badRequest)
	in.SealKey = nil
	_, err = w.s.login(t.Context(), in)
	wantCode(t, err, badRequest)
}

func TestSessionEndsWithAdmission(t *testing.T) {
	w := newWorld(t)
	k := rulestest.Wallet("short")
	w.must(w.owner, statement.AdmitAgent{User: w.owner.Wallet(), Agent: k.Wallet(), Role: statement.RoleProxy, Expires: w.in(60)})
	c := w.session(k)
	if c.Role != token.RoleProxy || c.Expires > w.in(60) {
		t.Fatalf("claims: %+v", c)
	}
}

func TestStore(t *testing.T) {
	tests := []struct {
		name string
		want code
		harm func(*world)
	}{
		{"tampered blob", tampered, func(w *world) { w.store.objects[w.objectKey("github")][60] ^= 1 }},
		{"short blob", tampered, func(w *world) {
			k := w.objectKey("github")
			w.store.objects[k] = w.store.objects[k][:40]
		}},
		{"two slots' blobs swapped", tampered, func(w *world) {
			a, b := w.objectKey("github"), w.objectKey("openai")
			w.store.objects[a], w.store.objects[b] = w.store.objects[b], w.store.objects[a]
		}},
		{"older version put back", tampered, func(w *world) {
			old := w.store.objects[w.objectKey("github")]
			w.mustPut("github", "two", 1)
			w.store.objects[w.objectKey("github")] = old
		}},
		{"missing object", objectMissing, func(w *world) { delete(w.store.objects, w.objectKey("github")) }},
		{"store away", storeUnavailable, func(w *world) { w.store.away = true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.mustPut("github", "one", 0)
			w.mustPut("openai", "other", 0)
			w.grant("github", statement.ModeReveal, w.in(600))
			tt.harm(w)
			w.forget()
			_, err := w.get("github")
			wantCode(t, err, tt.want)
		})
	}
}

// The object moves to the next epoch between authorise and GET: the pointer is read
// once more.
func TestReadFollowsRotation(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	w.openEpoch(2)
	w.forget()
	c := w.session(w.scribe)
	w.step = func(name string) {
		if name == "read.fetch" {
			w.step = nil
			w.reseal("github")
		}
	}
	if v, err := w.getAs(c, "github"); err != nil || v != "one" {
		t.Fatalf("read %q, %v", v, err)
	}
}

// Wrong bytes are not remembered: once the store is right again, so is the read.
func TestTamperedBlobIsNotCached(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	object := w.store.objects[w.objectKey("github")]
	w.forget()
	object[60] ^= 1
	_, err := w.get("github")
	wantCode(t, err, tampered)
	object[60] ^= 1
	if v, err := w.get("github"); err != nil || v != "one" {
		t.Fatalf("read %q, %v", v, err)
	}
}

// The hash alone does not say whose envelope it is: a pointer that a broken chain
// let name another slot's envelope must not open it.
func TestEnvelopeOfAnotherPlaceDoesNotOpen(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.mustPut("openai", "other", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	p, q := w.pointer("github"), w.pointer("openai")
	w.store.objects[w.objectKey("github")] = w.store.objects[w.objectKey("openai")]
	p.Hash = q.Hash
	check(t, w.chain.vault.KV.Set(rules.PointerKey(w.slot("github")), p.Append(nil)))
	_, err := w.get("github")
	wantCode(t, err, tampered)
}

func TestStaleHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mustPut("github", "one", 0)
		w.grant("github", statement.ModeReveal, w.in(600))
		c := w.session(w.scribe)
		time.Sleep(7 * time.Second)
		w.chain.set(func(f *fakeChain) { f.down = true })
		_, err := w.getAs(c, "github")
		wantCode(t, err, staleHead)
		// A relay that says done without a block does not make the head fresh.
		lost := func(k statement.Kind) bool { return k == statement.KindHeartbeat }
		w.chain.set(func(f *fakeChain) { f.down, f.drop = false, lost })
		_, err = w.getAs(c, "github")
		wantCode(t, err, staleHead)
		// One lost beat is sent again.
		once := true
		w.chain.set(func(f *fakeChain) {
			f.drop = func(k statement.Kind) bool {
				drop := once && lost(k)
				once = once && !drop
				return drop
			}
		})
		if v, err := w.getAs(c, "github"); err != nil || v != "one" {
			t.Fatalf("read %q, %v", v, err)
		}
	})
}

// The head ages while the store takes its time: what it shows at the answer is not
// older than at the decision.
func TestSlowStoreDoesNotStretchFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mustPut("github", "one", 0)
		w.grant("github", statement.ModeReveal, w.in(600))
		c := w.session(w.scribe)
		w.step = func(name string) {
			if name == "read.open" {
				time.Sleep(7 * time.Second)
				w.chain.set(func(f *fakeChain) { f.down = true })
			}
		}
		_, err := w.getAs(c, "github")
		wantCode(t, err, staleHead)
	})
}

// Readers of a missing object make one block, not one each.
func TestMissingObjectTakesOneHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mustPut("github", "one", 0)
		w.grant("github", statement.ModeReveal, w.in(600))
		delete(w.store.objects, w.objectKey("github"))
		w.forget()
		c := w.claims(w.scribe)
		w.chain.set(func(f *fakeChain) { f.before = func(statement.Kind) { time.Sleep(time.Second) } })
		before, done := w.chain.beats, make(chan error, 16)
		for range 16 {
			go func() { _, err := w.getAs(c, "github"); done <- err }()
		}
		for range 16 {
			wantCode(t, <-done, objectMissing)
		}
		if n := w.chain.beats - before; n != 1 {
			t.Fatalf("%d heartbeats for 16 readers", n)
		}
	})
}

func TestHeartbeatsAreShared(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.s.fresh.at = time.Time{}
	before, done := w.chain.beats, make(chan error, 64)
	for range 64 {
		go func() { done <- w.s.freshHead(t.Context()) }()
	}
	for range 64 {
		check(t, <-done)
	}
	if n := w.chain.beats - before; n > 4 {
		t.Fatalf("%d heartbeats for 64 readers", n)
	}
}

// A revocation that is signed between authorise and answer stops the answer, even
// when the relay holds it back.
func TestRevocationBetweenAuthoriseAndAnswer(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held %v", held), func(t *testing.T) {
			w := newWorld(t)
			w.mustPut("github", "one", 0)
			w.grant("github", statement.ModeReveal, w.in(600))
			c := w.session(w.scribe)
			w.chain.down = held
			w.step = func(name string) {
				if name == "read.again" {
					w.step = nil
					_, err := w.s.statement(t.Context(), api.Statement{Wire: w.kit.SignUser(w.owner,
						statement.RevokeAgent{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Counter: 1})})
					if held {
						wantCode(t, err, unknownOutcome)
					} else {
						check(t, err)
					}
				}
			}
			_, err := w.getAs(c, "github")
			wantCode(t, err, agentRevoked)
		})
	}
}

// A relay that speaks against a revocation cannot undo that it is obeyed.
func TestRelayCannotUndoRevocation(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	c := w.session(w.scribe)
	w.chain.drop = func(k statement.Kind) bool { return k == statement.KindRevokeAgent }
	w.chain.answer = func(r api.Relayed) api.Relayed {
		r.Results[0].Code = uint32(rules.Refused)
		return r
	}
	out, err := w.s.statement(t.Context(), api.Statement{Wire: w.kit.SignUser(w.owner,
		statement.RevokeAgent{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Counter: 1})})
	check(t, err)
	if out.Code != uint32(rules.Refused) {
		t.Fatalf("answer: %+v", out)
	}
	w.chain.answer = nil
	_, err = w.getAs(c, "github")
	wantCode(t, err, agentRevoked)
}

// Whoever is no user of the vault leaves nothing behind, however much is signed; what
// cannot be proven yet stays obeyed.
func TestRevocationsOfStrangersAreForgotten(t *testing.T) {
	w := newWorld(t)
	stranger := rulestest.Wallet("stranger")
	send := func(k eip712.Key) {
		_, _ = w.s.statement(t.Context(), api.Statement{Wire: w.kit.SignUser(k,
			statement.RevokeAgent{User: k.Wallet(), Agent: w.scribe.Wallet(), Counter: 1})})
	}
	for _, down := range []bool{false, true} {
		w.chain.set(func(f *fakeChain) { f.down = down })
		if send(stranger); len(w.s.revoked.below) != 0 {
			t.Fatalf("relay down %v: a stranger's revocation is kept", down)
		}
	}
	if send(w.owner); !w.s.revoked.covers(w.owner.Wallet(), w.scribe.Wallet(), 1) {
		t.Fatal("the owner's revocation is not obeyed")
	}
	w.chain.set(func(f *fakeChain) { f.down = false })
	if send(w.owner); w.s.revoked.of(w.owner.Wallet()) {
		t.Fatal("a proven revocation is kept")
	}
}

func TestReplacedBetweenOpenAndAnswer(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	c := w.session(w.scribe)
	w.step = func(name string) {
		if name == "read.record" {
			w.step = nil
			w.mustPut("github", "two", 1)
		}
	}
	_, err := w.getAs(c, "github")
	wantCode(t, err, changed)
}

func TestEpochOpening(t *testing.T) {
	w := newWorld(t)
	other := rulestest.Wallet("other")
	w.must(other, statement.Enrol{User: other.Wallet()})
	w.owner = other
	_, err := w.put("github", "one", 0)
	wantCode(t, err, epochOpening)
	if u := w.s.hints.users(); len(u) != 1 || u[0] != other.Wallet() {
		t.Fatalf("hints: %v", u)
	}
	if u := w.s.hints.users(); len(u) != 0 {
		t.Fatalf("hints stay: %v", u)
	}
}

// The epoch switches between seal and block: sealed again under the new one.
func TestEpochSwitchUnderWrite(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	var dropped []string
	w.s.discard = func(_ agentkeys.Wallet, key string) { dropped = append(dropped, key) }
	w.step = func(name string) {
		if name == "write.register" {
			w.step = nil
			w.openEpoch(2)
		}
	}
	out := w.mustPut("github", "two", 1)
	if out.Epoch != 2 || out.Version != 2 {
		t.Fatalf("written: %+v", out)
	}
	if len(dropped) != 2 || !strings.Contains(dropped[0], "/0000000001/") || w.store.objects[dropped[0]] == nil {
		t.Fatalf("the orphan of epoch 1 is not given up: %v", dropped)
	}
	if v, err := w.get("github"); err != nil || v != "two" {
		t.Fatalf("read %q, %v", v, err)
	}
}

func TestReadInDrainingEpochLeavesHint(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	w.openEpoch(2)
	if v, err := w.get("github"); err != nil || v != "one" {
		t.Fatalf("read %q, %v", v, err)
	}
	if !w.s.hints.slots(w.owner.Wallet())[w.slot("github")] {
		t.Fatal("no hint")
	}
}

func TestWriteRepeat(t *testing.T) {
	type try struct {
		value string
		blob  []byte
	}
	write := func(w *world, x try) (api.Written, error) {
		return w.s.write(w.t.Context(), w.session(w.owner), api.Write{Service: "github", Credential: secretBytes(w.t, x.value), Idle: 1, BlobID: x.blob})
	}
	t.Run("the relay was down", func(t *testing.T) {
		w := newWorld(t)
		w.chain.before = func(k statement.Kind) { w.chain.down = k == statement.KindRegisterBlob }
		_, err := write(w, try{value: "one"})
		e := wantCode(t, err, unknownOutcome)
		if len(e.BlobID) != 16 {
			t.Fatalf("no blob id: %+v", e)
		}
		w.chain.before, w.chain.down = nil, false
		// The object is there: the same credential is registered, another is not.
		_, err = write(w, try{"two", e.BlobID})
		wantCode(t, err, conflict)
		objects := len(w.store.objects)
		out, err := write(w, try{"one", e.BlobID})
		check(t, err)
		if !bytes.Equal(out.BlobID, e.BlobID) || out.Version != 1 || len(w.store.objects) != objects {
			t.Fatalf("written: %+v", out)
		}
	})
	t.Run("the block came, the answer did not", func(t *testing.T) {
		w := newWorld(t)
		w.mustPut("github", "zero", 0)
		w.must(w.owner, statement.Delete{User: w.owner.Wallet(), Agent: w.owner.Wallet(), Service: w.serviceID("github"), Version: 1})
		first, err := write(w, try{value: "one"}) // version 2, above the floor
		check(t, err)
		out, err := write(w, try{"one", first.BlobID})
		check(t, err)
		if out.Version != 2 || !bytes.Equal(out.BlobID, first.BlobID) {
			t.Fatalf("written: %+v", out)
		}
		_, err = write(w, try{"two", first.BlobID})
		wantCode(t, err, conflict)
	})
	t.Run("blob id of another shape", func(t *testing.T) {
		w := newWorld(t)
		_, err := write(w, try{"one", []byte{1}})
		wantCode(t, err, badRequest)
	})
}

// What the relay says decides nothing: neither success, nor what may be deleted.
func TestRelayLiesAboutWrite(t *testing.T) {
	for _, lie := range []rules.Code{rules.Stale, rules.WrongEpoch, rules.Refused} {
		t.Run("applied, said "+lie.String(), func(t *testing.T) {
			w := newWorld(t)
			var dropped []string
			w.s.discard = func(_ agentkeys.Wallet, key string) { dropped = append(dropped, key) }
			w.chain.answer = func(r api.Relayed) api.Relayed {
				r.Results[0].Code = uint32(lie)
				return r
			}
			out, err := w.s.write(t.Context(), w.claims(w.owner), api.Write{Service: "github", Credential: secretBytes(t, "one"), Idle: 1})
			check(t, err)
			if out.Version != 1 || len(dropped) != 0 {
				t.Fatalf("written %+v, given up %v", out, dropped)
			}
		})
	}
	t.Run("not applied, said ok", func(t *testing.T) {
		w := newWorld(t)
		w.chain.drop = func(k statement.Kind) bool { return k == statement.KindRegisterBlob }
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := w.s.write(ctx, w.session(w.owner), api.Write{Service: "github", Credential: secretBytes(t, "one"), Idle: 1})
		wantCode(t, err, unknownOutcome)
	})
	t.Run("another's write won, said ok", func(t *testing.T) {
		w := newWorld(t)
		w.step = func(name string) {
			if name == "write.register" {
				w.step = nil
				w.mustPut("github", "theirs", 0)
				w.chain.drop = func(k statement.Kind) bool { return k == statement.KindRegisterBlob }
			}
		}
		_, err := w.put("github", "mine", 0)
		wantCode(t, err, conflict)
	})
	t.Run("delete dropped, said ok", func(t *testing.T) {
		w := newWorld(t)
		w.mustPut("github", "one", 0)
		w.s.discard = func(_ agentkeys.Wallet, key string) { t.Errorf("given up: %s", key) }
		w.chain.drop = func(k statement.Kind) bool { return k == statement.KindDelete }
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		go w.must(w.owner, statement.AskRotation{User: w.owner.Wallet(), Due: 2}) // the user's revision rises
		_, err := w.s.statement(ctx, api.Statement{Wire: w.kit.SignUser(w.owner, statement.Delete{User: w.owner.Wallet(),
			Agent: w.owner.Wallet(), Service: w.serviceID("github"), Version: 1})})
		wantCode(t, err, unknownOutcome)
	})
}

// claims is a session without a login, for a relay that lies from the start.
func (w *world) claims(k interface{ Wallet() agentkeys.Wallet }) token.Claims {
	role := token.RoleAgent
	if k.Wallet() == w.owner.Wallet() {
		role = token.RoleOwner
	}
	w.s.fresh.proven(time.Now())
	return token.Claims{User: w.owner.Wallet(), Agent: k.Wallet(), Counter: 1, Role: role, Key: make([]byte, 32),
		Issued: uint64(time.Now().Unix()), Expires: uint64(time.Now().Unix()) + 600}
}

func TestStatementsOfStrangers(t *testing.T) {
	w := newWorld(t)
	good := w.kit.SignUser(w.owner, statement.AskRotation{User: w.owner.Wallet(), Due: 2})
	for name, wire := range map[string][]byte{
		"empty": nil, "trailing": append(bytes.Clone(good), 0), "a process's": w.kit.SignProcess(statement.Heartbeat{}),
	} {
		_, err := w.s.statement(t.Context(), api.Statement{Wire: wire})
		if e := wantCode(t, err, badRequest); e == nil {
			t.Fatal(name)
		}
	}
	bad := w.kit.SignUser(w.scribe, statement.RevokeAgent{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Counter: 5})
	_, err := w.s.statement(t.Context(), api.Statement{Wire: bad})
	wantCode(t, err, signatureInvalid)
	if w.s.revoked.covers(w.owner.Wallet(), w.scribe.Wallet(), 1) {
		t.Fatal("a stranger's revocation is obeyed")
	}
}

func TestList(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.mustPut("openai", "two", 0)
	w.grant("github", statement.ModeUse, w.in(600))
	l, err := w.s.list(t.Context(), w.session(w.owner), struct{}{})
	check(t, err)
	if !l.Complete || len(l.Credentials) != 2 || len(l.Grants) != 1 || len(l.Agents) != 2 || len(l.Epochs) != 1 {
		t.Fatalf("owner's list: %+v", l)
	}
	if g := l.Grants[0]; g.Service != "github" || g.Mode != "use" || g.Slot != "shared" || !g.Live {
		t.Fatalf("grant: %+v", g)
	}
	l, err = w.s.list(t.Context(), w.session(w.scribe), struct{}{})
	check(t, err)
	if len(l.Credentials) != 0 || len(l.Grants) != 1 || len(l.Agents) != 1 || l.Grants[0].Service != "github" {
		t.Fatalf("agent's list: %+v", l)
	}
	// A node that leaves one out, even naming another twice, cannot hide it.
	w.chain.named = func(keys [][]byte) [][]byte {
		if len(keys) > 1 && keys[0][0] == rules.PointerKey(w.slot("github"))[0] {
			return [][]byte{keys[0], keys[0]}
		}
		return keys
	}
	l, err = w.s.list(t.Context(), w.session(w.owner), struct{}{})
	check(t, err)
	if l.Complete {
		t.Fatalf("a list with a gap is called complete: %+v", l.Credentials)
	}
}

func TestAuditTrail(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	for range 3 {
		_, err := w.get("github")
		check(t, err)
		check(t, w.s.flush(t.Context()))
	}
	_, err := w.get("github") // not committed yet
	check(t, err)
	w.restart()
	var got []uint64
	for next := uint64(0); ; {
		r, err := w.s.reads(t.Context(), w.session(w.owner), api.ReadsRequest{From: next, Limit: 2})
		check(t, err)
		for _, b := range r.Records {
			rec, err := record.Parse(b)
			check(t, err)
			if rec.User != w.owner.Wallet() || rec.Service != w.serviceID("github") {
				t.Fatalf("record: %+v", rec)
			}
			got = append(got, rec.Sequence)
		}
		if next = r.Next; next == 0 {
			break
		}
	}
	if fmt.Sprint(got) != "[2 3 4 5]" {
		t.Fatalf("records %v", got)
	}
	l, err := w.s.list(t.Context(), w.session(w.owner), struct{}{})
	check(t, err)
	if l.Credentials[0].LastRead == 0 {
		t.Fatal("last read is not shown")
	}
}

func TestReadsOfOthersStayHidden(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	_, err := w.get("github")
	check(t, err)
	check(t, w.s.flush(t.Context()))
	other := rulestest.Wallet("other")
	w.must(other, statement.Enrol{User: other.Wallet()})
	w.owner = other
	r, err := w.s.reads(t.Context(), w.session(other), api.ReadsRequest{})
	check(t, err)
	if len(r.Records) != 0 {
		t.Fatal("another user's reads are shown")
	}
}

func TestRecordThatCannotBeWrittenStopsRead(t *testing.T) {
	w := newWorld(t)
	w.mustPut("github", "one", 0)
	w.grant("github", statement.ModeReveal, w.in(600))
	c := w.session(w.scribe)
	check(t, w.s.outbox.close())
	_, err := w.getAs(c, "github")
	wantCode(t, err, auditUnavailable)
	w.s.Close()
}

// A session without the owner's presence knows every blob id, for the chain shows
// them: repeating writes must not tell it which value is stored.
func TestRepeatedWritesDoNotTellTheValue(t *testing.T) {
	w := newWorld(t)
	out := w.mustPut("github", "one", 0)
	guess := func(value string) error {
		_, err := w.s.write(t.Context(), w.session(w.owner), api.Write{Service: "github", Credential: secretBytes(t, value), Idle: 1, BlobID: out.BlobID})
		return err
	}
	for i := range maxMisses {
		wantCode(t, guess(fmt.Sprint("guess ", i)), conflict)
	}
	wantCode(t, guess("one"), conflict) // right, and not told
}

// A first write that was refused, and whose registration the relay keeps until the
// slot is deleted: the object it then names is still there.
func TestRefusedFirstWriteKeepsWhatMayStillApply(t *testing.T) {
	for name, tt := range map[string]struct {
		floor uint64 // deleted in another slot beforehand
		given int    // objects given up
	}{"above the floor": {0, 1}, "below the floor": {3, 0}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.mustPut("github", "theirs", 0)
			for v := range tt.floor {
				w.mustPut("openai", fmt.Sprint(v), v)
			}
			if tt.floor > 0 {
				w.must(w.owner, statement.Delete{User: w.owner.Wallet(), Agent: w.owner.Wallet(), Service: w.serviceID("openai"), Version: tt.floor})
			}
			var dropped []string
			w.s.discard = func(_ agentkeys.Wallet, key string) { dropped = append(dropped, key) }
			kept := &keepingRelay{fakeChain: w.chain}
			w.s.cfg.Relay = kept
			_, err := w.put("github", "mine", 0)
			wantCode(t, err, conflict)
			if len(dropped) != tt.given {
				t.Fatalf("given up: %v", dropped)
			}
			w.must(w.owner, statement.Delete{User: w.owner.Wallet(), Agent: w.owner.Wallet(), Service: w.serviceID("github"), Version: 1})
			out, err := w.chain.Submit(t.Context(), [][]byte{kept.wire})
			check(t, err)
			if rules.Code(out.Results[0].Code).Done() && w.store.objects[w.objectKey("github")] == nil || slices.Contains(dropped, w.objectKey("github")) {
				t.Fatalf("the chain names an object that was given up: %s", out.Results[0].Name)
			}
		})
	}
}

// keepingRelay keeps a copy of the newest RegisterBlob.
type keepingRelay struct {
	*fakeChain
	wire []byte
}

func (k *keepingRelay) Submit(ctx context.Context, wires [][]byte) (api.Relayed, error) {
	if statement.Kind(wires[0][0]) == statement.KindRegisterBlob {
		k.wire = wires[0]
	}
	return k.fakeChain.Submit(ctx, wires)
}

// The idle rule: what the owner names; else what the credential had; else the vault's
// default; else carry.
func TestIdleRuleDefault(t *testing.T) {
	for _, vaults := range []statement.IdleRule{0, statement.IdleCarry, statement.IdleExpire} {
		w := newWorld(t)
		w.s.cfg.Idle = vaults
		store := func(name string, idle statement.IdleRule, previous uint64) statement.IdleRule {
			t.Helper()
			in := api.Write{Service: name, Credential: secretBytes(t, "x"), Idle: uint8(idle), Previous: previous}
			if previous != 0 {
				in.Presence = w.presence("overwrite", name, previous)
			}
			_, err := w.s.write(t.Context(), w.session(w.owner), in)
			check(t, err)
			return w.pointer(name).Idle
		}
		if got := store("unnamed", 0, 0); got != max(vaults, statement.IdleCarry) {
			t.Errorf("vault's default %d: rule %d", vaults, got)
		}
		for _, named := range []statement.IdleRule{statement.IdleCarry, statement.IdleExpire} {
			name := fmt.Sprintf("named-%d", named)
			if got := store(name, named, 0); got != named {
				t.Errorf("vault's default %d: rule %d, owner named %d", vaults, got, named)
			}
			if got := store(name, 0, 1); got != named {
				t.Errorf("vault's default %d: a new value has rule %d, the old one had %d", vaults, got, named)
			}
		}
	}
}
