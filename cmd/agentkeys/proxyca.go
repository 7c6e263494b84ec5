package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/pem"
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
	file   string     // is written first, and deleted by remove
	add    []string   // command after it
	before [][]string // the file is deleted
	after  [][]string
}

const macKeychain = "/Library/Keychains/System.keychain"

// storeOf knows Debian's and Fedora's stores and macOS's keychain. AGENTKEYS_TRUST_ROOT
// moves the folders, for tests.
func (a *app) storeOf(system string) (trustStore, error) {
	root, name := os.Getenv("AGENTKEYS_TRUST_ROOT"), "agentkeys-"+a.profileName+".crt"
	if system == "darwin" {
		file := a.path("proxy", name)
		s := trustStore{file: file, add: []string{"security", "add-trusted-cert", "-d", "-r", "trustRoot", "-p", "ssl", "-k", macKeychain, file}}
		if hash, err := certificateHash(file); err == nil {
			s.before = [][]string{{"security", "remove-trusted-cert", "-d", file}, {"security", "delete-certificate", "-Z", hash, macKeychain}}
		}
		return s, nil
	}
	for _, known := range [][2]string{{"/usr/local/share/ca-certificates", "update-ca-certificates"}, {"/etc/pki/ca-trust/source/anchors", "update-ca-trust"}} {
		if _, err := exec.LookPath(known[1]); err == nil {
			return trustStore{file: filepath.Join(root+known[0], name), add: []string{known[1]}, after: [][]string{{known[1]}}}, nil
		}
	}
	return trustStore{}, errors.New("proxy ca: this system's trust store is not known; commands under agentkeys run trust the proxy without it, and to a program that does not, give the file that SSL_CERT_FILE names there")
}

// certificateHash is what macOS's keychain finds a certificate by: SHA-1, hex.
func certificateHash(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return "", errors.New(file + " is no certificate")
	}
	return fmt.Sprintf("%X", sha1.Sum(block.Bytes)), nil
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
	s, err := a.storeOf(runtime.GOOS)
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
	if err := errors.Join(os.MkdirAll(filepath.Dir(s.file), 0o755), os.WriteFile(s.file, certificate, 0o644)); err != nil {
		return a.asRoot(err)
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
	s, err := a.storeOf(runtime.GOOS)
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
	for _, c := range s.before {
		if err := runTool(ctx, c); err != nil {
			return err
		}
	}
	if err := os.Remove(s.file); err != nil {
		return a.asRoot(err)
	}
	for _, c := range s.after {
		if err := runTool(ctx, c); err != nil {
			return err
		}
	}
	return a.data(map[string]string{"removed": s.file}, func(w io.Writer) { fmt.Fprintln(w, "Removed", s.file) })
}

// asRoot says how to do what only root may.
func (a *app) asRoot(err error) error {
	return fmt.Errorf("proxy ca: %w; as root: sudo env AGENTKEYS_HOME=%s agentkeys proxy ca install (or remove)", err, a.home)
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
