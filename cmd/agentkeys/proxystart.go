package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/client"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/proxy"
	"example.org/agentkeys/statement"
)

// proxyLife is how long the owner admits the proxy; a start renews it when less than
// proxyRenew is left.
const (
	proxyLife  = 30 * 24 * time.Hour
	proxyRenew = 7 * 24 * time.Hour
)

// proxyInput is what the proxy's process reads from its standard input, once.
type proxyInput struct {
	proxyFlags
	Key    []byte  `json:"key"` // wallet, 32
	CA     []byte  `json:"ca"`  // P-256 scalar, 32
	User   string  `json:"user"`
	At     profile `json:"at"`
	Socket string  `json:"socket"`

	wallet agentkeys.Wallet
}

func (in *proxyInput) wipe() { clear(in.Key); clear(in.CA) }

// proxySecrets opens the proxy's file, or makes one: wallet key 32 and CA key 32, under
// the owner's passphrase.
func (a *app) proxySecrets(cl *client.Client) (in proxyInput, err error) {
	if in.At, err = a.loadProfile(); err != nil {
		return in, err
	}
	in.User, in.Socket = cl.User().String(), a.socket()
	pass, err := a.passphrase(a.askPassphrase)
	if err != nil {
		return in, err
	}
	var f walletFile
	err = a.readJSON(&f, "proxy.json")
	if errors.Is(err, os.ErrNotExist) {
		if f, err = newProxyFile(pass); err == nil {
			err = a.writeJSON(f, "proxy.json")
		}
	}
	if err != nil {
		return in, err
	}
	b, err := f.openBytes(pass, proxyPurpose)
	if err != nil {
		return in, fmt.Errorf("proxy.json: %w; with another passphrase since, delete it and start again", err)
	}
	if len(b) != 64 {
		return in, errors.New("proxy.json: damaged; delete it and start again")
	}
	in.Key, in.CA = b[:32:32], b[32:]
	in.wallet, err = agentkeys.ParseWallet(f.Wallet)
	return in, err
}

const proxyPurpose = " proxy"

func newProxyFile(pass agentkeys.Secret) (f walletFile, err error) {
	k, err := eip712.NewKey()
	if err != nil {
		return f, err
	}
	defer k.Zero()
	ca, err := proxy.NewCA()
	if err != nil {
		return f, err
	}
	secret, err := ca.Secret()
	if err != nil {
		return f, err
	}
	defer secret.Wipe()
	key := k.Bytes()
	b := append(append(make([]byte, 0, 64), key...), secret.Reveal()...)
	clear(key)
	defer clear(b)
	return sealBytes(k.Wallet(), b, pass, proxyPurpose)
}

// admitProxy has the owner admit the proxy's wallet where that is over, or nearly.
func (a *app) admitProxy(ctx context.Context, cl *client.Client, owner eip712.Key, wallet agentkeys.Wallet) error {
	row, err := findAgent(ctx, cl, wallet)
	if err != nil {
		return err
	}
	now := time.Now()
	if row.Role == "proxy" && row.Expires > uint64(now.Add(proxyRenew).Unix()) {
		return nil
	}
	acc, err := cl.Submit(ctx, owner, statement.AdmitAgent{User: cl.User(), Agent: wallet, Role: statement.RoleProxy, Counter: row.Counter,
		Expires: uint64(now.Add(proxyLife).Unix())})
	if err != nil {
		return err
	}
	return accepted(acc)
}

const proxyWithin = 15 * time.Second

// spawnProxy starts the process in a session of its own and waits until it is ready.
func (a *app) spawnProxy(ctx context.Context, in proxyInput) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(in.Socket), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(a.path("proxy", a.profileName+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(self, "proxy", "serve")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "AGENTKEYS_HOME=" + a.home} // nothing else of the owner's environment
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.SysProcAttr = log, log, []*os.File{w}, &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.Close()
		return err
	}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	_, err = stdin.Write(b)
	clear(b)
	if err := errors.Join(err, stdin.Close()); err != nil {
		return err
	}
	return a.awaitReady(ctx, r, log.Name())
}

// awaitReady waits for the line of package service.
func (a *app) awaitReady(ctx context.Context, r io.Reader, log string) error {
	line := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(r, 4096))
		line <- string(b)
	}()
	select {
	case s := <-line:
		if !strings.HasPrefix(s, "ready ") {
			return fmt.Errorf("proxy: it did not start; its log: %s\n%s", log, lastLines(log))
		}
		return nil
	case <-time.After(proxyWithin):
		return fmt.Errorf("proxy: not ready after %v; its log: %s", proxyWithin, log)
	case <-ctx.Done():
		return ctx.Err()
	}
}
