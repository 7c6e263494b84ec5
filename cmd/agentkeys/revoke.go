package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/client"
	"example.org/agentkeys/record"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

// revoked says what a revoked agent has used and seen.
type revoked struct {
	Agent    string    `json:"agent"`
	Height   uint64    `json:"height"`
	Replace  []seenRow `json:"replace"` // what has been seen and is stored still comes first
	Millis   float64   `json:"acknowledged_ms"`
	Rotation string    `json:"rotation"`
}

// seenRow is one service that an agent used or saw.
type seenRow struct {
	Service  string `json:"service"`
	Slot     string `json:"slot"` // shared, or the agent whose own it is
	Used     int    `json:"used"` // calls through the proxy
	Seen     int    `json:"seen"` // times the value was handed over
	Versions string `json:"versions"`
	Version  uint64 `json:"version"` // stored now
	Current  bool   `json:"current"` // and it is one that was seen
	Last     uint64 `json:"last"`

	versions []uint64
}

func agentRevoke(a *app) *cobra.Command {
	return &cobra.Command{Use: "revoke NAME", Short: "Revoke an agent: nothing is granted after the acknowledgement", Args: exactly(1, "one NAME"),
		Long:    "Revokes an agent. When the command returns, a verified block shows the revocation, every running proxy has\ndropped what it held and cut its streams, and nothing is granted any more. The epoch rotates at once. Then come the\nservices that the agent has used and SEEN: replace upstream what it has seen, in this order.",
		Example: "  agentkeys agent revoke scribe",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.revoke(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.data(r, func(w io.Writer) { printRevoked(w, r) })
		}}
}

func printRevoked(w io.Writer, r revoked) {
	fmt.Fprintf(w, "%s is revoked (%.0f ms, block %d); the next epoch is due at once\n", r.Agent, r.Millis, r.Height)
	if len(r.Replace) == 0 {
		fmt.Fprintln(w, "It has used and seen nothing: no key needs to be replaced upstream.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tUSED\tSEEN\tVERSIONS\tLAST\tREPLACE UPSTREAM?")
	for _, s := range r.Replace {
		do := "no, it was only used"
		switch {
		case s.Current:
			do = "YES, then: " + replaceLine(s.Service, s.Slot)
		case s.Seen > 0:
			do = "no, the stored version is newer; end the old one upstream"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\n", s.Service, s.Used, s.Seen, s.Versions, when(s.Last), do)
	}
	t.Flush()
}

// revoke has the owner revoke an agent, and puts what it has seen on the list. From the
// acknowledgement on, an error says that the agent is revoked.
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
	if r.Replace, err = a.seenBy(ctx, cl, wallet); err == nil {
		err = a.remember(name, r.Replace)
	}
	if err != nil {
		err = fmt.Errorf("%s is revoked (block %d); what it has seen is not on the list yet: %w; ask again: agentkeys agent show %s", name, r.Height, err, name)
	}
	return r, err
}

// seenBy sums the records of one agent per service, what is to be replaced first.
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
	names, agents := serviceNames(l), a.agentNames()
	rows := map[slot]*seenRow{}
	err = eachRead(ctx, cl, func(r readRecord) {
		if r.Agent != agent {
			return
		}
		at := slot{r.Owner.String(), r.Service.String()}
		s := rows[at]
		if s == nil {
			s = &seenRow{Service: orID(names[at.service], at.service), Slot: slotName(agents, at.owner, cl.User().String()), Version: current[at]}
			rows[at] = s
		}
		s.add(r)
	})
	out := make([]seenRow, 0, len(rows))
	for _, s := range rows {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(x, y seenRow) int {
		return cmp.Or(-compareBool(x.Current, y.Current), -compareBool(x.Seen > 0, y.Seen > 0), cmp.Compare(x.Service, y.Service), cmp.Compare(x.Slot, y.Slot))
	})
	return out, err
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// add counts one record. A value on loan to a proxy is not seen; the proxy's calls with
// it come as records of their own.
func (s *seenRow) add(r readRecord) {
	s.Last = max(s.Last, r.Time)
	switch {
	case r.Kind == record.KindCalls:
		s.Used += int(r.Calls)
	case statement.Mode(r.Mode) == statement.ModeReveal:
		s.Seen++
		s.Current = s.Current || s.Version == r.Version
	}
	if !slices.Contains(s.versions, r.Version) {
		s.versions = append(s.versions, r.Version)
		s.Versions = strings.TrimSpace(fmt.Sprintf("%s v%d", s.Versions, r.Version))
	}
}
