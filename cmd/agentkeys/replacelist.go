package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// todo is a key to be replaced upstream because a revoked agent has seen it. The list
// is replace-list.json of the home: names and versions, no values.
type todo struct {
	Service string `json:"service"`
	Slot    string `json:"slot"`    // shared, or the agent whose own it is
	Agent   string `json:"agent"`   // who saw it
	Seen    string `json:"seen"`    // versions
	Version uint64 `json:"version"` // stored when the agent was revoked
	Done    uint64 `json:"done"`    // version that replaced it, or was deleted; 0 = not yet
}

const sharedSlot = "shared"

// replaceLine is the command that replaces what is in a slot.
func replaceLine(service, slot string) string {
	if slot == sharedSlot {
		return "agentkeys replace " + service
	}
	return "agentkeys replace " + service + " --agent " + slot
}

func (a *app) todos() (list []todo, err error) {
	if err = a.readJSON(&list, "replace-list.json"); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// remember puts what an agent has seen, and is stored still, on the list.
func (a *app) remember(agent string, rows []seenRow) error {
	list, err := a.todos()
	if err != nil {
		return err
	}
	changed := false
	for _, r := range rows {
		if !r.Current {
			continue
		}
		list = slices.DeleteFunc(list, func(t todo) bool {
			return t.Service == r.Service && t.Slot == r.Slot && t.Agent == agent && t.Done == 0
		})
		list = append(list, todo{Service: r.Service, Slot: r.Slot, Agent: agent, Seen: r.Versions, Version: r.Version})
		changed = true
	}
	if !changed {
		return nil
	}
	return a.writeJSON(list, "replace-list.json")
}

// tick marks what is in a slot as replaced by this version, whoever saw it. A version
// that was seen itself marks it as deleted.
func (a *app) tick(service, slot string, version uint64) error {
	list, err := a.todos()
	if err != nil {
		return err
	}
	changed := false
	for i, t := range list {
		if t.Service == service && t.Slot == slot && t.Done == 0 && version >= t.Version {
			list[i].Done, changed = version, true
		}
	}
	if !changed {
		return nil
	}
	return a.writeJSON(list, "replace-list.json")
}

func (a *app) showTodos() error {
	list, err := a.todos()
	if err != nil {
		return err
	}
	if list == nil {
		list = []todo{}
	}
	return a.data(list, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "Nothing is to be replaced.")
			return
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "\tSERVICE\tSEEN BY\tVERSIONS\tNEXT")
		for _, d := range list {
			sign, next := " ", "new key upstream, then: "+replaceLine(d.Service, d.Slot)+" --check URL"
			if d.Done > 0 {
				sign, next = "x", fmt.Sprintf("done: v%d", d.Done)
			}
			if d.Done == d.Version {
				next = "deleted here; end it upstream, too"
			}
			fmt.Fprintf(t, "[%s]\t%s\t%s\t%s\t%s\n", sign, d.Service, d.Agent, d.Seen, next)
		}
		t.Flush()
	})
}

func sorted(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
