package main

import (
	"bytes"
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
)

func TestReplaceConcludes(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		check  string
		prints string
		fails  string
		open   int
	}{
		"no check": {0, "", "billing v4\n", "", 0},
		"ok":       {204, "https://x.test/", "billing v4, upstream says ok (204)\n", "", 0},
		"moved":    {302, "https://x.test/", "billing v4, upstream says ok (302)\n", "", 0},
		"refused":  {401, "https://x.test/", "billing v4, upstream says refused (401)\n", "does not take the new value", 1},
		"barred":   {403, "https://x.test/", "billing v4, upstream says refused (403)\n", "does not take the new value", 1},
		"missing":  {404, "https://x.test/", "billing v4, upstream says unclear (404)\n", "says nothing about the new value", 1},
		"broken":   {500, "https://x.test/", "billing v4, upstream says unclear (500)\n", "With another URL: agentkeys replace billing --check URL", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			a := &app{home: t.TempDir(), out: &out}
			if err := a.remember("biller", []seenRow{{Service: "billing", Slot: sharedSlot, Current: true, Version: 3}}); err != nil {
				t.Fatal(err)
			}
			err := a.concludeReplace(replaced{stored: stored{Service: "billing", Version: 4}, Overwrote: 3, Status: c.status}, sharedSlot, c.check)
			if out.String() != c.prints || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%q, %v", out.String(), err)
			}
			list, err := a.todos()
			if err != nil || len(list) != 1 || (list[0].Done == 0) != (c.open == 1) {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
}

// What the vault names after a replace is the new version, or it is an error.
func TestOverwritten(t *testing.T) {
	a, w := guarded(t)
	cl, err := a.resumed()
	if err != nil {
		t.Fatal(err)
	}
	old := w.list.Credentials[0]
	for name, c := range map[string]struct {
		version uint64
		hash    string
		ok      bool
	}{
		"the new one":            {4, "new", true},
		"still the old one":      {3, old.Hash, false},
		"yet another":            {5, "new", false},
		"a number, the old blob": {4, old.Hash, false},
	} {
		w.list.Credentials = []api.Item{{Service: old.Service, Agent: old.Agent, Version: c.version, Hash: c.hash}}
		if err := overwritten(t.Context(), cl, "github", agentkeys.Wallet{}, old, 4); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
