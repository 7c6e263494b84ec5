package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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
			cl, err := a.owner(cmd.Context())
			if err != nil {
				return err
			}
			l, err := cl.List(cmd.Context())
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
	oldest := uint32(1)
	for _, e := range l.Epochs {
		if e.State == "active" {
			oldest = e.Epoch
		}
	}
	for _, e := range l.Epochs {
		oldest = min(oldest, e.Epoch)
	}
	if oldest > 1 {
		fmt.Fprintf(t, "1-%d\tdestroyed\t\tnothing opens them\n", oldest-1)
	}
	for _, e := range l.Epochs {
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\n", e.Epoch, e.State, when(e.Opened), e.Live)
	}
	t.Flush()
}

// rotate asks for the next epoch; with wait it returns once the one that is active
// now is destroyed.
func (a *app) rotate(ctx context.Context, wait bool) (api.Listing, error) {
	cl, err := a.owner(ctx)
	if err != nil {
		return api.Listing{}, err
	}
	l, err := cl.List(ctx)
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

func activeEpoch(l api.Listing) uint32 {
	for _, e := range l.Epochs {
		if e.State == "active" {
			return e.Epoch
		}
	}
	return 0
}

// exposed is what a total compromise at this moment reads.
type exposed struct {
	Epochs      []api.Epoch `json:"epochs"`
	Credentials int         `json:"credentials"`
	Unused      []string    `json:"unused_30_days"`
	Ungranted   []string    `json:"granted_to_nobody"`
	Destroyed   uint32      `json:"destroyed_epochs"`
}

func exposureCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "exposure", Short: "What a total compromise at this moment would read, and what not", Args: exactly(0, "no arguments"),
		Example: "  agentkeys exposure",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.owner(cmd.Context())
			if err != nil {
				return err
			}
			l, err := cl.List(cmd.Context())
			if err != nil {
				return err
			}
			x := exposure(l, time.Now())
			return a.data(x, func(w io.Writer) { printExposure(w, x) })
		}}
}

const unusedAfter = 30 * 24 * time.Hour

func exposure(l api.Listing, now time.Time) exposed {
	x := exposed{Epochs: l.Epochs, Unused: []string{}, Ungranted: []string{}}
	oldest := activeEpoch(l)
	for _, e := range l.Epochs {
		x.Credentials += int(e.Live)
		oldest = min(oldest, e.Epoch)
	}
	if oldest > 0 {
		x.Destroyed = oldest - 1
	}
	granted := map[string]bool{}
	for _, g := range l.Grants {
		if g.Live {
			granted[g.ServiceID] = true
		}
	}
	for _, it := range l.Credentials {
		if now.Sub(time.Unix(int64(it.LastRead), 0)) > unusedAfter {
			x.Unused = append(x.Unused, it.Service)
		}
		if !granted[it.ServiceID] {
			x.Ungranted = append(x.Ungranted, it.Service)
		}
	}
	return x
}

func printExposure(w io.Writer, x exposed) {
	if x.Destroyed > 0 {
		fmt.Fprintf(w, "epoch 1-%-3d  [=========x]      destroyed  nothing\n", x.Destroyed)
	}
	for _, e := range x.Epochs {
		bar := "[=====>  "
		if e.State == "draining" {
			bar = "[======= ~"
		}
		fmt.Fprintf(w, "epoch %-5d  %-16s %-10s %d credentials, since %s\n", e.Epoch, bar, e.State, e.Live, when(e.Opened))
	}
	fmt.Fprintf(w, "Whoever owns the vault now reads %d credentials. Destroyed epochs: nothing.\n", x.Credentials)
	if len(x.Unused) > 0 {
		fmt.Fprintf(w, "Not read for 30 days, or never; delete them? %s\n", strings.Join(x.Unused, " "))
	}
	if len(x.Ungranted) > 0 {
		fmt.Fprintf(w, "Granted to nobody: %s\n", strings.Join(x.Ungranted, " "))
	}
}
