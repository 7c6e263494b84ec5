package client

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/record"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
)

var testVault = agentkeys.VaultID{4, 2}

const testToken = "header.claims.signature"

// fakeCustodian is one user's vault in memory, with the custodian's checks of logins,
// proofs and presence.
type fakeCustodian struct {
	t   *testing.T
	at  Endpoint
	key ed25519.PrivateKey
	tag seed.TagKey

	mu       sync.Mutex
	user     agentkeys.Wallet
	nonces   map[string]bool
	sessions []ed25519.PublicKey // a session lives on when its client logs in again
	held     map[string]api.Write
	versions map[string]uint64
	wires    [][]byte
	calls    map[string]int

	// What a lying or troubled custodian does instead.
	receipt func(record.ReadReceipt) record.ReadReceipt
	used    func(*api.Used)
	sealTo  func(pub []byte) []byte
	fail    func(path string, n int) error
}

func newCustodian(t *testing.T) *fakeCustodian {
	t.Helper()
	f := &fakeCustodian{t: t, nonces: map[string]bool{}, held: map[string]api.Write{}, versions: map[string]uint64{}, calls: map[string]int{}}
	_, f.key, _ = ed25519.GenerateKey(rand.Reader)
	f.tag = seed.TagKey{Secret: agentkeys.NewSecret(bytes.Repeat([]byte{9}, 32))}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathChallenge, f.challenge)
	mux.HandleFunc("POST "+api.PathLogin, f.login)
	mux.HandleFunc("POST "+api.PathStatement, f.statement)
	for path, serve := range map[string]func([]byte) (any, error){
		api.PathUse: f.use, api.PathWatch: f.watch, api.PathRules: f.rules, api.PathSessions: f.listSessions, api.PathEnd: f.end,
		api.PathRead: f.read, api.PathWrite: f.write, api.PathList: f.list, api.PathReads: f.reads,
		api.PathWhoAmI: func([]byte) (any, error) { return api.WhoAmI{User: f.user.String(), Role: "owner"}, nil },
		api.PathTagKey: func([]byte) (any, error) { return api.TagKey{Key: f.tag.Reveal()}, nil },
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { f.proven(w, r, path, serve) })
	}
	srv := httptest.NewTLSServer(mux)
	t.Cleanup(srv.Close)
	pin := sha256.Sum256(srv.Certificate().Raw)
	f.at = Endpoint{URL: srv.URL + "/", Pin: hex.EncodeToString(pin[:]), Vault: testVault}
	return f
}

func (f *fakeCustodian) challenge(w http.ResponseWriter, _ *http.Request) {
	n := make([]byte, 32)
	rand.Read(n)
	f.mu.Lock()
	f.nonces[string(n)] = true
	f.mu.Unlock()
	api.Reply(w, api.Challenge{Nonce: n})
}

// take uses a nonce up.
func (f *fakeCustodian) take(n []byte) bool {
	ok := f.nonces[string(n)]
	delete(f.nonces, string(n))
	return ok
}

func (f *fakeCustodian) login(w http.ResponseWriter, r *http.Request) {
	var in api.Login
	if err := api.Decode(r.Body, api.MaxRequest, &in); err != nil {
		api.Fail(w, err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err1 := agentkeys.ParseWallet(in.User)
	agent, err2 := agentkeys.ParseWallet(in.Agent)
	l := eip712.Login{User: user, Agent: agent, Nonce: [32]byte(in.Nonce), IssuedAt: in.IssuedAt,
		ClientKey: sha256.Sum256(append(append([]byte(nil), in.SessionKey...), in.SealKey...))}
	if signer, err := eip712.Recover(l.Digest(testVault), [65]byte(in.Signature)); err1 != nil || err2 != nil || err != nil || signer != agent || !f.take(in.Nonce) {
		api.Fail(w, &api.Error{Status: 401, Code: "signature_invalid"})
		return
	}
	to := in.SealKey
	if f.sealTo != nil {
		to = f.sealTo(to)
	}
	pub, err := ecdh.X25519().NewPublicKey(to)
	if err != nil {
		f.t.Error(err)
		return
	}
	kem, err := hpke.NewDHKEMPublicKey(pub)
	if err != nil {
		f.t.Error(err)
		return
	}
	enc, sender, err := hpke.NewSender(kem, hpke.HKDFSHA256(), hpke.AES256GCM(), agentkeys.DomainTag("session", testVault))
	if err != nil {
		f.t.Error(err)
		return
	}
	sealed, err := sender.Seal(nil, []byte(testToken))
	if err != nil {
		f.t.Error(err)
		return
	}
	f.user, f.sessions = user, append(f.sessions, in.SessionKey)
	api.Reply(w, api.Session{Encapsulated: enc, Sealed: sealed, Expires: uint64(time.Now().Add(time.Hour).Unix())})
}

// proven serves a call whose token and proof fit.
func (f *fakeCustodian) proven(w http.ResponseWriter, r *http.Request, path string, serve func([]byte) (any, error)) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	proven := slices.ContainsFunc(f.sessions, func(key ed25519.PublicKey) bool {
		_, err := api.CheckProof(r.Header.Get(api.ProofHeader), key, testVault, token, r.Method, path, body, time.Now())
		return err == nil
	})
	if token != testToken || !proven {
		api.Fail(w, &api.Error{Status: 401, Code: "session_invalid"})
		return
	}
	f.calls[path]++
	var out any
	if out, err = serve(body); err == nil && f.fail != nil {
		err = f.fail(path, f.calls[path])
	}
	if err != nil {
		api.Fail(w, err)
		return
	}
	api.Reply(w, out)
}

// present checks the owner's presence over an action.
func (f *fakeCustodian) present(p *api.Presence, action, service string, version uint64) bool {
	if p == nil || !f.take(p.Nonce) {
		return false
	}
	label, err := f.tag.Label(agentkeys.Service(service))
	if err != nil {
		return false
	}
	want := eip712.Presence{User: f.user, Action: action, Service: eip712.ServiceID(label), Agent: f.user, Version: version, Nonce: [32]byte(p.Nonce)}
	signer, err := eip712.Recover(want.Digest(testVault), [65]byte(p.Signature))
	return err == nil && signer == f.user
}

func (f *fakeCustodian) write(body []byte) (any, error) {
	var in api.Write
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	old, held := f.held[in.Service]
	v := f.versions[in.Service]
	if held && len(in.BlobID) > 0 && bytes.Equal(old.BlobID, in.BlobID) {
		return api.Written{Version: v, BlobID: in.BlobID}, nil
	}
	if held != (in.Previous != 0) || in.Previous != v {
		return nil, &api.Error{Status: 409, Code: "conflict"}
	}
	if held && !f.present(in.Presence, "overwrite", in.Service, v) {
		return nil, &api.Error{Status: 403, Code: "presence_invalid"}
	}
	in.BlobID = bytes.Repeat([]byte{byte(v + 1)}, 16)
	f.held[in.Service], f.versions[in.Service] = in, v+1
	return api.Written{Version: v + 1, Epoch: 1, BlobID: in.BlobID, Height: 5}, nil
}

func (f *fakeCustodian) read(body []byte) (any, error) {
	var in api.Read
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	held, ok := f.held[in.Service]
	v := f.versions[in.Service]
	if !ok {
		return nil, &api.Error{Status: 404, Code: "not_found"}
	}
	if in.Presence != nil && !f.present(in.Presence, "reveal", in.Service, v) {
		return nil, &api.Error{Status: 403, Code: "presence_invalid"}
	}
	r := record.SignReceipt(f.key, testVault, record.Record{Sequence: 3, Kind: record.KindRead, Mode: uint8(statement.ModeReveal), User: f.user, Version: v, Epoch: 1})
	if f.receipt != nil {
		r = f.receipt(r)
	}
	return api.Value{Credential: held.Credential, Version: v, Epoch: 1, Receipt: r.Append(nil)}, nil
}

func (f *fakeCustodian) list([]byte) (any, error) {
	l := api.Listing{Complete: true}
	for s := range f.held {
		l.Credentials = append(l.Credentials, api.Item{Service: s, Agent: f.user.String(), Version: f.versions[s]})
	}
	return l, nil
}

func (f *fakeCustodian) reads(body []byte) (any, error) {
	var in api.ReadsRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	r := record.Record{Sequence: in.From, Kind: record.KindRead, Mode: 1, User: f.user}
	return api.Reads{Records: [][]byte{r.Append(nil)}, Next: in.From + 1}, nil
}

func (f *fakeCustodian) statement(w http.ResponseWriter, r *http.Request) {
	var in api.Statement
	if err := api.Decode(r.Body, api.MaxRequest, &in); err != nil {
		api.Fail(w, err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wires = append(f.wires, in.Wire)
	api.Reply(w, api.Accepted{Name: "ok", Height: 8})
}

func newKey(t *testing.T) eip712.Key {
	t.Helper()
	k, err := eip712.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// owner is a client that is logged in at f as its user.
func owner(t *testing.T, f *fakeCustodian) (*Client, eip712.Key) {
	t.Helper()
	c, err := Dial(f.at)
	if err != nil {
		t.Fatal(err)
	}
	k := newKey(t)
	if err := c.Login(t.Context(), k, k.Wallet(), 0); err != nil {
		t.Fatal(err)
	}
	return c, k
}

func bearer(value string) credential.Credential {
	return credential.Credential{Secret: agentkeys.NewSecret([]byte(value)), Kind: credential.Bearer}
}
