package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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

// trustStore is how a system is made to trust a certificate, and how that is undone.
type trustStore struct {
	file   string     // is written, or given to the commands
	add    []string   // command after it
	remove [][]string // the file is deleted between the first and the rest
}

// storeOf knows Debian's and Fedora's stores and macOS's keychain. AGENTKEYS_TRUST_ROOT
// moves the folders, for tests.
func (a *app) storeOf() (trustStore, error) {
	root := os.Getenv("AGENTKEYS_TRUST_ROOT")
	name := "agentkeys-" + a.profileName + ".crt"
	if runtime.GOOS == "darwin" {
		file := a.path("proxy", name)
		return trustStore{file, []string{"security", "add-trusted-cert", "-d", "-r", "trustRoot", "-p", "ssl", "-k", "/Library/Keychains/System.keychain", file},
			[][]string{{"security", "remove-trusted-cert", "-d", file}}}, nil
	}
	for dir, update := range map[string]string{"/usr/local/share/ca-certificates": "update-ca-certificates", "/etc/pki/ca-trust/source/anchors": "update-ca-trust"} {
		if _, err := exec.LookPath(update); err == nil {
			return trustStore{filepath.Join(root+dir, name), []string{update}, [][]string{nil, {update}}}, nil
		}
	}
	return trustStore{}, errors.New("proxy ca: this system's trust store is not known; commands under agentkeys run trust the proxy without it")
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
	pem, err := ca.Certificate(rules)
	if err != nil {
		return err
	}
	s, err := a.storeOf()
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
	if err := os.MkdirAll(filepath.Dir(s.file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(s.file, pem, 0o644); err != nil {
		return fmt.Errorf("proxy ca: %w; run it as root", err)
	}
	if err := runTool(ctx, s.add); err != nil {
		return errors.Join(err, os.Remove(s.file))
	}
	return a.data(map[string]string{"installed": s.file}, func(w io.Writer) { fmt.Fprintln(w, "Installed", s.file) })
}

func (a *app) removeCA(ctx context.Context, yes bool) error {
	if err := outsideRun(); err != nil {
		return err
	}
	s, err := a.storeOf()
	if err != nil {
		return err
	}
	if _, err := os.Stat(s.file); errors.Is(err, os.ErrNotExist) {
		return a.data(map[string]string{"removed": ""}, func(w io.Writer) { fmt.Fprintln(w, "Nothing was installed.") })
	}
	fmt.Fprintf(a.err, "This deletes %s and updates the store.\n", s.file)
	if err := a.confirm(yes); err != nil {
		return err
	}
	for i, c := range s.remove {
		if err := runTool(ctx, c); err != nil {
			return err
		}
		if i == 0 {
			if err := os.Remove(s.file); err != nil {
				return fmt.Errorf("proxy ca: %w; run it as root", err)
			}
		}
	}
	return a.data(map[string]string{"removed": s.file}, func(w io.Writer) { fmt.Fprintln(w, "Removed", s.file) })
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

func runTool(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}
