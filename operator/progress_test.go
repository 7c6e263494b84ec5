package operator

import (
	"testing"

	"example.org/agentkeys/rules"
)

func TestProgress(t *testing.T) {
	var p Progress
	for _, u := range []rules.User{
		{}, // nothing stored yet
		{Active: rules.EpochRow{Epoch: 2, Opened: 100}},
		{Active: rules.EpochRow{Epoch: 2, Opened: 99}},          // opened before
		{Active: rules.EpochRow{Epoch: 2, Opened: 100}, Due: 3}, // asked for
		{Active: rules.EpochRow{Epoch: 3, Opened: 100}, Due: 3, Draining: rules.EpochRow{Epoch: 2, LiveCount: 7}},
		{Active: rules.EpochRow{Epoch: 3, Opened: 99}, Due: 4, Draining: rules.EpochRow{Epoch: 2}}, // drained, not destroyed
	} {
		p.add(u, 100)
	}
	if want := (Progress{Users: 6, Waiting: 2, Draining: 2, Left: 7}); p != want || p.Done() {
		t.Errorf("%+v, want %+v", p, want)
	}
	if got := p.String(); got != "2 of 6 users rotated, 2 draining with 7 credentials left" {
		t.Error(got)
	}
	if !(Progress{Users: 3}).Done() {
		t.Error("nothing is left, and it is not done")
	}
}
