package adversary

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"example.org/agentkeys"
)

// States of an epoch, as the User row has them.
const (
	Active    = "active"
	Draining  = "draining"
	Destroyed = "destroyed"
)

// Row is what the thief got of one epoch of one user.
type Row struct {
	User         agentkeys.Wallet
	Epoch        agentkeys.Epoch
	State        string
	Ever, Opened int // envelopes
	Live, Read   int // credentials that pointers name now, and those of them that opened
	How          []string
}

// Report gives a row for every epoch that ever had an envelope, or has a data key.
func (t *Thief) Report() (rows []Row) {
	type epoch struct {
		user  agentkeys.Wallet
		epoch agentkeys.Epoch
	}
	of := map[epoch]*Row{}
	row := func(user agentkeys.Wallet, e agentkeys.Epoch) *Row {
		r := of[epoch{user, e}]
		if r == nil {
			r = &Row{User: user, Epoch: e, State: t.state(user, e)}
			of[epoch{user, e}] = r
		}
		return r
	}
	for _, w := range t.wraps {
		row(w.user, w.epoch)
	}
	opened := map[agentkeys.Hash]bool{}
	for _, b := range t.blobs {
		r := row(b.user, b.epoch)
		r.Ever++
		if t.Opened[b.Name] {
			opened[b.hash] = true
			r.Opened++
			for _, how := range t.Ways[b.id] {
				if !slices.Contains(r.How, how) {
					r.How = append(r.How, how)
				}
			}
		}
	}
	for w, u := range t.loot.Users {
		for _, p := range u.Pointers {
			r := row(w, p.Epoch)
			r.Live++
			if opened[p.Hash] {
				r.Read++
			}
		}
	}
	for _, r := range of {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return strings.Compare(fmt.Sprint(a.User, a.Epoch), fmt.Sprint(b.User, b.Epoch))
	})
	return rows
}

func (t *Thief) state(user agentkeys.Wallet, e agentkeys.Epoch) string {
	switch u := t.loot.Users[user]; {
	case e == u.Active.Epoch:
		return Active
	case e == u.Draining.Epoch:
		return Draining
	case e > u.Active.Epoch:
		return "not open yet"
	}
	return Destroyed
}

// Leaks tells in which ways destroyed epochs opened.
func Leaks(rows []Row) (how []string) {
	for _, r := range rows {
		if r.State == Destroyed && r.Opened > 0 {
			how = append(how, r.How...)
		}
	}
	return how
}

// Check is nil when exactly the live epochs open: every credential that a row names,
// and nothing of a destroyed epoch. A thief who opens nothing shows nothing.
func Check(rows []Row) error {
	var faults []error
	live, destroyed := 0, 0
	for _, r := range rows {
		live += r.Read
		how := Leaks([]Row{r})
		switch {
		case len(how) > 0:
			faults = append(faults, fmt.Errorf("LEAK: %s epoch %d is destroyed, and %d of %d open: %s", r.User, r.Epoch, r.Opened, r.Ever, how[0]))
		case r.State == Destroyed:
			destroyed += r.Ever
		case r.Read < r.Live:
			faults = append(faults, fmt.Errorf("%s epoch %d is live, and only %d of %d credentials open: this shows nothing", r.User, r.Epoch, r.Read, r.Live))
		}
	}
	if live == 0 {
		faults = append(faults, errors.New("no credential of a live epoch opened: this shows nothing"))
	}
	if destroyed == 0 && len(faults) == 0 {
		faults = append(faults, errors.New("no destroyed epoch had an envelope: this shows nothing"))
	}
	return errors.Join(faults...)
}

// Table prints rows, with the names of users.
func Table(rows []Row, names map[agentkeys.Wallet]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %5s  %-12s %-12s %-12s %s\n", "user", "epoch", "state", "opened/ever", "live/named", "by which key")
	for _, r := range rows {
		how := "-"
		if len(r.How) > 0 {
			how = r.How[0]
		}
		name := names[r.User]
		if name == "" {
			name = r.User.String()
		}
		fmt.Fprintf(&b, "%-28s %5d  %-12s %-12s %-12s %s\n", name, r.Epoch, r.State, fmt.Sprintf("%d/%d", r.Opened, r.Ever), fmt.Sprintf("%d/%d", r.Read, r.Live), how)
	}
	return b.String()
}

// Counts prints what there was, what was tried and what was found.
func (t *Thief) Counts() string {
	var b strings.Builder
	var images []string
	size := map[string]int{}
	for _, i := range t.loot.Images {
		size[i.Process] += len(i.Bytes)
	}
	for _, process := range slices.Sorted(maps.Keys(size)) {
		images = append(images, fmt.Sprintf("%s (%d bytes)", process, size[process]))
	}
	fmt.Fprintf(&b, "kept: %d files and objects, %d envelopes, %d tree objects, %d transactions, %d wrapped keys, %d messages of %d jobs and %d rotators\n",
		len(t.loot.Pieces), len(t.blobs), len(t.objects), len(t.loot.Blocks), len(t.wraps), len(t.loot.Messages), len(t.jobs), len(t.rotators))
	fmt.Fprintf(&b, "taken: seed, anchor, store credentials, memory of %s\n", strings.Join(images, ", "))
	fmt.Fprintf(&b, "windows of 32 bytes: %d, of which %d could be random and were tried as data key and root, %d of them as every kind of key\n", t.windows.seen.Load(), t.windows.dense.Load(), t.windows.full.Load())
	for _, what := range slices.Sorted(maps.Keys(t.Tried)) {
		fmt.Fprintf(&b, "tried %s: %d\n", what, t.Tried[what])
	}
	for _, what := range slices.Sorted(maps.Keys(t.Found)) {
		fmt.Fprintf(&b, "found %s: %d\n", what, t.Found[what])
	}
	return b.String()
}
