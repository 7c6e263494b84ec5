package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"example.org/agentkeys/auditor"
)

// printReport prints what happened first and the verdict last.
func printReport(w io.Writer, r *auditor.Report) {
	fmt.Fprintf(w, "Chain %s to block %d of %s\n\n", r.ChainID, r.Height, when(uint64(max(r.Time.Unix(), 0))))
	for _, u := range r.Users {
		printUser(w, u)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range r.Processes {
		revoked := ""
		if p.Revoked {
			revoked = ", revoked"
		}
		fmt.Fprintf(t, "%s\t%s…\tsigned %d in blocks %d-%d%s\t%s\n", p.Role, p.Key[:16], p.Signed, p.First, p.Last, revoked, p.Shows)
	}
	for _, tr := range r.Trails {
		fmt.Fprintf(t, "reads\t%s…\t%d records in %d batches, %d starts\tshown %d, SEEN %d, not yet in a block %d%s\n", tr.Custodian[:16], tr.Records, tr.Batches, tr.Boots,
			tr.Shown, tr.Opened, tr.Waiting, hidden(tr.Hidden))
	}
	t.Flush()
	fmt.Fprintln(w)
	for _, c := range r.Checks {
		fmt.Fprintf(w, "%-9s %-13s %s\n", c.Verdict, c.Name, c.Says)
		for _, f := range c.Findings {
			fmt.Fprintf(w, "%-9s %-13s   FOUND %s\n", "", "", f)
		}
	}
	fmt.Fprintln(w, r.Summary())
}

func hidden(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return ", not shown " + strings.Join(list, " ")
}

func printUser(w io.Writer, u auditor.User) {
	fmt.Fprintf(w, "user %s, %d statements\n", u.Wallet, u.Statements)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  EPOCH\tSTATE\tOPENED\tSEALED INTO UNTIL\tEMPTY\tDESTROYED")
	for _, e := range u.Epochs {
		fmt.Fprintf(t, "  %d\t%s\t%s\t%s\t%s\t%s\n", e.Epoch, e.State, when(e.Opened), orDash(e.Closed), orDash(e.Drained), orDash(e.Destroyed))
	}
	t.Flush()
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  SERVICE\tSLOT\tWHAT\tVERSION\tEPOCH\tBLOCK\tHASH OF THE SEALED OBJECT")
	for _, c := range u.Credentials {
		name, slot := c.Service, "shared"
		if len(name) == 64 {
			name = name[:16] + "…"
		}
		if c.Agent != u.Wallet {
			slot = c.Agent
		}
		for _, ch := range c.Changes {
			hash := ch.Hash
			if len(hash) > 16 {
				hash = hash[:16] + "…"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\tv%d\t%d\t%d\t%s\n", name, slot, ch.What, ch.Version, ch.Epoch, ch.Height, hash)
		}
	}
	t.Flush()
	fmt.Fprintln(w)
}

func orDash(at uint64) string {
	if at == 0 {
		return "-"
	}
	return when(at)
}
