package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestStatusIsOneScreen(t *testing.T) {
	a, _ := guarded(t)
	t.Setenv("AGENTKEYS_HOME", a.home)
	if err := a.remember("biller", []seenRow{{Service: "billing", Slot: sharedSlot, Seen: 1, Current: true, Version: 3, Versions: "v3"}}); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if code := run([]string{"status"}, strings.NewReader(""), &out, &errOut); code != 0 {
		t.Fatal(errOut.String())
	}
	s := out.String()
	for _, want := range []string{"session  owner, until", "proxy    not running; agentkeys proxy start", "1 credentials, 1 agents admitted, epoch 1",
		"RED      billing was seen by biller, which is revoked; agentkeys replace billing"} {
		if !strings.Contains(s, want) {
			t.Errorf("%q is missing in\n%s", want, s)
		}
	}
	if strings.Count(s, "\n") > 24 || strings.Contains(s, "0x") || strings.Contains(s, "\x1b") {
		t.Error(s)
	}
}
