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
	c.AddCommand(agentAdd(a), agentList(a), agentRevoke(a), agentRemove(a))
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
				fmt.Fprintln(t, "AGENT\tROLE\tADMITTED")
				for _, r := range l.Agents {
					if r.Agent == cl.User().String() {
						continue
					}
					until := "revoked"
					if r.Expires > uint64(time.Now().Unix()) {
						until = "until " + when(r.Expires)
					} else if r.Expires != 0 {
						until = "expired"
					}
					fmt.Fprintf(t, "%s\t%s\t%s\n", slotName(names, r.Agent, ""), r.Role, until)
				}
				t.Flush()
			})
		}}
}

// revoked says what a revoked agent has seen.
type revoked struct {
	Agent    string    `json:"agent"`
	Height   uint64    `json:"height"`
	Replace  []seenRow `json:"replace"`
	Millis   float64   `json:"acknowledged_ms"`
	Rotation string    `json:"rotation"`
}

// seenRow is one service that an agent read.
type seenRow struct {
	Service  string `json:"service"`
	Seen     int    `json:"seen"`
	Versions string `json:"versions"`
	Current  bool   `json:"current"` // the version stored now was seen
	Last     uint64 `json:"last"`
}

func agentRevoke(a *app) *cobra.Command {
	return &cobra.Command{Use: "revoke NAME", Short: "Revoke an agent: nothing is granted after the acknowledgement", Args: exactly(1, "one NAME"),
		Long:    "Revokes an agent. When the command returns, a verified block shows the revocation and nothing is granted any\nmore. The epoch rotates at once. Then come the services whose values the agent has SEEN: replace those upstream.",
		Example: "  agentkeys agent revoke scribe",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.revoke(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.data(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s is revoked (%.0f ms, block %d); the next epoch is due at once\n", r.Agent, r.Millis, r.Height)
				if len(r.Replace) == 0 {
					fmt.Fprintln(w, "It has seen nothing: no key needs to be replaced upstream.")
					return
				}
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "SEEN\tTIMES\tVERSIONS\tREPLACE UPSTREAM?")
				for _, s := range r.Replace {
					do := "no, the stored version is newer"
					if s.Current {
						do = "YES, then: agentkeys replace " + s.Service
					}
					fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", s.Service, s.Seen, s.Versions, do)
				}
				t.Flush()
			})
		}}
}

func (a *app) revoke(ctx context.Context, name string) (revoked, error) {
	k, err := a.agentKey(name)
	if err != nil {
		return revoked{}, err
	}
	wallet := k.Wallet()
	k.Zero()
	cl, err := a.owner(ctx)
	if err != nil {
		return revoked{}, err
	}
	row, err := findAgent(ctx, cl, wallet)
	if err != nil {
		return revoked{}, err
	}
	owner, err := a.openWallet()
	if err != nil {
		return revoked{}, err
	}
	defer owner.Zero()
	began := time.Now()
	acc, err := cl.Submit(ctx, owner, statement.RevokeAgent{User: cl.User(), Agent: wallet, Counter: row.Counter})
	if err == nil {
		err = accepted(acc)
	}
	if err != nil {
		return revoked{}, err
	}
	r := revoked{Agent: name, Height: acc.Height, Millis: float64(time.Since(began).Microseconds()) / 1000, Rotation: "due"}
	r.Replace, err = a.seenBy(ctx, cl, wallet)
	return r, err
}

// seenBy sums the read records of one agent per service.
func (a *app) seenBy(ctx context.Context, cl *client.Client, agent agentkeys.Wallet) ([]seenRow, error) {
	l, err := cl.List(ctx)
	if err != nil {
		return nil, err
	}
	type slot struct{ owner, service string }
	current := map[slot]uint64{}
	for _, it := range l.Credentials {
		current[slot{it.Agent, it.ServiceID}] = it.Version
	}
	names := serviceNames(l)
	var order []string
	rows := map[string]*seenRow{}
	err = eachRead(ctx, cl, func(r readRecord) {
		if r.Agent != agent {
			return
		}
		id := r.Service.String()
		s := rows[id]
		if s == nil {
			s = &seenRow{Service: orID(names[id], id)}
			rows[id] = s
			order = append(order, id)
		}
		s.Seen++
		s.Last = r.Time
		v := fmt.Sprintf("v%d", r.Version)
		if len(s.Versions) < len(v) || s.Versions[len(s.Versions)-len(v):] != v {
			if s.Versions != "" {
				s.Versions += " "
			}
			s.Versions += v
		}
		if current[slot{r.Owner.String(), id}] == r.Version {
			s.Current = true
		}
	})
	var out []seenRow
	for _, id := range order {
		out = append(out, *rows[id])
	}
	return out, err
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
			return a.data(r, func(w io.Writer) { fmt.Fprintf(w, "%s is revoked and its wallet is deleted\n", args[0]) })
		}}
}
