package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

func grantCommand(a *app) *cobra.Command {
	var to, period string
	var reveal, own bool
	c := &cobra.Command{Use: "grant NAME --to AGENT", Short: "Let an agent use a credential (you are asked for your passphrase)",
		Long:    "Grants one credential to one agent. Without --reveal the agent may use it through a proxy only and never sees\nthe value; with --reveal it may read the value, and each reading is recorded as SEEN.",
		Example: "  agentkeys grant github --to scribe --for 1h\n  agentkeys grant billing --to biller --reveal",
		Args:    exactly(1, "one NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError{fmt.Errorf("want --to AGENT")}
			}
			d, err := forDuration(period)
			if err != nil {
				return err
			}
			mode := statement.ModeUse
			if reveal {
				mode = statement.ModeReveal
			}
			acc, err := a.grant(cmd.Context(), args[0], to, mode, own, d)
			if err != nil {
				return err
			}
			return a.data(acc, func(w io.Writer) {
				verb := "use"
				if reveal {
					verb = "read"
				}
				fmt.Fprintf(w, "%s may %s %s for %s\n", to, verb, args[0], period)
				a.explainGrant(cmd.Context(), w, args[0], to)
			})
		}}
	c.Flags().StringVar(&to, "to", "", "the agent")
	c.Flags().StringVar(&period, "for", "1h", "how long, such as 1h or 7d")
	c.Flags().BoolVar(&reveal, "reveal", false, "the agent may read the value")
	c.Flags().BoolVar(&own, "own", false, "the agent's own slot instead of the shared one")
	c.AddCommand(grantList(a), grantRevoke(a))
	return c
}

// grant signs the next version of the grant's row.
func (a *app) grant(ctx context.Context, arg, to string, mode statement.Mode, own bool, d time.Duration) (api.Accepted, error) {
	name, err := serviceArg(arg)
	if err != nil {
		return api.Accepted{}, err
	}
	k, err := a.agentKey(to)
	if err != nil {
		return api.Accepted{}, err
	}
	agent := k.Wallet()
	k.Zero()
	cl, err := a.owner(ctx)
	if err != nil {
		return api.Accepted{}, err
	}
	g := statement.Grant{User: cl.User(), Agent: agent, Mode: mode, Slot: statement.SlotShared, Expires: uint64(time.Now().Add(d).Unix())}
	if own {
		g.Slot = statement.SlotOwn
	}
	if mode != statement.ModeNone {
		if err := a.refuseOverlap(ctx, cl, name, own, agent, to); err != nil {
			return api.Accepted{}, err
		}
	}
	if err := fillGrant(ctx, cl, name, &g); err != nil {
		return api.Accepted{}, err
	}
	return a.sign(ctx, cl, g)
}

// explainGrant ends a grant by saying what it does for each host.
func (a *app) explainGrant(ctx context.Context, w io.Writer, arg, to string) {
	cl, l, err := a.listing(ctx)
	if err != nil {
		return
	}
	k, err := a.agentKey(to)
	if err != nil {
		return
	}
	wallet := k.Wallet()
	k.Zero()
	granted, err := grantedRules(ctx, cl, l, wallet)
	if err != nil {
		fmt.Fprintln(w, "What it does is not known now; see: agentkeys explain", to, "URL")
		return
	}
	for _, g := range granted {
		if g.Service != arg {
			continue
		}
		if len(g.rules.Hosts) == 0 {
			fmt.Fprintf(w, "  %s names no host, so the proxy puts it nowhere. Name one: agentkeys replace %s --host HOST\n", arg, arg)
		}
		for _, h := range g.rules.Hosts {
			fmt.Fprintf(w, "  https://%s:%d  allow: %s as %s\n", h.Pattern, h.Port, arg, howOf(g.rules))
		}
	}
}

// fillGrant adds what the rows say: the grant's version, the agent's counter, and
// the name as the wallet and the chain carry it.
func fillGrant(ctx context.Context, cl *client.Client, name agentkeys.Service, g *statement.Grant) error {
	tag, err := cl.TagKey(ctx)
	if err != nil {
		return err
	}
	defer tag.Wipe()
	label, err := tag.Label(name)
	if err != nil {
		return err
	}
	g.Service = eip712.ServiceID(label)
	if g.SealedName, err = tag.SealName(g.User, g.Service, name); err != nil {
		return err
	}
	l, err := cl.List(ctx)
	if err != nil {
		return err
	}
	for _, r := range l.Agents {
		if r.Agent == g.Agent.String() {
			g.Counter = r.Counter
		}
	}
	for _, r := range l.Grants {
		if r.Agent == g.Agent.String() && r.ServiceID == g.Service.String() {
			g.Previous = r.Version
		}
	}
	return nil
}

func grantList(a *app) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List grants", Args: exactly(0, "no arguments"), Example: "  agentkeys grant list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, l, err := a.listing(cmd.Context())
			if err != nil {
				return err
			}
			names := a.agentNames()
			return a.data(l.Grants, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "SERVICE\tAGENT\tMODE\tSLOT\tSTATE")
				for _, g := range l.Grants {
					state := "until " + when(g.Expires)
					if !g.Live {
						state = "over"
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", orID(g.Service, g.ServiceID), slotName(names, g.Agent, ""), g.Mode, g.Slot, state)
				}
				t.Flush()
			})
		}}
}

func grantRevoke(a *app) *cobra.Command {
	var to string
	c := &cobra.Command{Use: "revoke NAME --to AGENT", Short: "Withdraw one grant (you are asked for your passphrase)", Args: exactly(1, "one NAME"),
		Example: "  agentkeys grant revoke github --to scribe",
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError{fmt.Errorf("want --to AGENT")}
			}
			acc, err := a.grant(cmd.Context(), args[0], to, statement.ModeNone, false, time.Hour)
			if err != nil {
				return err
			}
			return a.data(acc, func(w io.Writer) { fmt.Fprintf(w, "%s may not use %s any more\n", to, args[0]) })
		}}
	c.Flags().StringVar(&to, "to", "", "the agent")
	return c
}

// longest is how long an admission or a grant may last.
const longest = 365 * 24 * time.Hour

// forDuration parses how long an admission or a grant lasts, at least a second.
func forDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < time.Second || d > longest {
		return 0, usageError{errors.New("--for: want a duration such as 1h, 30m or 7d, at most 365d")}
	}
	return d, nil
}
