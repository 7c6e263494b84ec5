package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

// accepted turns a refused statement into an error.
func accepted(r api.Accepted) error {
	if r.Name == "ok" || r.Name == "already_applied" {
		return nil
	}
	return &api.Error{Status: 409, Code: r.Name, Message: r.Reason, Retry: r.Name == "stale"}
}

// valueFlags say where a secret value comes from: never from an argument.
type valueFlags struct {
	file   string
	hosts  []string
	kind   string
	header string
	agent  string
	idle   string
}

// kinds are how a value goes on the wire, by the words of --kind.
var kinds = map[string]credential.Kind{"bearer": credential.Bearer, "basic": credential.Basic, "header": credential.Token,
	"query": credential.Query, "sigv4": credential.SigV4, "other": credential.Other}

// metadata is a credential without its secret, as the flags say.
func (f *valueFlags) metadata() (c credential.Credential, err error) {
	if c.Hosts, err = parseHosts(f.hosts); err != nil {
		return c, err
	}
	kind := f.kind
	if kind == "" {
		if kind = "bearer"; len(c.Hosts) == 0 {
			kind = "other"
		}
	}
	ok := false
	if c.Kind, ok = kinds[kind]; !ok {
		return c, usageError{errors.New("--kind: want bearer, basic, header, query, sigv4 or other")}
	}
	c.Header = f.header
	switch {
	case c.Kind == credential.Token && !strings.Contains(f.header, "{secret}"):
		return c, usageError{errors.New(`--kind header wants --header "Name: {secret}"`)}
	case c.Kind == credential.Query && f.header == "":
		return c, usageError{errors.New("--kind query wants the parameter's name: --header key")}
	case f.header != "" && c.Kind != credential.Token && c.Kind != credential.Query:
		return c, usageError{errors.New("--header is for --kind header and --kind query")}
	}
	return c, nil
}

func (f *valueFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "file", "", "read the value from this file instead of standard input")
	c.Flags().StringArrayVar(&f.hosts, "host", nil, "host[:port] the value may be sent to, may be repeated; *.example.com for subdomains")
	c.Flags().StringVar(&f.kind, "kind", "", "how it goes on the wire: bearer (default), basic (user:password), header, query, sigv4 (id, line break, secret) or other (never)")
	c.Flags().StringVar(&f.header, "header", "", `with --kind header "Name: {secret}", with --kind query the parameter's name`)
	c.Flags().StringVar(&f.agent, "agent", "", "store it in this agent's own slot instead of the shared one")
	c.Flags().StringVar(&f.idle, "idle", "", "if nobody reads it until its epoch's window ends: carry or expire; else the vault's default")
}

// value reads the secret: a trailing newline is not part of it.
func (a *app) value(file, name string) (agentkeys.Secret, error) {
	var b []byte
	var err error
	switch {
	case file != "":
		b, err = readLimited(file)
	case a.inputIsTerminal():
		b, err = askTerminal("Value of " + name + ": ")
	default:
		b, err = io.ReadAll(io.LimitReader(a.stdin, credential.MaxSecret+3))
	}
	if err != nil {
		return agentkeys.Secret{}, err
	}
	b = trimNewline(b)
	if len(b) == 0 {
		return agentkeys.Secret{}, usageError{errors.New("value: it is empty; pipe it in, or use --file")}
	}
	if len(b) > credential.MaxSecret {
		return agentkeys.Secret{}, usageError{fmt.Errorf("value: longer than %d bytes", credential.MaxSecret)}
	}
	return agentkeys.NewSecret(b), nil
}

func (a *app) inputIsTerminal() bool {
	f, ok := a.in.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, credential.MaxSecret+3))
}

func trimNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}

func parseHosts(list []string) ([]credential.HostRule, error) {
	var rules []credential.HostRule
	for _, s := range list {
		host, port := s, "443"
		if i := strings.LastIndexByte(s, ':'); i >= 0 {
			host, port = s[:i], s[i+1:]
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, usageError{fmt.Errorf("--host %s: want host or host:port", s)}
		}
		rules = append(rules, credential.HostRule{Pattern: strings.ToLower(host), Port: uint16(n)})
	}
	return rules, nil
}

func parseIdle(s string) (statement.IdleRule, error) {
	switch s {
	case "":
		return 0, nil // the vault's default
	case "carry":
		return statement.IdleCarry, nil
	case "expire":
		return statement.IdleExpire, nil
	}
	return 0, usageError{errors.New("--idle: want carry or expire")}
}

// slot is the wallet of a named agent's own slot, zero for the shared one.
func (a *app) slot(name string) (agentkeys.Wallet, error) {
	if name == "" {
		return agentkeys.Wallet{}, nil
	}
	k, err := a.agentKey(name)
	if err != nil {
		return agentkeys.Wallet{}, err
	}
	defer k.Zero()
	return k.Wallet(), nil
}

func serviceArg(s string) (agentkeys.Service, error) {
	name, err := agentkeys.ParseService(s)
	if err != nil {
		return "", usageError{err}
	}
	return name, nil
}

// stored is the answer of store, replace and import.
type stored struct {
	Service string `json:"service"`
	Version uint64 `json:"version"`
	Epoch   uint32 `json:"epoch"`
	Height  uint64 `json:"height"`
}

func storeCommand(a *app) *cobra.Command {
	var f valueFlags
	c := &cobra.Command{Use: "store NAME", Short: "Store a credential; the value comes from standard input", Args: exactly(1, "one NAME"),
		Example: "  pass show github | agentkeys store github --host api.github.com\n  agentkeys store openai --file key.txt --host api.openai.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.store(cmd.Context(), args[0], f)
			if err != nil {
				return err
			}
			return a.data(s, func(w io.Writer) { fmt.Fprintf(w, "%s v%d\n", s.Service, s.Version) })
		}}
	f.add(c)
	return c
}

func (a *app) store(ctx context.Context, arg string, f valueFlags) (stored, error) {
	name, err := serviceArg(arg)
	if err != nil {
		return stored{}, err
	}
	cred, err := f.metadata()
	if err != nil {
		return stored{}, err
	}
	secret, err := a.value(f.file, arg)
	if err != nil {
		return stored{}, err
	}
	defer secret.Wipe()
	cred.Secret = secret
	if err := fits(cred); err != nil {
		return stored{}, err
	}
	slot, err := a.slot(f.agent)
	if err != nil {
		return stored{}, err
	}
	idle, err := parseIdle(f.idle)
	if err != nil {
		return stored{}, err
	}
	cl, err := a.owner(ctx)
	if err != nil {
		return stored{}, err
	}
	s, err := a.put(ctx, cl, name, slot, cred, idle, 0)
	if err != nil {
		return s, err
	}
	return s, a.tick(s.Service, orID(f.agent, sharedSlot), s.Version)
}

// fits refuses a value that its kind cannot put on the wire.
func fits(c credential.Credential) error {
	parts := bytes.Count(c.Secret.Reveal(), []byte("\n")) + 1
	switch {
	case c.Kind == credential.Basic && !bytes.Contains(c.Secret.Reveal(), []byte(":")):
		return usageError{errors.New("--kind basic wants user:password as the value")}
	case c.Kind == credential.SigV4 && parts != 2 && parts != 3:
		return usageError{errors.New("--kind sigv4 wants the value in lines: access key id, secret key, and if there is one the session token")}
	}
	return nil
}

// put writes one credential; previous 0 is a new slot.
func (a *app) put(ctx context.Context, cl *client.Client, name agentkeys.Service, slot agentkeys.Wallet, cred credential.Credential, idle statement.IdleRule, previous uint64) (stored, error) {
	if previous == 0 {
		w, err := cl.Write(ctx, name, slot, cred, idle, 0, nil)
		if api.CodeOf(err) == "conflict" || api.CodeOf(err) == "presence_required" {
			err = &api.Error{Status: 409, Code: "exists", Message: string(name) + " is stored already", Next: "To put a new value in its place: agentkeys replace " + string(name)}
		}
		return stored{string(name), w.Version, w.Epoch, w.Height}, err
	}
	k, err := a.openWallet()
	if err != nil {
		return stored{}, err
	}
	defer k.Zero()
	w, err := cl.Write(ctx, name, slot, cred, idle, previous, &k)
	return stored{string(name), w.Version, w.Epoch, w.Height}, err
}

func deleteCommand(a *app) *cobra.Command {
	var agent string
	c := &cobra.Command{Use: "delete NAME", Short: "Delete a credential (you are asked for your passphrase)", Args: exactly(1, "one NAME"), Example: "  agentkeys delete github",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := serviceArg(args[0])
			if err != nil {
				return err
			}
			slot, err := a.slot(agent)
			if err != nil {
				return err
			}
			cl, err := a.owner(cmd.Context())
			if err != nil {
				return err
			}
			it, err := cl.Item(cmd.Context(), name, slot)
			if err != nil {
				return err
			}
			id, err := agentkeys.ParseServiceID(it.ServiceID)
			if err != nil {
				return err
			}
			owner, err := agentkeys.ParseWallet(it.Agent)
			if err != nil {
				return err
			}
			acc, err := a.sign(cmd.Context(), cl, statement.Delete{User: cl.User(), Agent: owner, Service: id, Version: it.Version})
			if err != nil {
				return err
			}
			if err := a.tick(string(name), orID(agent, sharedSlot), it.Version); err != nil {
				return err
			}
			return a.data(acc, func(w io.Writer) {
				fmt.Fprintf(w, "%s deleted here; whoever has seen it can use it until you end it upstream\n", name)
			})
		}}
	c.Flags().StringVar(&agent, "agent", "", "in this agent's own slot")
	return c
}

// sign has the owner's wallet sign a statement and the chain accept it.
func (a *app) sign(ctx context.Context, cl *client.Client, body statement.Body) (api.Accepted, error) {
	k, err := a.openWallet()
	if err != nil {
		return api.Accepted{}, err
	}
	defer k.Zero()
	acc, err := cl.Submit(ctx, k, body)
	if err != nil {
		return acc, err
	}
	return acc, accepted(acc)
}
