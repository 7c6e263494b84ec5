package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"example.org/agentkeys/api"
	"github.com/spf13/cobra"
)

// exposed is what a total compromise at this moment reads.
type exposed struct {
	Epochs      []api.Epoch `json:"epochs"`
	Credentials int         `json:"credentials"`
	Unused      []string    `json:"unused_30_days"` // read once, and not for 30 days
	Unread      []string    `json:"never_read"`
	Ungranted   []string    `json:"granted_to_nobody"`
	Expiring    []string    `json:"expiring"` // dropped at the end of the drain window unless read before
	Destroyed   uint32      `json:"destroyed_epochs"`
}

func exposureCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "exposure", Short: "What a total compromise at this moment would read, and what not", Args: exactly(0, "no arguments"),
		Example: "  agentkeys exposure",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, l, err := a.listing(cmd.Context())
			if err != nil {
				return err
			}
			x := exposure(l, time.Now())
			return a.data(x, func(w io.Writer) { printExposure(w, x) })
		}}
}

const unusedAfter = 30 * 24 * time.Hour

func exposure(l api.Listing, now time.Time) exposed {
	x := exposed{Epochs: l.Epochs, Destroyed: destroyedEpochs(l), Unused: []string{}, Unread: []string{}, Ungranted: []string{}, Expiring: []string{}}
	for _, e := range l.Epochs {
		x.Credentials += int(e.Live)
	}
	granted := map[string]bool{}
	for _, g := range l.Grants {
		if g.Live {
			granted[g.ServiceID] = true
		}
	}
	for _, it := range l.Credentials {
		switch {
		case it.LastRead == 0: // perhaps stored a moment ago: no reason to delete it
			x.Unread = append(x.Unread, it.Service)
		case now.Sub(time.Unix(int64(it.LastRead), 0)) > unusedAfter:
			x.Unused = append(x.Unused, it.Service)
		}
		if it.Expires != 0 {
			x.Expiring = append(x.Expiring, it.Service)
		}
		if !granted[it.ServiceID] {
			x.Ungranted = append(x.Ungranted, it.Service)
		}
	}
	return x
}

func printExposure(w io.Writer, x exposed) {
	if x.Destroyed > 0 {
		fmt.Fprintf(w, "epoch %-5s  [=========x]      destroyed  nothing\n", firstTo(x.Destroyed))
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
		fmt.Fprintf(w, "Not read for 30 days; to delete one: agentkeys delete NAME: %s\n", some(x.Unused))
	}
	if len(x.Unread) > 0 {
		fmt.Fprintf(w, "Never read: %s\n", some(x.Unread))
	}
	if len(x.Expiring) > 0 {
		fmt.Fprintf(w, "Expire unless they are read; when: agentkeys list: %s\n", some(x.Expiring))
	}
	if len(x.Ungranted) > 0 {
		fmt.Fprintf(w, "Granted to nobody: %s\n", some(x.Ungranted))
	}
}

func firstTo(n uint32) string {
	if n == 1 {
		return "1"
	}
	return fmt.Sprintf("1-%d", n)
}

// shownNames is how many names a line has; the rest is counted.
const shownNames = 12

func some(names []string) string {
	if len(names) <= shownNames {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more (all of them: --json)", strings.Join(names[:shownNames], " "), len(names)-shownNames)
}
