package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"text/tabwriter"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/record"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

type readRecord = record.Record

// eachRead visits the owner's read records, oldest first.
func eachRead(ctx context.Context, cl *client.Client, visit func(readRecord)) error {
	_, err := readsFrom(ctx, cl, 1, visit)
	return err
}

// readsFrom visits the records from a sequence number on and gives the first number that
// is not there yet.
func readsFrom(ctx context.Context, cl *client.Client, first uint64, visit func(readRecord)) (uint64, error) {
	for from := first; from != 0; {
		records, next, err := cl.Reads(ctx, from, 1000)
		if err != nil {
			return first, err
		}
		for _, r := range records {
			visit(r)
			first = r.Sequence + 1
		}
		from = next
	}
	return first, nil
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
	c := group(&cobra.Command{Use: "audit", Short: "What was used and seen", Example: "  agentkeys audit list\n  agentkeys audit follow"})
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
		}}, auditFollow(a))
	return c
}

// followEvery is how often audit follow asks.
const followEvery = 2 * time.Second

// auditFollow prints what is new, one line a record, until it is stopped.
func auditFollow(a *app) *cobra.Command {
	var from uint64
	c := &cobra.Command{Use: "follow", Short: "Print each read as it happens, until Ctrl-C", Args: exactly(0, "no arguments"),
		Long:    "Prints each read as it happens, until Ctrl-C. It begins with the next one, or with --from N.\nWith --json one object a line.",
		Example: "  agentkeys audit follow\n  agentkeys audit follow --from 1 --json | jq .service",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			for next := from; ; {
				cl, err := a.owner(ctx)
				if err != nil {
					return unlessDone(ctx, err)
				}
				var fresh []readRecord
				first := next
				if next, err = readsFrom(ctx, cl, max(first, 1), func(r readRecord) { fresh = append(fresh, r) }); err != nil {
					return unlessDone(ctx, err)
				}
				if first > 0 && len(fresh) > 0 {
					cl, l, err := a.listing(ctx)
					if err != nil {
						return unlessDone(ctx, err)
					}
					for row, i := a.auditRows(cl, l), 0; i < len(fresh); i++ {
						a.follow(row(fresh[i]))
					}
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(followEvery):
				}
			}
		}}
	c.Flags().Uint64Var(&from, "from", 0, "begin with record `N` (default: the next one)")
	return c
}

// unlessDone: that it was stopped is no error.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (a *app) follow(r auditRow) {
	if a.json {
		_ = json.NewEncoder(a.out).Encode(r)
		return
	}
	fmt.Fprintf(a.out, "%d  %s  %s  %s v%d  %s\n", r.Sequence, when(r.Time), r.Agent, r.Service, r.Version, orCalls(r))
}

func (a *app) audit(ctx context.Context) ([]auditRow, error) {
	cl, l, err := a.listing(ctx)
	if err != nil {
		return nil, err
	}
	rows, row := []auditRow{}, a.auditRows(cl, l)
	err = eachRead(ctx, cl, func(r readRecord) { rows = append(rows, row(r)) })
	return rows, err
}

// auditRows gives records the names that people know.
func (a *app) auditRows(cl *client.Client, l api.Listing) func(readRecord) auditRow {
	names, agents := serviceNames(l), a.agentNames()
	agents[cl.User().String()] = "you"
	return func(r readRecord) auditRow {
		how := "lent"
		if r.Kind == record.KindCalls {
			how = "calls"
		} else if statement.Mode(r.Mode) == statement.ModeReveal {
			how = "SEEN"
		}
		return auditRow{r.Sequence, r.Time, slotName(agents, r.Agent.String(), ""), orID(names[r.Service.String()], r.Service.String()),
			r.Version, uint32(r.Epoch), how, r.Calls}
	}
}

func orCalls(r auditRow) string {
	if r.Calls > 0 {
		return fmt.Sprintf("used, %d calls", r.Calls)
	}
	return r.Mode
}
