package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

func agentCommand(a *app) *cobra.Command {
	c := group(&cobra.Command{Use: "agent", Short: "Agents that use your credentials", Example: "  agentkeys agent add scribe --for 30d\n  agentkeys agent revoke scribe"})
	c.AddCommand(agentAdd(a), agentList(a), agentShow(a), agentRevoke(a), agentRemove(a))
	return c
}

func agentAdd(a *app) *cobra.Command {
	var period string
	c := &cobra.Command{Use: "add NAME", Short: "Admit an agent (you are asked for your passphrase)", Args: exactly(1, "one NAME"),
		Example: "  agentkeys agent add scribe --for 30d",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := forDuration(period)
			if err != nil {
				return err
			}
			acc, expires, err := a.admit(cmd.Context(), args[0], d)
			if err != nil {
				return err
			}
			return a.data(acc, func(w io.Writer) {
				fmt.Fprintf(w, "%s is admitted until %s\nNext: agentkeys grant NAME --to %s\n", args[0], expires.Format(time.DateTime), args[0])
			})
		}}
	c.Flags().StringVar(&period, "for", "30d", "how long, such as 1h or 30d")
	return c
}

// admit makes the agent's wallet where there is none and admits it.
func (a *app) admit(ctx context.Context, name string, d time.Duration) (acc api.Accepted, expires time.Time, err error) {
	cl, err := a.owner(ctx)
	if err != nil {
		return acc, expires, err
	}
	wallet, err := a.newAgent(name)
	if err != nil {
		return acc, expires, err
	}
	row, err := findAgent(ctx, cl, wallet)
	if err != nil {
		return acc, expires, err
	}
	expires = time.Now().Add(d)
	acc, err = a.sign(ctx, cl, statement.AdmitAgent{User: cl.User(), Agent: wallet, Role: statement.RoleAgent,
		Counter: row.Counter, Expires: uint64(expires.Unix())})
	return acc, expires, err
}

func (a *app) newAgent(name string) (agentkeys.Wallet, error) {
	k, err := a.agentKey(name)
	if err == nil {
		defer k.Zero()
		return k.Wallet(), nil
	}
	var usage usageError
	if errors.As(err, &usage) {
		return agentkeys.Wallet{}, err
	}
	if _, statErr := os.Stat(a.path("agents", name+".json")); statErr == nil {
		return agentkeys.Wallet{}, err
	}
	if k, err = eip712.NewKey(); err != nil {
		return agentkeys.Wallet{}, err
	}
	defer k.Zero()
	return k.Wallet(), a.writeJSON(agentFile{agentLabel, k.Wallet().String(), k.Bytes()}, "agents", name+".json")
}

// findAgent gives the agent's row at this user; a zero row when there is none.
func findAgent(ctx context.Context, cl *client.Client, w agentkeys.Wallet) (api.Agent, error) {
	l, err := cl.List(ctx)
	if err != nil {
		return api.Agent{}, err
	}
	for _, r := range l.Agents {
		if r.Agent == w.String() {
			return r, nil
		}
	}
	return api.Agent{}, nil
}

func agentList(a *app) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List agents", Args: exactly(0, "no arguments"), Example: "  agentkeys agent list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, l, err := a.listing(cmd.Context())
			if err != nil {
				return err
			}
			names := a.agentNames()
			return a.data(l.Agents, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "AGENT\tROLE\tSTATE")
				for _, r := range l.Agents {
					if r.Agent == cl.User().String() {
						continue
					}
					name := slotName(names, r.Agent, "")
					if r.Role == "proxy" {
						name = orID(names[r.Agent], "proxy")
					}
					fmt.Fprintf(t, "%s\t%s\t%s\n", name, r.Role, admitted(r, time.Now()))
				}
				t.Flush()
			})
		}}
}

// shownAgent is one agent: what it may do, and what it did.
type shownAgent struct {
	Name   string      `json:"name"`
	Row    api.Agent   `json:"row"`
	Grants []api.Grant `json:"grants"`
	Used   []seenRow   `json:"used"`
}

func agentShow(a *app) *cobra.Command {
	return &cobra.Command{Use: "show NAME", Short: "Show what an agent may do, and what it used and saw", Args: exactly(1, "one NAME"), Example: "  agentkeys agent show scribe",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.showAgent(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.data(s, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s, %s\n", s.Name, orID(s.Row.Role, "agent"), admitted(s.Row, time.Now()))
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				for _, g := range s.Grants {
					state := "until " + when(g.Expires)
					if !g.Live {
						state = "over"
					}
					fmt.Fprintf(t, "may %s\t%s\t%s\n", g.Mode, orID(g.Service, g.ServiceID), state)
				}
				for _, u := range s.Used {
					fmt.Fprintf(t, "used %d, seen %d\t%s\t%s, last %s\n", u.Used, u.Seen, u.Service, u.Versions, when(u.Last))
				}
				t.Flush()
			})
		}}
}

func (a *app) showAgent(ctx context.Context, name string) (s shownAgent, err error) {
	k, err := a.agentKey(name)
	if err != nil {
		return s, err
	}
	wallet := k.Wallet()
	k.Zero()
	cl, l, err := a.listing(ctx)
	if err != nil {
		return s, err
	}
	s = shownAgent{Name: name, Grants: []api.Grant{}}
	if s.Row, err = findAgent(ctx, cl, wallet); err != nil {
		return s, err
	}
	for _, g := range l.Grants {
		if g.Agent == wallet.String() && g.Mode != "none" {
			s.Grants = append(s.Grants, g)
		}
	}
	s.Used, err = a.seenBy(ctx, cl, wallet)
	return s, err
}

// admitted says how an agent's admission stands.
func admitted(r api.Agent, now time.Time) string {
	switch {
	case r.Expires > uint64(now.Unix()):
		return "admitted until " + when(r.Expires)
	case r.Expires != 0:
		return "admission over since " + when(r.Expires)
	case r.Counter > 0:
		return "revoked"
	}
	return "not admitted"
}

func agentRemove(a *app) *cobra.Command {
	return &cobra.Command{Use: "remove NAME", Short: "Revoke an agent and delete its wallet from this machine", Args: exactly(1, "one NAME"),
		Example: "  agentkeys agent remove scribe",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.revoke(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := os.Remove(a.path("agents", args[0]+".json")); err != nil {
				return err
			}
			return a.data(r, func(w io.Writer) {
				printRevoked(w, r)
				fmt.Fprintf(w, "Its wallet is deleted from this machine.\n")
			})
		}}
}
