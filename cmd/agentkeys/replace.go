package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/proxy"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

// replaced is the answer of replace.
type replaced struct {
	stored
	Overwrote uint64 `json:"overwrote"`        // the version that is gone: the vault's pointer names the new one
	Check     string `json:"check,omitempty"`  // what the service says to the new value: ok, refused, unclear
	Status    int    `json:"status,omitempty"` // its HTTP status
}

func replaceCommand(a *app) *cobra.Command {
	var f valueFlags
	var check string
	c := &cobra.Command{Use: "replace [NAME]", Short: "Put a new value in the place of a stored one (you are asked for your passphrase)", Args: atMostOne,
		Long: `Stores a new value under a name. Kind, header and hosts stay as they are unless you give others. The old value is
overwritten: the vault names the new version from then on.

With --check the proxy then calls URL once with the new value, as an agent's call would go. That the call can be made
is known before anything is overwritten. 2xx and 3xx are ok. With 401 or 403 the service refuses the new value, and
everything else says nothing about it: the exit code is 1, the new value stays, and the name stays on the list.

Without NAME it shows that list: what revoked agents have seen and you have yet to replace.`,
		Example: "  agentkeys replace github < new-token.txt\n  agentkeys replace github --check https://api.github.com/user < new-token.txt\n  agentkeys replace",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.showTodos()
			}
			r, err := a.replace(cmd.Context(), args[0], f, check, cmd.Flags().Changed("idle"))
			if err != nil {
				return err
			}
			if check != "" {
				if r.Status, err = a.checkUpstream(cmd.Context(), r.Service, check); err != nil {
					return fmt.Errorf("%s v%d is stored, v%d is overwritten; the check: %w", r.Service, r.Version, r.Overwrote, err)
				}
			}
			return a.concludeReplace(r, orID(f.agent, sharedSlot), check)
		}}
	f.add(c)
	c.Flags().StringVar(&check, "check", "", "call this URL with the new value; its host must be one of the credential's")
	return c
}

// concludeReplace says what became of it, and ticks the list unless the service did not
// take the new value.
func (a *app) concludeReplace(r replaced, slot, check string) error {
	next := ""
	switch {
	case check == "":
	case r.Status < 400:
		r.Check = "ok"
	case r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden:
		r.Check, next = "refused", "it does not take the new value. Get one that works, then: "
	default:
		r.Check, next = "unclear", "that says nothing about the new value. With another URL: "
	}
	if next == "" {
		if err := a.tick(r.Service, slot, r.Version); err != nil {
			return err
		}
	}
	if err := a.data(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s v%d", r.Service, r.Version)
		if check != "" {
			fmt.Fprintf(w, ", upstream says %s (%d)", r.Check, r.Status)
		}
		fmt.Fprintln(w)
	}); err != nil || next == "" {
		return err
	}
	return fmt.Errorf("%s v%d is stored, v%d is overwritten, and %s answers %d: %s%s --check URL",
		r.Service, r.Version, r.Overwrote, check, r.Status, next, replaceLine(r.Service, slot))
}

func atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{errors.New("want one NAME, or none for the list of what to replace")}
	}
	return nil
}

// replace keeps what the flags do not say. What can be known before the old value is
// overwritten is asked before.
func (a *app) replace(ctx context.Context, arg string, f valueFlags, check string, idleSet bool) (r replaced, err error) {
	name, err := serviceArg(arg)
	if err != nil {
		return r, err
	}
	if check != "" && f.agent != "" {
		return r, usageError{errors.New("--check: only for the shared slot, which is what the proxy would call with")}
	}
	slot, err := a.slot(f.agent)
	if err != nil {
		return r, err
	}
	cl, err := a.owner(ctx)
	if err != nil {
		return r, err
	}
	old, err := cl.Item(ctx, name, slot)
	if err != nil {
		return r, err
	}
	idle := statement.IdleRule(old.Idle)
	if idleSet {
		if idle, err = parseIdle(f.idle); err != nil {
			return r, err
		}
	}
	cred, err := a.metadataOf(ctx, cl, name, slot, f)
	if err != nil {
		return r, err
	}
	if check != "" {
		if err := a.checkable(ctx, cred, check); err != nil {
			return r, err
		}
	}
	if cred.Secret, err = a.value(f.file, arg); err != nil {
		return r, err
	}
	defer cred.Secret.Wipe()
	if err := fits(cred); err != nil {
		return r, err
	}
	if r.stored, err = a.put(ctx, cl, name, slot, cred, idle, old.Version); err != nil {
		return r, err
	}
	r.Overwrote = old.Version
	return r, overwritten(ctx, cl, name, slot, old, r.Version)
}

// overwritten asks the vault which version it names now: only the new one.
func overwritten(ctx context.Context, cl *client.Client, name agentkeys.Service, slot agentkeys.Wallet, old api.Item, version uint64) error {
	now, err := cl.Item(ctx, name, slot)
	if err != nil {
		return fmt.Errorf("%s v%d is stored; whether v%d is gone could not be asked: %w", name, version, old.Version, err)
	}
	if now.Version != version || now.Hash == old.Hash {
		return fmt.Errorf("%s v%d was stored and the vault names v%d; see: agentkeys list, agentkeys verify", name, version, now.Version)
	}
	return nil
}

// metadataOf takes from the flags what they say, and from the stored credential the
// rest.
func (a *app) metadataOf(ctx context.Context, cl *client.Client, name agentkeys.Service, slot agentkeys.Wallet, f valueFlags) (c credential.Credential, err error) {
	old, err := cl.Rules(ctx, name, slot)
	if err != nil {
		return c, err
	}
	moved := len(f.hosts) > 0
	if !moved {
		for _, h := range old.Hosts {
			f.hosts = append(f.hosts, fmt.Sprintf("%s:%d", h.Pattern, h.Port))
		}
	}
	if f.kind == "" && f.header == "" && (credential.Kind(old.Kind) != credential.Other || !moved) {
		for word, kind := range kinds {
			if kind == credential.Kind(old.Kind) {
				f.kind, f.header = word, old.Header
			}
		}
	}
	return f.metadata()
}

// checkable refuses a check that could not be made: it would be found out after the old
// value is gone.
func (a *app) checkable(ctx context.Context, cred credential.Credential, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" {
		return usageError{errors.New("--check: want an https URL")}
	}
	host, port, err := target(text)
	if err != nil {
		return err
	}
	if cred.Kind == credential.Other {
		return usageError{errors.New("--check: a credential of kind other never goes on the wire; give it --host and --kind")}
	}
	if !slices.ContainsFunc(cred.Hosts, func(h credential.HostRule) bool { return h.Matches(host, port) }) {
		return usageError{fmt.Errorf("--check: %s:%d is none of the credential's hosts; nothing was changed", host, port)}
	}
	s, err := a.proxyState(ctx)
	if err == nil && !s.Watching {
		err = errors.New("proxy: it does not hear the custodian; see: agentkeys doctor")
	}
	if err != nil {
		return fmt.Errorf("--check calls through the proxy, and nothing was changed: %w", err)
	}
	return nil
}

// checkUpstream calls a URL with a stored credential, through the proxy, on behalf of
// the owner's session: as an agent's call would go, and only to a host that the owner
// named.
func (a *app) checkUpstream(ctx context.Context, service, target string) (status int, err error) {
	cl, err := a.owner(ctx)
	if err != nil {
		return 0, err
	}
	control, out, err := a.startChild(ctx, cl, "owner", []string{service}, nil)
	if err != nil {
		return 0, err
	}
	defer control.Close()
	via, err := url.Parse(out.URL)
	if err != nil {
		return 0, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(out.CA))
	t := &http.Transport{Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer t.CloseIdleConnections()
	c := &http.Client{Transport: t, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, &api.Error{Status: 502, Code: "upstream_unreachable", Message: target + " cannot be called through the proxy",
			Next: "See: agentkeys explain AGENT " + target + ", and that its host is one of the credential's", Retry: true}
	}
	defer resp.Body.Close()
	if code := resp.Header.Get(proxy.RefusalHeader); code != "" {
		var refusal api.Error
		if err := api.Decode(resp.Body, api.MaxRequest, &refusal); err != nil {
			return 0, err
		}
		return 0, &refusal
	}
	return resp.StatusCode, nil
}
