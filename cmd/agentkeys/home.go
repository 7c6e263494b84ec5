package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/eip712"
	"golang.org/x/term"
)

// app is one run of the command. Its durable state lies under home, mode 0700:
//
//	profiles/<name>.json   where a vault is and how it is recognised
//	profile                the one that is used when none is named
//	wallet.json            the owner's wallet, encrypted with a passphrase
//	agents/<name>.json     wallets of agents, readable by their user id
//	sessions/<name>.json   sessions, readable by their user id
//	proxy.json             the proxy's wallet and CA key, encrypted with the passphrase
//	proxy/<name>.sock      where the running proxy listens for control; its log beside it
//	replace-list.json      what revoked agents have seen
//
// Files are replaced by rename.
type app struct {
	in          io.Reader
	out, err    io.Writer
	json        bool
	profileName string
	home        string
	stdin       *bufio.Reader
	pass        agentkeys.Secret // asked for once
	socketName  string           // of a proxy beside the profile's, for bench
	newUnlock   string           // where init puts a new wallet's passphrase
	typed       []string         // the command line
	over        bool             // the session has ended, so the wallet is asked for
}

// profile says where a vault is.
type profile struct {
	Custodian string `json:"custodian"`
	Pin       string `json:"pin"`
	VaultID   string `json:"vault_id"`
	ChainID   string `json:"chain_id"`
	Node      string `json:"node"`
	Relay     string `json:"relay"`
	Height    uint64 `json:"trust_height"`
	Hash      string `json:"trust_hash"`
	Dev       string `json:"dev,omitempty"` // directory of the development stack
}

// locate finds the state directory.
func (a *app) locate() error {
	a.home = os.Getenv("AGENTKEYS_HOME")
	if a.home == "" {
		h, err := os.UserHomeDir()
		if err != nil {
			return errors.New("home: no HOME and no AGENTKEYS_HOME; set one of them")
		}
		a.home = filepath.Join(h, ".agentkeys")
	}
	a.stdin = bufio.NewReader(a.in)
	if a.profileName == "" {
		a.profileName = orID(os.Getenv("AGENTKEYS_PROFILE"), orID(a.chosenProfile(), "default"))
	}
	if _, err := agentkeys.ParseService(a.profileName); err != nil {
		return usageError{errors.New("--profile: use a-z, 0-9, '.', '_', '-'")}
	}
	return nil
}

func (a *app) path(parts ...string) string {
	return filepath.Join(append([]string{a.home}, parts...)...)
}

func (a *app) loadProfile() (p profile, err error) {
	err = a.readJSON(&p, "profiles", a.profileName+".json")
	if errors.Is(err, os.ErrNotExist) {
		return p, fmt.Errorf("profile %s does not exist; start a development stack: agentkeys dev start", a.profileName)
	}
	return p, err
}

func (a *app) readJSON(v any, parts ...string) error {
	b, err := os.ReadFile(a.path(parts...))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", a.path(parts...), err)
	}
	return nil
}

func (a *app) writeJSON(v any, parts ...string) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	path := a.path(parts...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// dial makes a client without a session.
func (a *app) dial() (*client.Client, profile, error) {
	p, err := a.loadProfile()
	if err != nil {
		return nil, p, err
	}
	vault, err := agentkeys.ParseVaultID(p.VaultID)
	if err != nil {
		return nil, p, fmt.Errorf("profile %s: vault id: %w", a.profileName, err)
	}
	c, err := client.Dial(client.Endpoint{URL: p.Custodian, Pin: p.Pin, Vault: vault})
	return c, p, err
}

// insideRun is the agent whose command this program was started by, "" outside a run.
func insideRun() string { return os.Getenv("AGENTKEYS_RUN") }

// outsideRun refuses the owner's session and wallet inside a run: an agent that shares
// the user id does not get them by asking for them, nor has it the owner asked.
func outsideRun() error {
	if insideRun() == "" {
		return nil
	}
	return &api.Error{Status: 403, Code: "owner_refused", Message: "the owner's profile is not used inside agentkeys run",
		Next: "Ask the owner to do this in a shell of their own. Do not retry"}
}

// owner gives the owner's session, renewed with the wallet where it has ended.
func (a *app) owner(ctx context.Context) (*client.Client, error) {
	if err := outsideRun(); err != nil {
		return nil, err
	}
	c, err := a.resumed()
	if err == nil {
		if _, err := c.WhoAmI(ctx); err == nil {
			return c, nil
		} else if api.CodeOf(err) == "unreachable" || api.Passing(err) {
			return nil, err // nothing is wrong with the session
		}
	}
	if c, _, err = a.dial(); err != nil {
		return nil, err
	}
	a.over = true
	return c, a.login(ctx, c, 0)
}

// resumed is a client with the owner's session that is kept here, live or not.
func (a *app) resumed() (*client.Client, error) {
	if err := outsideRun(); err != nil {
		return nil, err
	}
	c, _, err := a.dial()
	if err != nil {
		return nil, err
	}
	var s client.State
	if err := a.readJSON(&s, "sessions", a.profileName+".json"); err != nil {
		return nil, err
	}
	return c, c.Resume(s)
}

// login opens a session with the owner's wallet and keeps it.
func (a *app) login(ctx context.Context, c *client.Client, ttl time.Duration) error {
	w, err := a.openWallet()
	if err != nil {
		return err
	}
	defer w.Zero()
	if err := c.Login(ctx, w, w.Wallet(), ttl); err != nil {
		return err
	}
	return a.writeJSON(c.State(), "sessions", a.profileName+".json")
}

// askTerminal prompts on the terminal itself, so that pipes stay data.
func askTerminal(prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, usageError{errors.New("passphrase: no terminal to ask on; name a file with it in AGENTKEYS_PASSPHRASE_FILE")}
	}
	defer tty.Close()
	fmt.Fprint(tty, prompt)
	b, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return b, err
}

// openWallet decrypts the owner's wallet: this is the owner's presence.
func (a *app) openWallet() (eip712.Key, error) {
	if err := outsideRun(); err != nil {
		return eip712.Key{}, err
	}
	var f walletFile
	if err := a.readJSON(&f, "wallet.json"); errors.Is(err, os.ErrNotExist) {
		return eip712.Key{}, errors.New("there is no wallet here yet; make one: agentkeys init")
	} else if err != nil {
		return eip712.Key{}, err
	}
	pass, err := a.passphrase(a.askPassphrase)
	if err != nil {
		return eip712.Key{}, err
	}
	return f.open(pass)
}
