package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/eip712"
)

// wary is a custodian as an owner's live session sees it. It notes every request, and
// gives and changes nothing that needs presence.
type wary struct {
	mu    sync.Mutex
	asked []string // paths of requests in the owner's session
	grave []string // what would reveal, overwrite, grant or revoke
	list  api.Listing
}

const ownerToken = "the-owner's-session"

func (w *wary) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, api.MaxRequest))
	if r.Header.Get("Authorization") == "Bearer "+ownerToken {
		w.mu.Lock()
		w.asked = append(w.asked, r.URL.Path)
		w.mu.Unlock()
	}
	switch r.URL.Path {
	case api.PathVault:
		api.Reply(rw, api.Vault{VaultID: strings.Repeat("07", 32), ChainID: "c", Protected: "nothing"})
	case api.PathChallenge:
		api.Reply(rw, api.Challenge{Nonce: make([]byte, 32)})
	case api.PathWhoAmI:
		api.Reply(rw, api.WhoAmI{User: w.list.Agents[0].Agent, Role: "owner", Expires: uint64(time.Now().Add(time.Hour).Unix())})
	case api.PathList:
		api.Reply(rw, w.list)
	case api.PathTagKey:
		api.Reply(rw, api.TagKey{Key: bytes.Repeat([]byte{7}, 32)})
	case api.PathRules:
		api.Reply(rw, api.Rules{Kind: 1, Hosts: []api.Host{{Pattern: "api.github.com", Port: 443}}})
	case api.PathReads:
		api.Reply(rw, api.Reads{})
	case api.PathSessions:
		api.Reply(rw, api.Sessions{Sessions: []api.SessionInfo{{ID: strings.Repeat("ab", 16), Role: "agent", Agent: w.list.Agents[1].Agent}}})
	case api.PathWrite:
		var in api.Write
		if json.Unmarshal(body, &in) != nil || in.Previous != 0 || in.Presence != nil {
			w.note(r.URL.Path)
		}
		api.Fail(rw, &api.Error{Status: 409, Code: "conflict", Message: "it is stored already"})
	default: // statements, readings, ends of sessions, logins of the owner's wallet
		var in struct {
			Presence *api.Presence `json:"presence"`
			Wire     []byte        `json:"wire"`
		}
		if json.Unmarshal(body, &in) != nil || in.Presence != nil || len(in.Wire) != 0 || r.URL.Path == api.PathRead {
			w.note(r.URL.Path)
		}
		api.Fail(rw, &api.Error{Status: 403, Code: "presence_required", Message: "sign for it"})
	}
}

func (w *wary) note(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.grave = append(w.grave, path)
}

// take gives what was noted since the last time.
func (w *wary) take() (asked, grave []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked, grave = w.asked, w.grave
	w.asked, w.grave = nil, nil
	return asked, grave
}

// sealedOnce is a wallet whose passphrase is "right": sealing one takes a while.
var sealedOnce = sync.OnceValues(func() (walletFile, error) {
	k, err := eip712.NewKey()
	if err != nil {
		return walletFile{}, err
	}
	return sealWallet(k, agentkeys.NewSecret([]byte("right")))
})

func rightWallet(t *testing.T) walletFile {
	t.Helper()
	f, err := sealedOnce()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// guarded makes a home whose owner is logged in, with an agent scribe and a credential
// github, at a wary custodian. The owner's passphrase is nowhere in it.
func guarded(t *testing.T) (*app, *wary) {
	t.Helper()
	w := &wary{}
	srv := httptest.NewTLSServer(w)
	t.Cleanup(srv.Close)
	home, err := os.MkdirTemp("", "ak") // short: a socket's path has its limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	a := &app{home: home, profileName: "default"}
	wallet := rightWallet(t)
	scribe, err := a.newAgent("scribe")
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour)
	w.list = api.Listing{Complete: true,
		Credentials: []api.Item{{Service: "github", ServiceID: strings.Repeat("01", 32), Agent: wallet.Wallet, Version: 3, Epoch: 1}},
		Epochs:      []api.Epoch{{Epoch: 1, State: "active"}},
		Agents: []api.Agent{{Agent: wallet.Wallet, Role: "agent", Counter: 1, Expires: 1 << 40},
			{Agent: scribe.String(), Role: "agent", Counter: 1, Expires: uint64(until.Unix())}},
		Grants: []api.Grant{{Service: "github", ServiceID: strings.Repeat("01", 32), Agent: scribe.String(), Mode: "use", Slot: "shared", Version: 1, Live: true, Expires: uint64(until.Unix())}}}
	key := make([]byte, 32)
	for name, v := range map[string]any{
		"profiles/default.json": pinned(srv),
		"wallet.json":           wallet,
		"sessions/default.json": client.State{User: wallet.Wallet, Agent: wallet.Wallet, Token: ownerToken, Key: key, Expires: until.Unix()},
	} {
		if err := a.writeJSON(v, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(a.path("new.txt"), []byte("new value\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return a, w
}

// pinned is the profile of a custodian.
func pinned(srv *httptest.Server) profile {
	pin := sha256.Sum256(srv.Certificate().Raw)
	return profile{Custodian: srv.URL, Pin: hex.EncodeToString(pin[:]), VaultID: strings.Repeat("07", 32), ChainID: "c"}
}

// openForAll puts the wallet's passphrase into the file beside it.
func (a *app) openForAll(t *testing.T) {
	t.Helper()
	var f walletFile
	if err := a.readJSON(&f, "wallet.json"); err != nil {
		t.Fatal(err)
	}
	f.Unlock = unlockFile
	if err := errors.Join(a.writeJSON(f, "wallet.json"), a.writeJSON(passphraseFile{passphraseLabel, "right"}, "wallet.passphrase")); err != nil {
		t.Fatal(err)
	}
}

// snapshot is every file of a home.
func (a *app) snapshot(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(a.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files = append(files, fmt.Sprintf("%s %x", path, sha256.Sum256(b)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
