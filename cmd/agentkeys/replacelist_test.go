package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestReplaceList(t *testing.T) {
	a := &app{home: t.TempDir(), out: new(bytes.Buffer)}
	seen := func(service, slot string, version uint64, current bool) seenRow {
		return seenRow{Service: service, Slot: slot, Seen: 1, Versions: "v1", Version: version, Current: current}
	}
	if err := a.remember("scribe", []seenRow{seen("github", sharedSlot, 3, false), {Service: "openai", Slot: sharedSlot, Used: 9}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.path("replace-list.json")); err == nil {
		t.Error("there is a list, though nothing that was seen is stored still")
	}
	for range 2 { // revoking again adds nothing
		if err := a.remember("biller", []seenRow{seen("billing", sharedSlot, 3, true), seen("billing", "scribe", 8, true)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.remember("scribe", []seenRow{seen("billing", sharedSlot, 3, true)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, slot string
		version    uint64
		open       int
	}{
		{"nothing yet", "", 0, 3},
		{"an older version", sharedSlot, 2, 3},
		{"a newer version in the shared slot, for both who saw it", sharedSlot, 4, 1},
		{"once more", sharedSlot, 5, 1},
		{"deleted in the own slot", "scribe", 8, 0},
	} {
		if err := a.tick("billing", c.slot, c.version); err != nil {
			t.Fatal(err)
		}
		list, err := a.todos()
		if err != nil || len(list) != 3 {
			t.Fatalf("%s: %d entries, %v", c.what, len(list), err)
		}
		open := 0
		for _, d := range list {
			if d.Done == 0 {
				open++
			}
		}
		if open != c.open {
			t.Errorf("%s: %d open, want %d", c.what, open, c.open)
		}
	}
	var out bytes.Buffer
	a.out = &out
	if err := a.showTodos(); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); strings.Count(s, "[x]") != 3 || !strings.Contains(s, "done: v4") || !strings.Contains(s, "deleted here") {
		t.Error(s)
	}
}

func TestReplaceLine(t *testing.T) {
	if got := replaceLine("github", sharedSlot); got != "agentkeys replace github" {
		t.Error(got)
	}
	if got := replaceLine("github", "scribe"); got != "agentkeys replace github --agent scribe" {
		t.Error(got)
	}
}
