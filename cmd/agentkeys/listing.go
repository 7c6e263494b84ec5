package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"github.com/spf13/cobra"
)

// listing is the owner's session and what the vault holds of the owner, in the order
// of names.
func (a *app) listing(ctx context.Context) (*client.Client, api.Listing, error) {
	cl, err := a.owner(ctx)
	if err != nil {
		return nil, api.Listing{}, err
	}
	l, err := cl.List(ctx)
	slices.SortFunc(l.Credentials, func(x, y api.Item) int {
		return cmp.Or(cmp.Compare(x.Service, y.Service), cmp.Compare(x.Agent, y.Agent))
	})
	slices.SortFunc(l.Grants, func(x, y api.Grant) int {
		return cmp.Or(cmp.Compare(x.Service, y.Service), cmp.Compare(x.Agent, y.Agent))
	})
	return cl, l, err
}

// serviceNames gives the names that a listing knows by service id.
func serviceNames(l api.Listing) map[string]string {
	names := map[string]string{}
	for _, it := range l.Credentials {
		names[it.ServiceID] = it.Service
	}
	for _, g := range l.Grants {
		names[g.ServiceID] = g.Service
	}
	return names
}

func orID(name, id string) string {
	if name == "" {
		return id
	}
	return name
}

func slotName(names map[string]string, wallet, user string) string {
	if wallet == user {
		return "shared"
	}
	return orID(names[wallet], wallet)
}

func when(unix uint64) string {
	if unix == 0 {
		return "never"
	}
	return time.Unix(int64(unix), 0).Format(time.DateTime)
}

// expiring has a line for each credential that is on its way out.
func expiring(l api.Listing) (lines []string) {
	for _, it := range l.Credentials {
		if it.Expires != 0 {
			lines = append(lines, fmt.Sprintf("%s expires on %s unless it is used or read before (it was stored with --idle expire)", it.Service, when(it.Expires)))
		}
	}
	return lines
}

func listCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List what is stored, without values", Args: exactly(0, "no arguments"), Example: "  agentkeys list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, l, err := a.listing(cmd.Context())
			if err != nil {
				return err
			}
			names := a.agentNames()
			return a.data(l, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "SERVICE\tVERSION\tEPOCH\tSLOT\tLAST READ")
				for _, it := range l.Credentials {
					fmt.Fprintf(t, "%s\tv%d\t%d\t%s\t%s\n", it.Service, it.Version, it.Epoch, slotName(names, it.Agent, cl.User().String()), when(it.LastRead))
				}
				t.Flush()
				for _, line := range expiring(l) {
					fmt.Fprintln(w, line)
				}
				if !l.Complete {
					fmt.Fprintln(w, "This list is not proven complete: the proven counts differ. Ask again; if it stays so: agentkeys verify")
				}
			})
		}}
}
