package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/proxy"
	"github.com/spf13/cobra"
)

func proxyCA(a *app) *cobra.Command {
	c := group(&cobra.Command{Use: "ca", Short: "The proxy's certificate authority in this system's trust store",
		Example: "  agentkeys proxy ca install\n  agentkeys proxy ca remove"})
	var yes bool
	install := &cobra.Command{Use: "install", Short: "Trust the proxy on this system, for the hosts of what is stored now", Args: exactly(0, "no arguments"),
		Long:    "Commands under agentkeys run trust the proxy without this. It is for programs that look at the system's store\nalone. The certificate is good for 30 days and, with clients that honour name constraints, for the hosts of your\ncredentials only; install it again when those change. The key never leaves the proxy.",
		Example: "  agentkeys proxy ca install --yes",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.installCA(cmd.Context(), yes) }}
	remove := &cobra.Command{Use: "remove", Short: "Undo ca install", Args: exactly(0, "no arguments"), Example: "  agentkeys proxy ca remove --yes",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.removeCA(cmd.Context(), yes) }}
	for _, sub := range []*cobra.Command{install, remove} {
		sub.Flags().BoolVar(&yes, "yes", false, "do not ask")
		c.AddCommand(sub)
	}
	return c
}

func (a *app) installCA(ctx context.Context, yes bool) error {
	if err := outsideRun(); err != nil {
		return err
	}
	cl, l, err := a.listing(ctx)
	if err != nil {
		return err
	}
	var rules []credential.HostRule
	for _, it := range l.Credentials {
		slot, err := agentkeys.ParseWallet(it.Agent)
		if err != nil {
			return err
		}
		if slot == cl.User() {
			slot = agentkeys.Wallet{}
		}
		r, err := cl.Rules(ctx, agentkeys.Service(it.Service), slot)
		if err != nil {
			return err
		}
		rules = append(rules, hostRules(r)...)
	}
	in, err := a.proxySecrets(cl)
	if err != nil {
		return err
	}
	defer in.wipe()
	secret := agentkeys.NewSecret(append([]byte(nil), in.CA...))
	defer secret.Wipe()
	ca, err := proxy.ParseCA(secret)
	if err != nil {
		return err
	}
	certificate, err := ca.Certificate(rules)
	if err != nil {
		return err
	}
	s, err := storeOf(runtime.GOOS, a.home, a.profileName)
	if err != nil {
		return err
	}
	var hosts []string
	for _, r := range rules {
		hosts = append(hosts, r.Pattern)
	}
	fmt.Fprintf(a.err, "This writes %s and runs: %s\nfor the hosts %s, 30 days. Undo: agentkeys proxy ca remove\n", s.file, strings.Join(s.add, " "), strings.Join(sorted(hosts), " "))
	if err := a.confirm(yes); err != nil {
		return err
	}
	if err := s.install(ctx, certificate); err != nil {
		return a.asRoot(err)
	}
	return a.data(map[string]string{"installed": s.file}, func(w io.Writer) { fmt.Fprintln(w, "Installed", s.file) })
}

func (a *app) removeCA(ctx context.Context, yes bool) error {
	if err := outsideRun(); err != nil {
		return err
	}
	s, err := storeOf(runtime.GOOS, a.home, a.profileName)
	if err != nil {
		return err
	}
	if !s.installed() {
		return a.data(map[string]string{"removed": ""}, func(w io.Writer) { fmt.Fprintln(w, "Nothing was installed.") })
	}
	fmt.Fprintf(a.err, "This deletes %s and updates the store.\n", s.file)
	if err := a.confirm(yes); err != nil {
		return err
	}
	if err := s.undo(ctx); err != nil {
		return a.asRoot(err)
	}
	return a.data(map[string]string{"removed": s.file}, func(w io.Writer) { fmt.Fprintln(w, "Removed", s.file) })
}

// asRoot says how to do what only root may.
func (a *app) asRoot(err error) error {
	return fmt.Errorf("proxy ca: %w; only root may change a trust store: sudo env AGENTKEYS_HOME=%s agentkeys proxy ca install, or remove", err, a.home)
}

// confirm asks on the terminal.
func (a *app) confirm(yes bool) error {
	if yes {
		return nil
	}
	b, err := askTerminal("Go on? (type yes) ")
	if err != nil {
		return err
	}
	if string(bytes.TrimSpace(b)) != "yes" {
		return usageError{errors.New("cancelled; nothing was changed")}
	}
	return nil
}
