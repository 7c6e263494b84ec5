package custodian

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/statement"
)

// TestOverTLS reads and writes as a client does, through the pinned TLS.
func TestOverTLS(t *testing.T) {
	w := newWorld(t)
	srv := httptest.NewUnstartedServer(w.s.Handler())
	var err error
	srv.TLS, err = w.state.TLS()
	check(t, err)
	srv.StartTLS()
	defer srv.Close()
	pin, err := w.state.Pin()
	check(t, err)
	client := &http.Client{Transport: api.PinnedTransport(pin)}
	defer client.CloseIdleConnections()

	_, text, key, err := w.login(w.owner)
	check(t, err)
	call := func(path string, in, out any, change func(http.Header, *[]byte)) error {
		body, err := json.Marshal(in)
		check(t, err)
		h := http.Header{"Authorization": {"Bearer " + text}}
		h.Set(api.ProofHeader, api.Prove(key, w.vault, text, http.MethodPost, path, body, time.Now()))
		if change != nil {
			change(h, &body)
		}
		return api.Call(t.Context(), client, http.MethodPost, srv.URL+path, h, body, out)
	}
	var written api.Written
	check(t, call(api.PathWrite, api.Write{Service: "github", Credential: secretBytes(t, "one"), Idle: 1}, &written, nil))
	var who api.WhoAmI
	check(t, call(api.PathWhoAmI, struct{}{}, &who, nil))
	if who.Role != "owner" || who.User != w.owner.Wallet().String() {
		t.Fatalf("whoami: %+v", who)
	}
	var value api.Value
	check(t, call(api.PathRead, api.Read{Service: "github", Presence: w.presence("reveal", "github", 1)}, &value, nil))
	cred, err := credential.Parse(value.Credential)
	check(t, err)
	if string(cred.Secret.Reveal()) != canary+"one" {
		t.Fatal("another value came back")
	}

	denials := []struct {
		name   string
		want   code
		change func(http.Header, *[]byte)
	}{
		{"no session", sessionInvalid, func(h http.Header, _ *[]byte) { h.Del("Authorization") }},
		{"another session", sessionInvalid, func(h http.Header, _ *[]byte) { h.Set("Authorization", "Bearer "+text[:len(text)-2]+"AA") }},
		{"no proof", sessionInvalid, func(h http.Header, _ *[]byte) { h.Del(api.ProofHeader) }},
		{"old proof", sessionInvalid, func(h http.Header, b *[]byte) {
			h.Set(api.ProofHeader, api.Prove(key, w.vault, text, http.MethodPost, api.PathWhoAmI, *b, time.Now().Add(-2*time.Minute)))
		}},
		{"proof of another path", sessionInvalid, func(h http.Header, b *[]byte) {
			h.Set(api.ProofHeader, api.Prove(key, w.vault, text, http.MethodPost, api.PathList, *b, time.Now()))
		}},
		{"the same request again", sessionInvalid, func(h http.Header, b *[]byte) {
			other := &http.Client{Transport: api.PinnedTransport(pin)}
			defer other.CloseIdleConnections()
			check(t, api.Call(t.Context(), other, http.MethodPost, srv.URL+api.PathWhoAmI, h, *b, nil))
		}},
		{"a stolen token without its key", sessionInvalid, func(h http.Header, b *[]byte) {
			_, thief, err := ed25519.GenerateKey(rand.Reader)
			check(t, err)
			h.Set(api.ProofHeader, api.Prove(thief, w.vault, text, http.MethodPost, api.PathWhoAmI, *b, time.Now()))
		}},
		{"another body", sessionInvalid, func(_ http.Header, b *[]byte) { *b = []byte(`{ }`) }},
		{"too large", tooLarge, func(_ http.Header, b *[]byte) { *b = make([]byte, api.MaxRequest+1) }},
		{"unknown field", badRequest, func(h http.Header, b *[]byte) {
			*b = []byte(`{"x":1}`)
			h.Set(api.ProofHeader, api.Prove(key, w.vault, text, http.MethodPost, api.PathWhoAmI, *b, time.Now()))
		}},
	}
	for _, tt := range denials {
		t.Run(tt.name, func(t *testing.T) { wantCode(t, call(api.PathWhoAmI, struct{}{}, nil, tt.change), tt.want) })
	}
	var vault api.Vault
	check(t, api.Call(t.Context(), client, http.MethodGet, srv.URL+api.PathVault, nil, nil, &vault))
	if vault.VaultID != w.vault.String() || vault.Protected == "" {
		t.Fatalf("vault: %+v", vault)
	}
	stranger := &http.Client{Transport: api.PinnedTransport([32]byte{1})}
	if api.Call(t.Context(), stranger, http.MethodGet, srv.URL+api.PathVault, nil, nil, nil) == nil {
		t.Fatal("another certificate than the pinned one was accepted")
	}
}

func TestOperatorListener(t *testing.T) {
	w := newWorld(t)
	jobs := NewJobs(w.s, NewKeeper(w.config(), nil, nil, nil), nil, nil)
	srv := httptest.NewServer(w.s.OperatorHandler(jobs))
	defer srv.Close()
	get := func(path string) (int, string) {
		resp, err := http.Get(srv.URL + path)
		check(t, err)
		defer resp.Body.Close()
		var b bytes.Buffer
		_, err = b.ReadFrom(resp.Body)
		check(t, err)
		return resp.StatusCode, b.String()
	}
	if code, _ := get(api.PathReady); code != http.StatusServiceUnavailable {
		t.Errorf("ready before the share trees are open: %d", code)
	}
	w.s.Opened()
	if code, text := get(api.PathReady); code != http.StatusOK {
		t.Errorf("not ready: %d %s", code, text)
	}
	w.mustPut("github", "one", 0)
	if _, text := get("/metrics"); !strings.Contains(text, "writes 1\n") {
		t.Errorf("metrics: %s", text)
	}
	post := func(token string) error {
		h := http.Header{"Authorization": {"Bearer " + token}}
		return api.Call(t.Context(), srv.Client(), http.MethodPost, srv.URL+api.PathHints, h, []byte("{}"), nil)
	}
	wantCode(t, post("wrong"), sessionInvalid)
	wantCode(t, post(""), sessionInvalid)
	check(t, post(string(w.state.Token.Reveal())))
	// A process whose key is revoked is not ready.
	w.chain.set(func(f *fakeChain) {
		if r, err := f.vault.Act(statement.RevokeEnclave{Role: statement.EnclaveCustodian, Key: w.s.Key()}); err != nil || r.Code != 0 {
			t.Errorf("revoke: %v %v", r, err)
		}
	})
	if code, _ := get(api.PathReady); code != http.StatusServiceUnavailable {
		t.Errorf("ready although revoked: %d", code)
	}
}
