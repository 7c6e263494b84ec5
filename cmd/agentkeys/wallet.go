package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/scrypt"
)

// walletFile is a wallet's key under a passphrase: AES-256-GCM with a key by scrypt
// (RFC 7914) N=2^15, r=8, p=1; AAD = the address as text, and the purpose of what is
// sealed beside it.
type walletFile struct {
	Wallet string `json:"wallet"`
	KDF    string `json:"kdf"` // "scrypt-32768-8-1"
	Salt   []byte `json:"salt"`
	Nonce  []byte `json:"nonce"`
	Sealed []byte `json:"sealed"`
	Unlock string `json:"unlock,omitempty"` // where the passphrase is, if not with its owner
}

const walletKDF = "scrypt-32768-8-1"

func walletCipher(pass agentkeys.Secret, salt []byte) (cipher.AEAD, error) {
	key, err := scrypt.Key(pass.Reveal(), salt, 1<<15, 8, 1, 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

func sealWallet(k eip712.Key, pass agentkeys.Secret) (walletFile, error) {
	b := k.Bytes()
	defer clear(b)
	return sealBytes(k.Wallet(), b, pass, "")
}

// sealBytes encrypts what belongs to a wallet, for one purpose.
func sealBytes(w agentkeys.Wallet, b []byte, pass agentkeys.Secret, purpose string) (walletFile, error) {
	f := walletFile{Wallet: w.String(), KDF: walletKDF, Salt: make([]byte, 16), Nonce: make([]byte, 12)}
	rand.Read(f.Salt)
	rand.Read(f.Nonce)
	aead, err := walletCipher(pass, f.Salt)
	if err != nil {
		return f, err
	}
	f.Sealed = aead.Seal(nil, f.Nonce, b, []byte(f.Wallet+purpose))
	return f, nil
}

func (f walletFile) open(pass agentkeys.Secret) (eip712.Key, error) {
	b, err := f.openBytes(pass, "")
	if err != nil {
		return eip712.Key{}, err
	}
	defer clear(b)
	return eip712.ParseKey(b)
}

// openBytes gives what was sealed for this purpose; the caller clears it.
func (f walletFile) openBytes(pass agentkeys.Secret, purpose string) ([]byte, error) {
	if f.KDF != walletKDF || len(f.Nonce) != 12 {
		return nil, errors.New("wallet: the file is damaged or of a newer version")
	}
	aead, err := walletCipher(pass, f.Salt)
	if err != nil {
		return nil, err
	}
	b, err := aead.Open(nil, f.Nonce, f.Sealed, []byte(f.Wallet+purpose))
	if err != nil {
		return nil, usageError{errors.New("wallet: wrong passphrase, or the file was changed")}
	}
	return b, nil
}

func initCommand(a *app) *cobra.Command {
	var keychain, insecure bool
	c := &cobra.Command{Use: "init", Short: "Make your wallet and enrol it at the vault", Args: exactly(0, "no arguments"),
		Long:    "Makes a wallet and enrols it at the vault of the profile. Its key is encrypted with a passphrase, which is asked for\non the terminal or read from the file that AGENTKEYS_PASSPHRASE_FILE names; with --keychain a random one is kept in\nthe system's keychain. Whoever loses wallet and passphrase can read nothing any more: there is no recovery yet.",
		Example: "  agentkeys dev start && agentkeys init\n  agentkeys init --keychain",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keychain && insecure {
				return usageError{errors.New("want --keychain or --insecure-file, not both")}
			}
			switch {
			case keychain:
				a.newUnlock = unlockKeychain
			case insecure:
				a.newUnlock = unlockFile
			}
			w, err := a.initWallet(cmd.Context())
			if err != nil {
				return err
			}
			v := struct {
				Wallet string `json:"wallet"`
				Home   string `json:"home"`
				Unlock string `json:"unlock"`
			}{w.String(), a.home, a.unlock()}
			return a.data(v, func(out io.Writer) {
				fmt.Fprintf(out, "Enrolled. Your wallet is in %s, opened by %s\nNext: agentkeys store github --host api.github.com\n", a.path("wallet.json"), unlockText[v.Unlock])
			})
		}}
	c.Flags().BoolVar(&keychain, "keychain", false, "keep a passphrase in the system's keychain: while it is unlocked, programs of your user id may get it without a question")
	c.Flags().BoolVar(&insecure, "insecure-file", false, "keep the passphrase in a file beside the wallet: every program of your user id is then the owner")
	return c
}

// initWallet makes the wallet unless it exists, enrols it and logs in. It may be
// repeated.
func (a *app) initWallet(ctx context.Context) (agentkeys.Wallet, error) {
	if err := outsideRun(); err != nil {
		return agentkeys.Wallet{}, err
	}
	c, _, err := a.dial()
	if err != nil {
		return agentkeys.Wallet{}, err
	}
	if _, err := c.Info(ctx); err != nil {
		return agentkeys.Wallet{}, err
	}
	k, err := a.newOrOpenWallet()
	if err != nil {
		return agentkeys.Wallet{}, err
	}
	defer k.Zero()
	acc, err := c.Submit(ctx, k, statement.Enrol{User: k.Wallet()})
	if err != nil {
		return agentkeys.Wallet{}, err
	}
	if err := accepted(acc); err != nil {
		return agentkeys.Wallet{}, err
	}
	if err := c.Login(ctx, k, k.Wallet(), 0); err != nil {
		return agentkeys.Wallet{}, err
	}
	return k.Wallet(), a.writeJSON(c.State(), "sessions", a.profileName+".json")
}

func (a *app) newOrOpenWallet() (eip712.Key, error) {
	if _, err := os.Stat(a.path("wallet.json")); err == nil {
		if has := a.unlock(); a.newUnlock != unlockOwner && a.newUnlock != has {
			return eip712.Key{}, usageError{fmt.Errorf("init: there is a wallet already, opened by %s; for another set AGENTKEYS_HOME", unlockText[has])}
		}
		return a.openWallet()
	}
	k, err := eip712.NewKey()
	if err != nil {
		return k, err
	}
	pass, err := a.newPassphrase(k.Wallet())
	if err != nil {
		return k, err
	}
	f, err := sealWallet(k, pass)
	if err != nil {
		return k, err
	}
	f.Unlock = a.newUnlock
	return k, a.writeJSON(f, "wallet.json")
}

func loginCommand(a *app) *cobra.Command {
	var ttl string
	cmd := &cobra.Command{Use: "login", Short: "Open a session with your wallet", Args: exactly(0, "no arguments"), Example: "  agentkeys login\n  agentkeys login --for 8h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := forDuration(ttl)
			if err != nil {
				return err
			}
			c, _, err := a.dial()
			if err != nil {
				return err
			}
			if err := a.login(cmd.Context(), c, d); err != nil {
				return err
			}
			return a.data(struct {
				Expires int64 `json:"expires"`
			}{c.Expires().Unix()}, func(w io.Writer) { fmt.Fprintf(w, "Logged in until %s\n", c.Expires().Format(time.TimeOnly)) })
		}}
	cmd.Flags().StringVar(&ttl, "for", "1h", "how long, at most 30d")
	return cmd
}

// agentFile is an agent's wallet as it lies on this machine.
type agentFile struct {
	Label  string `json:"label"`
	Wallet string `json:"wallet"`
	Key    []byte `json:"key"`
}

const agentLabel = "an agent's own key: whoever reads this file is the agent until it is revoked"

func (a *app) agentKey(name string) (eip712.Key, error) {
	if _, err := agentkeys.ParseService(name); err != nil {
		return eip712.Key{}, usageError{fmt.Errorf("agent name: use a-z, 0-9, '.', '_', '-'")}
	}
	var f agentFile
	if err := a.readJSON(&f, "agents", name+".json"); errors.Is(err, os.ErrNotExist) {
		return eip712.Key{}, fmt.Errorf("agent %s is not known here; add it: agentkeys agent add %s", name, name)
	} else if err != nil {
		return eip712.Key{}, err
	}
	return eip712.ParseKey(f.Key)
}

// agentSession opens a session of an agent at this profile's user. Inside a run only
// that run's agent has one.
func (a *app) agentSession(ctx context.Context, name string, ttl time.Duration) (*client.Client, error) {
	if self := insideRun(); self != "" && self != name {
		return nil, &api.Error{Status: 403, Code: "agent_refused", Message: "inside agentkeys run --agent " + self + " there is no other agent",
			Next: "Ask the owner to grant " + self + " what it needs. Do not retry"}
	}
	k, err := a.agentKey(name)
	if err != nil {
		return nil, err
	}
	defer k.Zero()
	user, err := a.userWallet()
	if err != nil {
		return nil, err
	}
	c, _, err := a.dial()
	if err != nil {
		return nil, err
	}
	return c, c.Login(ctx, k, user, ttl)
}

// userWallet is the owner's address, which needs no passphrase.
func (a *app) userWallet() (agentkeys.Wallet, error) {
	var f walletFile
	if err := a.readJSON(&f, "wallet.json"); err != nil {
		return agentkeys.Wallet{}, errors.New("there is no wallet here yet; make one: agentkeys init")
	}
	return agentkeys.ParseWallet(f.Wallet)
}

// agentNames gives the names of agents known here by wallet.
func (a *app) agentNames() map[string]string {
	names := map[string]string{}
	entries, err := os.ReadDir(a.path("agents"))
	if err != nil {
		return names // none added yet
	}
	for _, e := range entries {
		var f agentFile
		if a.readJSON(&f, "agents", e.Name()) == nil {
			names[f.Wallet] = e.Name()[:len(e.Name())-len(".json")]
		}
	}
	return names
}
