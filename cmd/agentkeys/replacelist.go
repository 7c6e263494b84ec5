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
	Agent   string `json:"agent"`   // who saw it
	Seen    string `json:"seen"`    // versions
	Version uint64 `json:"version"` // stored when the agent was revoked
	Done    uint64 `json:"done"`    // version that replaced it, 0 = not yet
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
	for _, r := range rows {
		if !r.Current {
			continue
		}
		list = slices.DeleteFunc(list, func(t todo) bool { return t.Service == r.Service && t.Done == 0 })
		list = append(list, todo{Service: r.Service, Agent: agent, Seen: r.Versions, Version: r.Version})
	}
	return a.writeJSON(list, "replace-list.json")
}

// tick marks a service as replaced.
func (a *app) tick(service string, version uint64) error {
	list, err := a.todos()
	if err != nil || len(list) == 0 {
		return err
	}
	for i, t := range list {
		if t.Service == service && t.Done == 0 && version > t.Version {
			list[i].Done = version
		}
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
			sign, next := " ", "new key upstream, then: agentkeys replace "+d.Service+" --check URL"
			if d.Done > 0 {
				sign, next = "x", fmt.Sprintf("done: v%d", d.Done)
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
