package custodian

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

// canary is in every secret that tests store.
const canary = "canary-7f3a1c"

var errDown = errors.New("relay: down")

// fakeChain is the rules on a map. Each Submit is one block, proven at once.
type fakeChain struct {
	mu    sync.Mutex
	vault *rulestest.Vault
	moved chan struct{}
	beats int

	down   bool                          // the relay cannot be reached
	answer func(api.Relayed) api.Relayed // what the relay says instead
	drop   func(k statement.Kind) bool   // said to be done, but never applied
	named  func(keys [][]byte) [][]byte  // what the node lists instead
	before func(k statement.Kind)        // runs before a statement is applied
}

func (f *fakeChain) head() ledger.Head {
	b := f.vault.Block
	return ledger.Head{Height: b.Height, StateHeight: b.Height - 1, Time: time.Unix(int64(b.Time), 0), Hash: sha256.Sum256(fmt.Append(nil, b.Height))}
}

func (f *fakeChain) Head() ledger.Head {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head()
}

func (f *fakeChain) Rows(_ context.Context, keys ...[]byte) ([][]byte, ledger.Head, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i], _ = f.vault.KV.Get(k)
	}
	return out, f.head(), nil
}

func (f *fakeChain) wait(ctx context.Context, enough func() bool) error {
	for {
		f.mu.Lock()
		ok, moved := enough(), f.moved
		f.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

func (f *fakeChain) AwaitRow(ctx context.Context, key []byte, enough func([]byte) bool) (v []byte, h ledger.Head, err error) {
	err = f.wait(ctx, func() bool {
		v, _ = f.vault.KV.Get(key)
		h = f.head()
		return enough(v)
	})
	return v, h, err
}

func (f *fakeChain) Await(ctx context.Context, min uint64) (h ledger.Head, err error) {
	err = f.wait(ctx, func() bool { h = f.head(); return h.StateHeight >= min })
	return h, err
}

func (f *fakeChain) Keys(_ context.Context, prefix []byte) (out [][]byte, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(f.vault.KV)) {
		if strings.HasPrefix(k, string(prefix)) {
			out = append(out, []byte(k))
		}
	}
	if f.named != nil {
		out = f.named(out)
	}
	return out, nil
}

func (f *fakeChain) Submit(_ context.Context, wires [][]byte) (out api.Relayed, err error) {
	kind := statement.Kind(wires[0][0])
	if f.before != nil {
		f.before(kind)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return out, errDown
	}
	if kind == statement.KindHeartbeat {
		f.beats++
	}
	for _, w := range wires {
		var r rules.Result
		if f.drop == nil || !f.drop(kind) {
			if r, err = f.vault.Apply(w); err != nil {
				return out, err
			}
		}
		out.Results = append(out.Results, api.Accepted{Code: uint32(r.Code), Name: r.Code.String(), Reason: r.Reason})
	}
	out.Height = f.vault.Block.Height
	f.block(0)
	if f.answer != nil {
		out = f.answer(out)
	}
	return out, nil
}

// block ends the block; f.mu is held.
func (f *fakeChain) block(seconds uint64) {
	if err := f.vault.NextBlock(seconds); err != nil {
		panic(err)
	}
	close(f.moved)
	f.moved = make(chan struct{})
}

// set changes how the fake behaves.
func (f *fakeChain) set(change func(*fakeChain)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// later makes a block some seconds later.
func (f *fakeChain) later(seconds uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.block(seconds)
}

// fakeStore is objects in memory.
type fakeStore struct {
	mu      sync.Mutex
	objects map[string][]byte
	away    bool
	gets    int
}

func (s *fakeStore) get(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	b, ok := s.objects[key]
	switch {
	case s.away:
		return nil, blobstore.ErrUnavailable
	case !ok:
		return nil, blobstore.ErrNotFound
	}
	return bytes.Clone(b), nil
}

func (s *fakeStore) put(key string, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return blobstore.ErrUnavailable
	}
	if _, ok := s.objects[key]; ok {
		return blobstore.ErrExists
	}
	s.objects[key] = bytes.Clone(b)
	return nil
}

func (s *fakeStore) Get(_ context.Context, user agentkeys.Wallet, key string, _ int64) ([]byte, error) {
	if !strings.HasPrefix(key, blobstore.UserPrefix(user)) {
		return nil, blobstore.ErrKey
	}
	return s.get(key)
}

func (s *fakeStore) Put(_ context.Context, user agentkeys.Wallet, key string, b []byte) error {
	if !strings.HasPrefix(key, blobstore.UserPrefix(user)) {
		return blobstore.ErrKey
	}
	return s.put(key, b)
}

func (s *fakeStore) Delete(_ context.Context, _ agentkeys.Wallet, keys ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.objects, k)
	}
	return nil
}

// system is the custodian's own part of the same store.
type system struct{ s *fakeStore }

func (s system) Get(_ context.Context, key string, _ int64) ([]byte, error) { return s.s.get(key) }
func (s system) Put(_ context.Context, key string, b []byte) error          { return s.s.put(key, b) }
func (s system) List(_ context.Context, prefix string) iter.Seq2[blobstore.Object, error] {
	return func(yield func(blobstore.Object, error) bool) {
		s.s.mu.Lock()
		keys := slices.Sorted(maps.Keys(s.s.objects))
		s.s.mu.Unlock()
		for _, k := range keys {
			if strings.HasPrefix(k, prefix) && !yield(blobstore.Object{Key: k}, nil) {
				return
			}
		}
	}
}

// fakeShares are the shares of epochs.
type fakeShares map[agentkeys.Epoch][]byte

func (f fakeShares) Get(_ agentkeys.Wallet, e agentkeys.Epoch, _ uint32) (agentkeys.Secret, error) {
	b, ok := f[e]
	if !ok {
		return agentkeys.Secret{}, errors.New("share: none")
	}
	return agentkeys.NewSecret(bytes.Clone(b)), nil
}

// logs is a log that can be read while it is written.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// world is one custodian on fakes, with a user "owner" who has epoch 1 open and an
// agent "scribe".
type world struct {
	t      testing.TB
	vault  agentkeys.VaultID
	home   string
	chain  *fakeChain
	store  *fakeStore
	shares fakeShares
	kit    rulestest.Kit
	log    *logs
	step   func(string)
	state  *State
	idle   statement.IdleRule // of what is put; 0 = carry
	s      *Server

	owner, scribe eip712.Key
}

func newWorld(t testing.TB) *world {
	vault := agentkeys.VaultID(sha256.Sum256([]byte("vault of tests")))
	v, err := rulestest.NewVault(vault, statement.DefaultParams())
	check(t, err)
	v.Block.Time = uint64(time.Now().Unix())
	w := &world{t: t, vault: vault, home: t.TempDir(), chain: &fakeChain{vault: v, moved: make(chan struct{})},
		store: &fakeStore{objects: map[string][]byte{}}, shares: fakeShares{}, log: &logs{},
		owner: rulestest.Wallet("owner"), scribe: rulestest.Wallet("scribe")}
	w.state, err = OpenState(w.home, true)
	check(t, err)
	w.kit = rulestest.Kit{Vault: vault, Custodian: w.state.Instance, Rotator: rulestest.Process("rotator")}
	check(t, w.kit.Found(v))
	w.start()
	t.Cleanup(w.stop)
	w.must(w.owner, statement.Enrol{User: w.owner.Wallet()})
	w.openEpoch(1)
	w.must(w.owner, statement.AdmitAgent{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Role: statement.RoleAgent, Expires: w.in(3600)})
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) config() Config {
	return Config{Vault: w.vault, ChainID: "test-1", State: w.state, Chain: w.chain, Lister: w.chain, Store: w.store,
		Objects: system{w.store}, Relay: w.chain, Shares: w.shares, Platform: statement.PlatformSoftware, Evidence: []byte("evidence"),
		Limit: "everything", Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Step: func(name string) {
			if w.step != nil {
				w.step(name)
			}
		}}
}

func (w *world) start() {
	w.t.Helper()
	s, err := New(w.config())
	check(w.t, err)
	w.s = s
}

func (w *world) stop() {
	if w.s == nil {
		return
	}
	check(w.t, w.s.Close())
	check(w.t, w.state.Close())
	w.s = nil
}

// restart is a crash and a new start on the same home directory.
func (w *world) restart() {
	w.t.Helper()
	w.step = nil
	w.stop()
	var err error
	w.state, err = OpenState(w.home, true)
	check(w.t, err)
	w.start()
}

// in is a block time some seconds ahead.
func (w *world) in(seconds uint64) uint64 { return blockTime(w.chain.Head()) + seconds }

// must has a user's statement accepted through the server.
func (w *world) must(k eip712.Key, b statement.Body) api.Accepted {
	w.t.Helper()
	out, err := w.s.statement(w.t.Context(), api.Statement{Wire: w.kit.SignUser(k, b)})
	check(w.t, err)
	if !rules.Code(out.Code).Done() {
		w.t.Fatalf("statement: %s: %s", out.Name, out.Reason)
	}
	return out
}

// openEpoch is what rotator and keeper do: a share, a wrapped data key, OpenEpoch.
func (w *world) openEpoch(e agentkeys.Epoch) {
	w.t.Helper()
	w.shares[e] = seed.New().Reveal()
	shielding, err := w.state.Seed.ShieldingKey(w.vault, 1)
	check(w.t, err)
	wk, err := seed.DeriveWrappingKey(w.vault, shielding, agentkeys.NewSecret(bytes.Clone(w.shares[e])), w.owner.Wallet(), e, 1)
	check(w.t, err)
	dek := envelope.NewDEK()
	wrapped, err := wk.Wrap(w.vault, dek)
	check(w.t, err)
	m := receipt.Made{Job: agentkeys.JobID{byte(e)}, User: w.owner.Wallet(), Epoch: e, DEKID: dek.ID(w.vault), Wrapped: wrapped}
	w.process(statement.OpenEpoch{Receipt: m, ValidUntil: w.in(100)})
}

// reseal is what a rotation does to one shared slot, the old object gone at once.
func (w *world) reseal(name string) {
	w.t.Helper()
	u, p, slot := w.chain.vault.User(w.owner.Wallet()), w.pointer(name), w.slot(name)
	from, err := w.s.dek(slot.User, u.Draining)
	check(w.t, err)
	to, err := w.s.dek(slot.User, u.Active)
	check(w.t, err)
	old, blob := w.objectKey(name), agentkeys.BlobID{42}
	sealed, err := envelope.Reseal(w.vault, from, u.Draining.DEKID, to, u.Active.DEKID, placeOf(slot, p), u.Active.Epoch, blob, w.store.objects[old])
	check(w.t, err)
	check(w.t, w.store.put(blobstore.Key(slot.User, u.Active.Epoch, slot.Service, blob), sealed))
	row := receipt.Row{Agent: slot.Agent, Service: slot.Service, Version: p.Version, OldHash: p.Hash, NewBlob: blob, NewHash: envelope.HashOf(sealed)}
	w.process(statement.RotateBlobs{ValidUntil: w.in(100), Receipt: receipt.Rotated{Job: agentkeys.JobID{9}, User: slot.User, From: u.Draining.Epoch,
		To: u.Active.Epoch, FromDEKID: u.Draining.DEKID, ToDEKID: u.Active.DEKID, Rows: []receipt.Row{row}}})
	delete(w.store.objects, old)
}

// process has a process's statement accepted.
func (w *world) process(b statement.Body) {
	w.t.Helper()
	out, err := w.chain.Submit(w.t.Context(), [][]byte{w.kit.SignProcess(b)})
	check(w.t, err)
	if c := rules.Code(out.Results[0].Code); c != rules.OK {
		w.t.Fatalf("statement %T: %s: %s", b, c, out.Results[0].Reason)
	}
}

// login opens a session as a client does.
func (w *world) login(k eip712.Key) (token.Claims, string, ed25519.PrivateKey, error) {
	w.t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	check(w.t, err)
	sealKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	check(w.t, err)
	c, err := w.s.challenge(w.t.Context(), struct{}{})
	check(w.t, err)
	l := eip712.Login{User: w.owner.Wallet(), Agent: k.Wallet(), Nonce: [32]byte(c.Nonce), IssuedAt: uint64(time.Now().Unix()),
		ClientKey: sha256.Sum256(append(bytes.Clone(pub), sealKey.PublicKey().Bytes()...))}
	sig := k.Sign(l.Digest(w.vault))
	out, err := w.s.login(w.t.Context(), api.Login{User: l.User.String(), Agent: l.Agent.String(), Nonce: c.Nonce, IssuedAt: l.IssuedAt,
		SessionKey: pub, SealKey: sealKey.PublicKey().Bytes(), Signature: sig[:]})
	if err != nil {
		return token.Claims{}, "", nil, err
	}
	hk, err := hpke.NewDHKEMPrivateKey(sealKey)
	check(w.t, err)
	r, err := hpke.NewRecipient(out.Encapsulated, hk, hpke.HKDFSHA256(), hpke.AES256GCM(), agentkeys.DomainTag("session", w.vault))
	check(w.t, err)
	text, err := r.Open(nil, out.Sealed)
	check(w.t, err)
	claims, err := token.ParseSession(&w.s.issuer.PublicKey, w.vault, string(text))
	return claims, string(text), key, err
}

func (w *world) session(k eip712.Key) token.Claims {
	w.t.Helper()
	c, _, _, err := w.login(k)
	check(w.t, err)
	return c
}

func (w *world) serviceID(name string) agentkeys.ServiceID {
	w.t.Helper()
	id, err := w.s.serviceID(w.owner.Wallet(), agentkeys.Service(name))
	check(w.t, err)
	return id
}

func (w *world) slot(name string) agentkeys.Slot {
	return agentkeys.Slot{User: w.owner.Wallet(), Agent: w.owner.Wallet(), Service: w.serviceID(name)}
}

func (w *world) pointer(name string) rules.Pointer {
	w.chain.mu.Lock()
	defer w.chain.mu.Unlock()
	return w.chain.vault.Pointer(w.slot(name))
}

func (w *world) objectKey(name string) string {
	p := w.pointer(name)
	return blobstore.Key(w.owner.Wallet(), p.Epoch, w.serviceID(name), p.Blob)
}

// grant gives scribe a grant on the shared slot.
func (w *world) grant(name string, mode statement.Mode, expires uint64) {
	w.t.Helper()
	slot := agentkeys.Slot{User: w.owner.Wallet(), Agent: w.scribe.Wallet(), Service: w.serviceID(name)}
	w.chain.mu.Lock()
	g, a := w.chain.vault.Grant(slot), w.chain.vault.Agent(w.owner.Wallet(), w.scribe.Wallet())
	w.chain.mu.Unlock()
	w.must(w.owner, statement.Grant{User: slot.User, Agent: slot.Agent, Service: slot.Service, Previous: g.Version, Counter: a.Counter,
		Mode: mode, Slot: statement.SlotShared, Expires: expires, SealedName: w.sealName(name)})
}

func (w *world) sealName(name string) agentkeys.SealedName {
	w.t.Helper()
	tag, err := w.s.tagKey(w.owner.Wallet())
	check(w.t, err)
	sealed, err := tag.SealName(w.owner.Wallet(), w.serviceID(name), agentkeys.Service(name))
	check(w.t, err)
	return sealed
}

// presence is the owner's signature over an action.
func (w *world) presence(action, name string, version uint64) *api.Presence {
	w.t.Helper()
	c, err := w.s.challenge(w.t.Context(), struct{}{})
	check(w.t, err)
	p := eip712.Presence{User: w.owner.Wallet(), Action: action, Service: w.serviceID(name), Agent: w.owner.Wallet(), Version: version, Nonce: [32]byte(c.Nonce)}
	sig := w.owner.Sign(p.Digest(w.vault))
	return &api.Presence{Nonce: c.Nonce, Signature: sig[:]}
}

func secretBytes(t testing.TB, value string) []byte {
	t.Helper()
	b, err := credential.Credential{Secret: agentkeys.NewSecret([]byte(canary + value)), Kind: credential.Bearer}.Append(nil)
	check(t, err)
	return b
}

// put stores a value as the owner; previous 0 is a first write.
func (w *world) put(name, value string, previous uint64) (api.Written, error) {
	w.t.Helper()
	in := api.Write{Service: name, Credential: secretBytes(w.t, value), Idle: uint8(max(w.idle, statement.IdleCarry)), Previous: previous}
	if previous != 0 {
		in.Presence = w.presence("overwrite", name, previous)
	}
	return w.s.write(w.t.Context(), w.session(w.owner), in)
}

func (w *world) mustPut(name, value string, previous uint64) api.Written {
	w.t.Helper()
	out, err := w.put(name, value, previous)
	check(w.t, err)
	return out
}

// get reads as scribe.
func (w *world) get(name string) (string, error) {
	w.t.Helper()
	return w.getAs(w.session(w.scribe), name)
}

func (w *world) getAs(c token.Claims, name string) (string, error) {
	w.t.Helper()
	out, err := w.s.read(w.t.Context(), c, api.Read{Service: name})
	if err != nil {
		return "", err
	}
	cred, err := credential.Parse(out.Credential)
	check(w.t, err)
	return strings.TrimPrefix(string(cred.Secret.Reveal()), canary), nil
}

// forget empties the cache of envelopes, so that the store is asked.
func (w *world) forget() { w.s.cache = newEnvelopes(envelopeBytes) }

func wantCode(t testing.TB, err error, want code) *api.Error {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != want.name {
		t.Fatalf("got %v, want %s", err, want.name)
	}
	if e.Status != want.status || e.Retry != want.retry || e.Message == "" {
		t.Fatalf("%s: status %d, retry %v, message %q", e.Code, e.Status, e.Retry, e.Message)
	}
	return e
}
