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
	Check string `json:"check,omitempty"` // what the service said to the new value
}

func replaceCommand(a *app) *cobra.Command {
	var f valueFlags
	var check string
	c := &cobra.Command{Use: "replace [NAME]", Short: "Put a new value in the place of a stored one (you are asked for your passphrase)", Args: atMostOne,
		Long:    "Stores a new value under a name. Kind, header and hosts stay as they are unless you give others. With --check\nthe proxy then calls URL once with the new value, as an agent's call would go; the old value is overwritten\neither way, and the exit code is 1 when the service does not take the new one.\n\nWithout NAME it lists what revoked agents have seen and you have yet to replace.",
		Example: "  agentkeys replace github < new-token.txt\n  agentkeys replace github --check https://api.github.com/user < new-token.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.showTodos()
			}
			r := replaced{}
			var err error
			if r.stored, err = a.replace(cmd.Context(), args[0], f, cmd.Flags().Changed("idle")); err != nil {
				return err
			}
			if err := a.tick(args[0], r.Version); err != nil {
				return err
			}
			if check == "" {
				return a.data(r, func(w io.Writer) { fmt.Fprintf(w, "%s v%d\n", r.Service, r.Version) })
			}
			status, err := a.checkUpstream(cmd.Context(), r.Service, check)
			if err != nil {
				return fmt.Errorf("%s v%d is stored; the check: %w", r.Service, r.Version, err)
			}
			if r.Check = "ok"; status >= 400 {
				r.Check = "refused"
			}
			if err := a.data(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s v%d, upstream says %s (%d)\n", r.Service, r.Version, r.Check, status)
			}); err != nil {
				return err
			}
			if status >= 400 {
				return fmt.Errorf("%s v%d is stored, and %s answers %d to it; get a value that works there, then: agentkeys replace %s", r.Service, r.Version, check, status, r.Service)
			}
			return nil
		}}
	f.add(c)
	c.Flags().StringVar(&check, "check", "", "call this URL with the new value; its host must be one of the credential's")
	return c
}

func atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{errors.New("want one NAME, or none for the list of what to replace")}
	}
	return nil
}

// replace keeps what the flags do not say.
func (a *app) replace(ctx context.Context, arg string, f valueFlags, idleSet bool) (stored, error) {
	name, err := serviceArg(arg)
	if err != nil {
		return stored{}, err
	}
	slot, err := a.slot(f.agent)
	if err != nil {
		return stored{}, err
	}
	cl, err := a.owner(ctx)
	if err != nil {
		return stored{}, err
	}
	it, err := cl.Item(ctx, name, slot)
	if err != nil {
		return stored{}, err
	}
	idle := statement.IdleRule(it.Idle)
	if idleSet {
		if idle, err = parseIdle(f.idle); err != nil {
			return stored{}, err
		}
	}
	cred, err := a.metadataOf(ctx, cl, name, slot, f)
	if err != nil {
		return stored{}, err
	}
	if cred.Secret, err = a.value(f.file, arg); err != nil {
		return stored{}, err
	}
	defer cred.Secret.Wipe()
	return a.put(ctx, cl, name, slot, cred, idle, it.Version)
}

// metadataOf takes from the flags what they say, and from the stored credential the
// rest.
func (a *app) metadataOf(ctx context.Context, cl *client.Client, name agentkeys.Service, slot agentkeys.Wallet, f valueFlags) (c credential.Credential, err error) {
	old, err := cl.Rules(ctx, name, slot)
	if err != nil {
		return c, err
	}
	if len(f.hosts) == 0 {
		for _, h := range old.Hosts {
			f.hosts = append(f.hosts, fmt.Sprintf("%s:%d", h.Pattern, h.Port))
		}
	}
	if f.kind == "" && f.header == "" && credential.Kind(old.Kind) != credential.Other {
		for word, kind := range kinds {
			if kind == credential.Kind(old.Kind) {
				f.kind, f.header = word, old.Header
			}
		}
	}
	return f.metadata()
}

// checkUpstream calls a URL with a stored credential, through the proxy, on behalf of
// the owner's session: as an agent's call would go, and only to a host that the owner
// named.
func (a *app) checkUpstream(ctx context.Context, service, target string) (status int, err error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return 0, usageError{errors.New("--check: want an https URL")}
	}
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
