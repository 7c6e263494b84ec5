package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// trustStore is how a system is made to trust a certificate, and how that is undone.
type trustStore struct {
	file   string     // the certificate
	add    []string   // command when it is there
	before [][]string // commands before it is deleted
	after  [][]string // and after
}

const macKeychain = "/Library/Keychains/System.keychain"

// storeOf knows Debian's and Fedora's stores and macOS's keychain. AGENTKEYS_TRUST_ROOT
// moves the folders, for tests.
func storeOf(system, home, profile string) (trustStore, error) {
	root, name := os.Getenv("AGENTKEYS_TRUST_ROOT"), "agentkeys-"+profile+".crt"
	if system == "darwin" {
		file := filepath.Join(home, "proxy", name)
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

func (s trustStore) installed() bool {
	_, err := os.Stat(s.file)
	return err == nil
}

// install puts a certificate in the place of an earlier one. What fails is undone.
func (s trustStore) install(ctx context.Context, certificate []byte) error {
	if s.installed() {
		if err := s.undo(ctx); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(s.file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(s.file, certificate, 0o644); err != nil {
		return err
	}
	if err := runTool(ctx, s.add); err != nil {
		return errors.Join(err, os.Remove(s.file))
	}
	return nil
}

// undo takes exactly what was installed out again. What fails can be tried again.
func (s trustStore) undo(ctx context.Context) error {
	certificate, err := os.ReadFile(s.file)
	if err != nil {
		return err
	}
	for _, c := range s.before {
		if err := runTool(ctx, c); err != nil {
			return err
		}
	}
	if err := os.Remove(s.file); err != nil {
		return err
	}
	for _, c := range s.after {
		if err := runTool(ctx, c); err != nil {
			return errors.Join(err, os.WriteFile(s.file, certificate, 0o644))
		}
	}
	return nil
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

func runTool(ctx context.Context, args []string) error {
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}
