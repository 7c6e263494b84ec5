package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"example.org/agentkeys/credential"
	"example.org/agentkeys/proxy"
)

// reference stands for a key in an environment: agentkeys://NAME.
const reference = "agentkeys://"

// environment is a command's: what it inherits, with placeholders where keys were.
type environment struct {
	values map[string]string
	order  []string
	with   []string // services, each NAME or NAME=VARIABLE
	refs   map[string]string
}

// newEnvironment joins the inherited environment and the file, and finds the
// references.
func newEnvironment(inherited []string, f runFlags) (*environment, error) {
	e := &environment{values: map[string]string{}, refs: map[string]string{}, with: slices.Clone(f.with)}
	for _, kv := range inherited {
		name, value, _ := strings.Cut(kv, "=")
		e.set(name, value)
	}
	if f.envFile != "" {
		b, err := os.ReadFile(f.envFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("--env-file: %w", err)}
		}
		defer clear(b)
		lines, err := parseAssignments(b)
		if err != nil {
			return nil, usageError{fmt.Errorf("--env-file: %w", err)}
		}
		for _, l := range lines {
			e.set(l.name, l.value)
		}
	}
	for _, name := range e.order {
		service, ok := strings.CutPrefix(e.values[name], reference)
		if !ok {
			continue
		}
		if _, err := serviceArg(service); err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", name, err)}
		}
		e.refs[name] = service
		e.with = append(e.with, service+"="+name)
	}
	return e, nil
}

func (e *environment) set(name, value string) {
	if _, known := e.values[name]; !known {
		e.order = append(e.order, name)
	}
	e.values[name] = value
}

func (e *environment) unset(name string) {
	delete(e.values, name)
	e.order = slices.DeleteFunc(e.order, func(n string) bool { return n == name })
}

func (e *environment) list() (out []string) {
	for _, n := range e.order {
		out = append(out, n+"="+e.values[n])
	}
	return out
}

// names are the services, each once.
func (e *environment) names() (names []string) {
	for _, w := range e.with {
		if n, _ := named(w); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// minHashed is the shortest value that could be a key.
const minHashed = 8

// hashes are of the values that are inherited, so that the proxy can say which of them
// are stored keys.
func (e *environment) hashes() (hashes []string) {
	for _, n := range e.order {
		if len(e.values[n]) >= minHashed {
			hashes = append(hashes, hashOf(e.values[n]))
		}
	}
	return hashes
}

func hashOf(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// through sets what sends a command's calls through the proxy, and the placeholders.
func (e *environment) through(out proxy.Response, b *bundle) {
	for _, found := range out.Env {
		for _, n := range e.order {
			if hashOf(e.values[n]) == found.Env {
				e.set(n, found.Placeholder)
			}
		}
	}
	for _, w := range e.with {
		service, variable := named(w)
		for _, s := range out.Services {
			if s.Name != service || len(s.Placeholders) == 0 {
				continue
			}
			if credential.Kind(s.Kind) == credential.SigV4 {
				e.signs(s.Placeholders)
				if variable == "AWS_SECRET_ACCESS_KEY" || variable == "AWS_SESSION_TOKEN" || !strings.Contains(w, "=") {
					continue
				}
			}
			e.set(variable, s.Placeholders[0])
		}
	}
	for _, n := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		e.set(n, out.URL)
	}
	for _, n := range []string{"NO_PROXY", "no_proxy"} {
		e.set(n, direct(e.values[n], out.Services))
	}
	for _, n := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "PIP_CERT", "CARGO_HTTP_CAINFO"} {
		e.set(n, b.all)
	}
	for _, n := range []string{"NODE_EXTRA_CA_CERTS", "DENO_CERT"} {
		e.set(n, b.own)
	}
	e.set("NODE_USE_ENV_PROXY", "1")
}

// signs sets an AWS key's placeholders where its clients look.
func (e *environment) signs(placeholders []string) {
	e.set("AWS_ACCESS_KEY_ID", placeholders[0])
	e.set("AWS_SECRET_ACCESS_KEY", placeholders[1])
	e.unset("AWS_SESSION_TOKEN")
}

// direct adds loopback to what goes around the proxy, unless a credential is for it.
func direct(inherited string, services []proxy.Service) string {
	list := []string{}
	if inherited != "" {
		list = append(list, inherited)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		ours := slices.ContainsFunc(services, func(s proxy.Service) bool {
			return slices.ContainsFunc(s.Hosts, func(h string) bool { return strings.HasPrefix(h, host+":") })
		})
		if !ours {
			list = append(list, host)
		}
	}
	return strings.Join(list, ",")
}

// named splits NAME=VARIABLE; without a variable it is the one that import would take
// it from.
func named(s string) (service, variable string) {
	service, variable, ok := strings.Cut(s, "=")
	if !ok {
		variable = envName(service)
	}
	return service, variable
}

// bundle is what a command trusts: the system's authorities with the proxy's, and the
// proxy's alone. In a folder of its own that goes with the command.
type bundle struct{ dir, all, own string }

// systemRoots is where systems keep theirs.
var systemRoots = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"}

func newBundle(ca string) (*bundle, error) {
	roots, err := readRoots()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "agentkeys-run-")
	if err != nil {
		return nil, err
	}
	b := &bundle{dir, filepath.Join(dir, "ca-bundle.pem"), filepath.Join(dir, "proxy-ca.pem")}
	err = errors.Join(os.WriteFile(b.all, append(append(roots, '\n'), ca...), 0o600), os.WriteFile(b.own, []byte(ca), 0o600))
	if err != nil {
		b.remove()
		return nil, err
	}
	return b, nil
}

func readRoots() ([]byte, error) {
	for _, path := range append([]string{os.Getenv("SSL_CERT_FILE")}, systemRoots...) {
		if path == "" {
			continue
		}
		if b, err := os.ReadFile(path); err == nil {
			return b, nil
		}
	}
	return nil, errors.New("run: this system's certificate authorities were not found; name their file in SSL_CERT_FILE")
}

func (b *bundle) remove() { _ = os.RemoveAll(b.dir) }
