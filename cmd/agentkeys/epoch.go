package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

func epochCommand(a *app) *cobra.Command {
	c := group(&cobra.Command{Use: "epoch", Short: "Epochs of your data keys", Example: "  agentkeys epoch list\n  agentkeys epoch rotate --wait"})
	var wait bool
	rotate := &cobra.Command{Use: "rotate", Short: "Make the next epoch due, now (you are asked for your passphrase)", Args: exactly(0, "no arguments"),
		Example: "  agentkeys epoch rotate --wait",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.rotate(cmd.Context(), wait)
			if err != nil {
				return err
			}
			return a.data(l.Epochs, func(w io.Writer) { printEpochs(w, l) })
		}}
	rotate.Flags().BoolVar(&wait, "wait", false, "wait until the old epoch is destroyed")
	c.AddCommand(rotate, &cobra.Command{Use: "list", Short: "List live epochs", Args: exactly(0, "no arguments"), Example: "  agentkeys epoch list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, l, err := a.listing(cmd.Context())
			if err != nil {
				return err
			}
			return a.data(l.Epochs, func(w io.Writer) { printEpochs(w, l) })
		}})
	return c
}

func printEpochs(w io.Writer, l api.Listing) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "EPOCH\tSTATE\tOPENED\tCREDENTIALS")
	if n := destroyedEpochs(l); n > 0 {
		fmt.Fprintf(t, "%s\tdestroyed\t\tnothing opens them\n", firstTo(n))
	}
	for _, e := range l.Epochs {
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\n", e.Epoch, e.State, when(e.Opened), e.Live)
	}
	t.Flush()
}

// rotate asks for the next epoch; with wait it returns once the one that is active
// now is destroyed.
func (a *app) rotate(ctx context.Context, wait bool) (api.Listing, error) {
	cl, l, err := a.listing(ctx)
	if err != nil {
		return l, err
	}
	active := activeEpoch(l)
	if active == 0 {
		return l, errors.New("no epoch is open yet; store something first")
	}
	if _, err := a.sign(ctx, cl, statement.AskRotation{User: cl.User(), Due: agentkeys.Epoch(active + 1)}); err != nil {
		return l, err
	}
	if !wait {
		return cl.List(ctx)
	}
	return a.awaitDestroyed(ctx, cl, active)
}

// awaitDestroyed waits until an epoch is neither active nor draining, with progress
// on standard error.
func (a *app) awaitDestroyed(ctx context.Context, cl *client.Client, epoch uint32) (api.Listing, error) {
	last := ""
	for {
		l, err := cl.List(ctx)
		if err != nil {
			return l, err
		}
		now := "epoch " + fmt.Sprint(epoch) + " waits for its successor"
		gone := activeEpoch(l) > epoch
		for _, e := range l.Epochs {
			if e.State == "draining" && e.Epoch <= epoch {
				gone = false
				now = fmt.Sprintf("epoch %d is draining, %d credentials left", e.Epoch, e.Live)
			}
		}
		if gone {
			return l, nil
		}
		if now != last {
			fmt.Fprintln(a.err, now)
			last = now
		}
		select {
		case <-ctx.Done():
			return l, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// destroyedEpochs is how many there are: every number below the oldest live one.
func destroyedEpochs(l api.Listing) uint32 {
	oldest := activeEpoch(l)
	for _, e := range l.Epochs {
		oldest = min(oldest, e.Epoch)
	}
	if oldest == 0 {
		return 0
	}
	return oldest - 1
}

func activeEpoch(l api.Listing) uint32 {
	for _, e := range l.Epochs {
		if e.State == "active" {
			return e.Epoch
		}
	}
	return 0
}
