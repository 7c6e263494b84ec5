package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

// benchRotated is a measurement of one epoch change, all at once.
type benchRotated struct {
	Name      string                 `json:"name"`
	Pace      string                 `json:"pace"`
	Count     int                    `json:"count"`             // credentials that moved
	Seconds   float64                `json:"seconds"`           // until the last had moved
	Destroyed float64                `json:"destroyed_seconds"` // until the old epoch was destroyed, the grace included
	PerSecond float64                `json:"per_second"`
	Rotator   float64                `json:"rotator_peak_mib"`
	Processes map[string]processCost `json:"processes"` // CPU for each credential
}

func benchRotate(a *app) *cobra.Command {
	var count int
	c := &cobra.Command{Use: "rotate", Short: "Measure an epoch change of many credentials", Args: exactly(0, "no arguments"),
		Long:    "Stores as many credentials as are missing to --count, then makes the next epoch due and measures until the last\nhas moved and until the old epoch is destroyed. You are asked for your passphrase.",
		Example: "  agentkeys bench rotate --count 10000 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.benchRotate(cmd.Context(), count)
			if err != nil {
				return err
			}
			return a.data(r, func(w io.Writer) {
				fmt.Fprintf(w, "rotate, %d credentials, %s: moved in %.1f s (%.0f/s), destroyed after %.1f s, rotator at most %.0f MiB\n",
					r.Count, r.Pace, r.Seconds, r.PerSecond, r.Destroyed, r.Rotator)
				for _, n := range sortedKeys(r.Processes) {
					fmt.Fprintf(w, "  %-20s %.2f ms CPU a credential, %.0f MiB\n", n, r.Processes[n].CPU, r.Processes[n].RSS)
				}
			})
		}}
	c.Flags().IntVar(&count, "count", 1000, "credentials")
	return c
}

func (a *app) benchRotate(ctx context.Context, count int) (r benchRotated, err error) {
	if count < 1 || count > 100_000 {
		return r, usageError{errors.New("bench rotate: want --count 1 to 100000")}
	}
	cl, l, err := a.listing(ctx)
	if err != nil {
		return r, err
	}
	if l, err = a.fill(ctx, cl, l, count); err != nil {
		return r, err
	}
	p, err := a.loadProfile()
	if err != nil {
		return r, err
	}
	r = benchRotated{Name: "rotate", Pace: "timeout_commit 0, 1 validator", Count: len(l.Credentials)}
	stack := stackProcesses(p.Dev)
	before := costs(stack)
	active := activeEpoch(l)
	began := time.Now()
	if _, err := a.sign(ctx, cl, statement.AskRotation{User: cl.User(), Due: agentkeys.Epoch(active + 1)}); err != nil {
		return r, err
	}
	node, err := ledger.NewNode(p.Node)
	if err != nil {
		return r, err
	}
	for r.Destroyed == 0 {
		// The node's word is enough for a clock, and costs nobody proofs.
		row, err := node.Query(ctx, "/store/vault/key", rules.UserKey(cl.User()), 0, false)
		if err != nil {
			return r, err
		}
		u, err := rules.ParseUser(row.Value)
		if err != nil {
			return r, err
		}
		r.note(u, agentkeys.Epoch(active), time.Since(began).Seconds())
		stack = stackProcesses(p.Dev) // the rotator starts with the first job
		for pid, name := range stack {
			if name == "agentkeys-rotator" {
				r.Rotator = max(r.Rotator, readCost(pid).rss)
			}
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	r.PerSecond = float64(r.Count) / r.Seconds
	r.Processes = perRequest(before, costs(stack), r.Count)
	return r, nil
}

// note takes what the user's row says of the change.
func (r *benchRotated) note(u rules.User, from agentkeys.Epoch, seconds float64) {
	draining := u.Draining.Epoch == from
	moved := u.Active.Epoch > from && (!draining || u.Draining.LiveCount == 0)
	if moved && r.Seconds == 0 {
		r.Seconds = seconds
	}
	if moved && !draining {
		r.Destroyed = seconds
	}
}

// fill stores what is missing to count, with progress.
func (a *app) fill(ctx context.Context, cl *client.Client, l api.Listing, count int) (api.Listing, error) {
	missing := count - len(l.Credentials)
	if missing <= 0 {
		return l, nil
	}
	put, err := a.benchWrite(cl)
	if err != nil {
		return l, err
	}
	for done := 0; done < missing && ctx.Err() == nil; {
		r := load(ctx, min(64, missing-done), time.Second, func(ctx context.Context, n int) error { return put(ctx, done+n*1_000_000) })
		if r.Count == 0 {
			return l, fmt.Errorf("bench rotate: nothing can be stored: %v", r.Codes)
		}
		done += r.Count
		fmt.Fprintf(a.err, "%d of %d credentials stored\n", min(done, missing), missing)
	}
	return cl.List(ctx)
}
