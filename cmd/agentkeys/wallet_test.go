package main

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
)

func TestWalletFile(t *testing.T) {
	k, err := eip712.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	pass := agentkeys.NewSecret([]byte("right"))
	f, err := sealWallet(k, pass)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.open(pass)
	if err != nil || got.Wallet() != k.Wallet() || f.Wallet != k.Wallet().String() {
		t.Fatal(err)
	}
	var usage usageError
	if _, err := f.open(agentkeys.NewSecret([]byte("wrong"))); !errors.As(err, &usage) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	again, err := sealWallet(k, pass)
	if err != nil || string(again.Salt) == string(f.Salt) || string(again.Nonce) == string(f.Nonce) {
		t.Error("two files share salt or nonce", err)
	}
	other := testWallet(t, "right")
	for name, change := range map[string]func(*walletFile){
		"address":       func(f *walletFile) { f.Wallet = other.Wallet },
		"kdf":           func(f *walletFile) { f.KDF = "scrypt-1-1-1" },
		"salt":          func(f *walletFile) { f.Salt[0] ^= 1 },
		"nonce":         func(f *walletFile) { f.Nonce[0] ^= 1 },
		"short nonce":   func(f *walletFile) { f.Nonce = f.Nonce[:4] },
		"ciphertext":    func(f *walletFile) { f.Sealed[5] ^= 1 },
		"no ciphertext": func(f *walletFile) { f.Sealed = nil },
		"foreign":       func(f *walletFile) { f.Sealed, f.Nonce, f.Salt = other.Sealed, other.Nonce, other.Salt },
	} {
		t.Run(name, func(t *testing.T) {
			b, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			var bad walletFile
			if err := json.Unmarshal(b, &bad); err != nil {
				t.Fatal(err)
			}
			change(&bad)
			if _, err := bad.open(pass); err == nil || !strings.HasPrefix(err.Error(), "wallet: ") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestFilesArePrivate(t *testing.T) {
	a := &app{home: t.TempDir() + "/new"}
	w, err := a.newAgent("scribe")
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{a.home: 0o700, a.path("agents"): 0o700, a.path("agents", "scribe.json"): 0o600} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
	if again, err := a.newAgent("scribe"); err != nil || again != w {
		t.Errorf("an agent that is there got another wallet: %v", err)
	}
	if err := os.WriteFile(a.path("agents", "scribe.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.newAgent("scribe"); err == nil {
		t.Error("a damaged wallet is replaced without a word")
	}
	for _, name := range []string{"", "..", "a/b", "../wallet", "Scribe"} {
		if _, err := a.newAgent(name); err == nil {
			t.Errorf("agent name %q is taken", name)
		}
	}
}

func TestAgentNames(t *testing.T) {
	a := &app{home: t.TempDir()}
	if got := a.agentNames(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	w, err := a.newAgent("scribe")
	if err != nil {
		t.Fatal(err)
	}
	if got := a.agentNames(); got[w.String()] != "scribe" {
		t.Errorf("%v", got)
	}
	if got := slotName(a.agentNames(), w.String(), "0xuser"); got != "scribe" {
		t.Error(got)
	}
	if got := slotName(nil, "0xuser", "0xuser"); got != "shared" {
		t.Error(got)
	}
}
