package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/internal/service"
	"example.org/agentkeys/proxy"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func proxyServe(a *app) *cobra.Command {
	return &cobra.Command{Use: "serve", Hidden: true, Short: "The proxy's process, started by proxy start", Args: exactly(0, "no arguments"), Example: "  agentkeys proxy serve < secrets",
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Before any secret is here.
			if err := proxy.Harden(); err != nil {
				return err
			}
			var in proxyInput
			b, err := io.ReadAll(io.LimitReader(a.stdin, 1<<20))
			if err == nil {
				err = json.Unmarshal(b, &in)
			}
			clear(b)
			if err != nil {
				return usageError{errors.New("proxy serve is started by: agentkeys proxy start")}
			}
			return serveProxy(cmd.Context(), in)
		}}
}

// serveProxy runs until it is stopped. Keys are in this process only.
func serveProxy(ctx context.Context, in proxyInput) error {
	log := service.Logger("proxy", slog.LevelInfo)
	vault, ca, err := proxyIdentity(in)
	in.wipe()
	if err != nil {
		return err
	}
	defer vault.key.Zero()
	if err := vault.login(ctx); err != nil {
		return err
	}
	cfg := proxy.Config{Vault: vault, Wallet: vault.key.Wallet(), CA: ca, Resolve: in.Resolve, Log: log}
	if in.Others == "refuse" {
		cfg.Others = proxy.Refuse
	}
	if len(in.Roots) > 0 {
		if cfg.Roots, err = x509.SystemCertPool(); err != nil {
			return err
		}
		cfg.Roots.AppendCertsFromPEM(in.Roots)
	}
	p, err := proxy.New(cfg)
	if err != nil {
		return err
	}
	traffic, err := net.Listen("tcp", in.Listen)
	if err != nil {
		return fmt.Errorf("proxy: %w; choose another with --listen", err)
	}
	lock, err := claim(in.Socket)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Nobody else is there: what lies there is left over.
	if err := os.Remove(in.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	control, err := net.Listen("unix", in.Socket)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if err := os.Chmod(in.Socket, 0o600); err != nil {
		return err
	}
	if err := service.Ready(struct {
		Address string `json:"address"`
	}{traffic.Addr().String()}); err != nil {
		return err
	}
	log.Info("started", "address", traffic.Addr().String())
	err = p.Run(ctx, traffic, control)
	log.Info("ended", "error", fmt.Sprint(err))
	return err
}

// claim takes the place of the one proxy of a profile, until the file is closed or the
// process ends.
func claim(socket string) (*os.File, error) {
	f, err := os.OpenFile(socket+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("proxy: another one of this profile runs, or is still ending; see: agentkeys proxy status")
	}
	return f, nil
}

func proxyIdentity(in proxyInput) (*proxySession, *proxy.CA, error) {
	key, err := eip712.ParseKey(in.Key)
	if err != nil {
		return nil, nil, err
	}
	secret := agentkeys.NewSecret(append([]byte(nil), in.CA...))
	defer secret.Wipe()
	ca, err := proxy.ParseCA(secret)
	if err != nil {
		return nil, nil, err
	}
	user, err := agentkeys.ParseWallet(in.User)
	if err != nil {
		return nil, nil, err
	}
	id, err := agentkeys.ParseVaultID(in.At.VaultID)
	if err != nil {
		return nil, nil, err
	}
	c, err := client.Dial(client.Endpoint{URL: in.At.Custodian, Pin: in.At.Pin, Vault: id})
	if err != nil {
		return nil, nil, err
	}
	login := func(ctx context.Context) error { return c.Login(ctx, key, user, 0) }
	return &proxySession{renewed: renewed{expires: c.Expires, login: login}, c: c, key: key}, ca, nil
}

// renewed is a session that is renewed before it ends, and when the custodian says that
// it has ended.
type renewed struct {
	expires func() time.Time
	login   func(context.Context) error
	mu      sync.Mutex
}

// renewBefore is how long before its end a session is renewed.
const renewBefore = 5 * time.Minute

// with makes a call in a live session.
func (r *renewed) with(ctx context.Context, call func() error) error {
	ends := r.expires()
	if time.Until(ends) < renewBefore {
		if err := r.renew(ctx, ends); err != nil {
			return err
		}
		ends = r.expires()
	}
	err := call()
	if api.CodeOf(err) != "session_expired" {
		return err
	}
	if err := r.renew(ctx, ends); err != nil {
		return err
	}
	return call()
}

// renew logs in again, unless somebody has since the end was read.
func (r *renewed) renew(ctx context.Context, ends time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.expires().Equal(ends) {
		return nil
	}
	return r.login(ctx)
}

// proxySession is the proxy's session at the custodian.
type proxySession struct {
	renewed
	c   *client.Client
	key eip712.Key
}

func (s *proxySession) Use(ctx context.Context, d api.Delegation, name agentkeys.Service, instance string) (l client.Lease, err error) {
	err = s.with(ctx, func() (err error) { l, err = s.c.Use(ctx, d, name, instance); return err })
	return l, err
}

func (s *proxySession) Watch(ctx context.Context, in api.Watch) (w api.Watched, err error) {
	err = s.with(ctx, func() (err error) { w, err = s.c.Watch(ctx, in); return err })
	return w, err
}
