package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"example.org/agentkeys/client"
	"example.org/agentkeys/record"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

type readRecord = record.Record

// eachRead visits the owner's read records, oldest first.
func eachRead(ctx context.Context, cl *client.Client, visit func(readRecord)) error {
	for from := uint64(1); from != 0; {
		records, next, err := cl.Reads(ctx, from, 1000)
		if err != nil {
			return err
		}
		for _, r := range records {
			visit(r)
		}
		from = next
	}
	return nil
}

// auditRow is one line of audit list.
type auditRow struct {
	Sequence uint64 `json:"sequence"`
	Time     uint64 `json:"time"`
	Agent    string `json:"agent"`
	Service  string `json:"service"`
	Version  uint64 `json:"version"`
	Epoch    uint32 `json:"epoch"`
	Mode     string `json:"mode"`  // lent (to a proxy), calls (of a proxy), SEEN
	Calls    uint32 `json:"calls"` // of calls
}

func auditCommand(a *app) *cobra.Command {
	c := group(&cobra.Command{Use: "audit", Short: "What was used and seen", Example: "  agentkeys audit list"})
	c.AddCommand(&cobra.Command{Use: "list", Short: "List the reads of your credentials, oldest first", Args: exactly(0, "no arguments"),
		Example: "  agentkeys audit list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := a.audit(cmd.Context())
			if err != nil {
				return err
			}
			return a.data(rows, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "SEQ\tWHEN\tWHO\tSERVICE\tVERSION\tHOW")
				for _, r := range rows {
					fmt.Fprintf(t, "%d\t%s\t%s\t%s\tv%d\t%s\n", r.Sequence, when(r.Time), r.Agent, r.Service, r.Version, orCalls(r))
				}
				t.Flush()
			})
		}})
	return c
}

func (a *app) audit(ctx context.Context) ([]auditRow, error) {
	cl, l, err := a.listing(ctx)
	if err != nil {
		return nil, err
	}
	names, agents := serviceNames(l), a.agentNames()
	agents[cl.User().String()] = "you"
	rows := []auditRow{}
	err = eachRead(ctx, cl, func(r readRecord) {
		how := "lent"
		if r.Kind == record.KindCalls {
			how = "calls"
		} else if statement.Mode(r.Mode) == statement.ModeReveal {
			how = "SEEN"
		}
		rows = append(rows, auditRow{r.Sequence, r.Time, slotName(agents, r.Agent.String(), ""), orID(names[r.Service.String()], r.Service.String()),
			r.Version, uint32(r.Epoch), how, r.Calls})
	})
	return rows, err
}

func orCalls(r auditRow) string {
	if r.Calls > 0 {
		return fmt.Sprintf("used, %d calls", r.Calls)
	}
	return r.Mode
}
