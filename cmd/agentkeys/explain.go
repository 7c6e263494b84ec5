package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/credential"
	"github.com/spf13/cobra"
)

// explained says what becomes of an agent's call.
type explained struct {
	Agent   string        `json:"agent"`
	URL     string        `json:"url"`
	Verdict string        `json:"verdict"` // allow, deny
	Service string        `json:"service,omitempty"`
	Rule    string        `json:"rule,omitempty"`
	How     string        `json:"how,omitempty"`
	Reason  string        `json:"reason"`
	Next    string        `json:"next,omitempty"`
	Others  []explainedBy `json:"credentials"` // every live grant, and why it is not this one
}

type explainedBy struct {
	Service string `json:"service"`
	Mode    string `json:"mode"`
	Rule    string `json:"rule"`
	Reason  string `json:"reason"`
}

func explainCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "explain AGENT URL", Short: "Which key an agent's call to a URL would get, and why", Args: exactly(2, "an AGENT and a URL"),
		Long:    "Says whether the proxy would put a key on an agent's call, which one, and by which rule. The exit code is 0 for\nallow and 1 for deny. Nothing is called.",
		Example: "  agentkeys explain scribe https://api.github.com/user",
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := a.explain(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if err := a.data(x, func(w io.Writer) { printExplained(w, x) }); err != nil {
				return err
			}
			if x.Verdict != "allow" {
				return exitCode(exitError)
			}
			return nil
		}}
}

// target is the host and port of a URL.
func target(text string) (host string, port uint16, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "wss" && u.Scheme != "ws" {
		return "", 0, usageError{fmt.Errorf("%s: want a URL such as https://api.github.com/user", text)}
	}
	port = 443
	if u.Scheme == "http" || u.Scheme == "ws" {
		port = 80
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return "", 0, usageError{fmt.Errorf("%s: the port is none", text)}
		}
		port = uint16(n)
	}
	return u.Hostname(), port, nil
}

func (a *app) explain(ctx context.Context, agent, text string) (x explained, err error) {
	host, port, err := target(text)
	if err != nil {
		return x, err
	}
	k, err := a.agentKey(agent)
	if err != nil {
		return x, err
	}
	wallet := k.Wallet()
	k.Zero()
	cl, l, err := a.listing(ctx)
	if err != nil {
		return x, err
	}
	x = explained{Agent: agent, URL: text, Verdict: "deny", Others: []explainedBy{}}
	granted, err := grantedRules(ctx, cl, l, wallet)
	if err != nil {
		return x, err
	}
	var matches []granting
	for _, g := range granted {
		rule, ok := g.match(host, port)
		by := explainedBy{g.Service, g.Mode, rule, "names this host"}
		if !ok {
			by.Reason = "names other hosts"
		} else {
			matches = append(matches, g)
		}
		x.Others = append(x.Others, by)
	}
	x.decide(l, agent, host, matches)
	return x, nil
}

// decide fills in the verdict.
func (x *explained) decide(l api.Listing, agent, host string, matches []granting) {
	switch len(matches) {
	case 1:
		g := matches[0]
		x.Service, x.How = g.Service, howOf(g.rules)
		x.Rule, _ = g.match(host, g.port)
		if credential.Kind(g.rules.Kind) == credential.Other {
			x.Reason = "it is of kind other, which never goes on the wire"
			x.Next = "agentkeys replace " + g.Service + " --kind bearer"
			return
		}
		x.Verdict, x.Reason = "allow", agent+" may "+g.Mode+" "+g.Service+" until "+when(g.Expires)
	case 0:
		x.Reason = "no live grant of " + agent + " names " + host + ", so no key is put on the call"
		x.Next = "agentkeys grant NAME --to " + agent + "; hosts are given with: agentkeys store NAME --host " + host
	default:
		x.Reason = matches[0].Service + " and " + matches[1].Service + " both name " + host
		x.Next = "agentkeys grant revoke " + matches[1].Service + " --to " + agent
	}
}

func howOf(r api.Rules) string {
	for word, k := range kinds {
		if uint8(k) == r.Kind {
			return word
		}
	}
	return "other"
}

func printExplained(w io.Writer, x explained) {
	fmt.Fprintf(w, "%s: %s\n", x.Verdict, x.Reason)
	if x.Service != "" {
		fmt.Fprintf(w, "credential %s, rule %s, as %s\n", x.Service, x.Rule, x.How)
	}
	if x.Next != "" {
		fmt.Fprintf(w, "Next: %s\n", x.Next)
	}
	if len(x.Others) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CREDENTIAL\tMODE\tRULES\tREASON")
	for _, o := range x.Others {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", o.Service, o.Mode, o.Rule, o.Reason)
	}
	t.Flush()
}

// granting is a live grant with where its credential may go.
type granting struct {
	api.Grant
	rules api.Rules
	port  uint16 // of the match
}

// match gives the rule that names a host, or else all of them.
func (g *granting) match(host string, port uint16) (rule string, ok bool) {
	for _, h := range hostRules(g.rules) {
		if h.Matches(host, port) {
			g.port = port
			return fmt.Sprintf("%s:%d", h.Pattern, h.Port), true
		}
		if rule != "" {
			rule += " "
		}
		rule += fmt.Sprintf("%s:%d", h.Pattern, h.Port)
	}
	return rule, false
}

func hostRules(r api.Rules) (rules []credential.HostRule) {
	for _, h := range r.Hosts {
		rules = append(rules, credential.HostRule{Pattern: h.Pattern, Port: h.Port})
	}
	return rules
}

// grantedRules gives an agent's live grants with their rules.
func grantedRules(ctx context.Context, cl *client.Client, l api.Listing, agent agentkeys.Wallet) (out []granting, err error) {
	for _, g := range l.Grants {
		if !g.Live || g.Agent != agent.String() || g.Mode == "none" {
			continue
		}
		slot := agentkeys.Wallet{}
		if g.Slot == "own" {
			slot = agent
		}
		r, err := cl.Rules(ctx, agentkeys.Service(g.Service), slot)
		if api.CodeOf(err) == "not_found" {
			continue // granted, and not stored yet
		}
		if err != nil {
			return nil, err
		}
		out = append(out, granting{Grant: g, rules: r})
	}
	return out, nil
}

// refuseOverlap refuses a grant of a credential that names a host which another live
// grant of the agent names: it would not be clear which key a call gets.
func (a *app) refuseOverlap(ctx context.Context, cl *client.Client, name agentkeys.Service, own bool, agent agentkeys.Wallet, to string) error {
	slot := agentkeys.Wallet{}
	if own {
		slot = agent
	}
	mine, err := cl.Rules(ctx, name, slot)
	if api.CodeOf(err) == "not_found" {
		return nil
	}
	if err != nil {
		return err
	}
	l, err := cl.List(ctx)
	if err != nil {
		return err
	}
	others, err := grantedRules(ctx, cl, l, agent)
	if err != nil {
		return err
	}
	for _, g := range others {
		if g.Service == string(name) {
			continue
		}
		if r, clash := credential.Overlap(hostRules(mine), hostRules(g.rules)); clash {
			return &api.Error{Status: 409, Code: "hosts_overlap", Message: fmt.Sprintf("%s and %s, which %s has, both name %s:%d", name, g.Service, to, r.Pattern, r.Port),
				Next: "Withdraw the other: agentkeys grant revoke " + g.Service + " --to " + to}
		}
	}
	return nil
}
