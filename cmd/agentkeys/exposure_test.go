package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys/api"
)

func TestExposure(t *testing.T) {
	now := time.Unix(100*86400, 0)
	day := func(ago int) uint64 { return uint64(now.Add(-time.Duration(ago) * 24 * time.Hour).Unix()) }
	x := exposure(api.Listing{
		Epochs: []api.Epoch{{Epoch: 5, State: "active", Live: 2}, {Epoch: 4, State: "draining", Live: 1}},
		Credentials: []api.Item{{Service: "daily", ServiceID: "d", LastRead: day(1)}, {Service: "old", ServiceID: "o", LastRead: day(31)},
			{Service: "never", ServiceID: "n", Expires: 1}},
		Grants: []api.Grant{{ServiceID: "d", Live: true}, {ServiceID: "o", Live: false}},
	}, now)
	if x.Credentials != 3 || x.Destroyed != 3 {
		t.Errorf("%d credentials, %d destroyed", x.Credentials, x.Destroyed)
	}
	if !slices.Equal(x.Unused, []string{"old"}) || !slices.Equal(x.Unread, []string{"never"}) || !slices.Equal(x.Ungranted, []string{"old", "never"}) {
		t.Errorf("unused %v, never read %v, ungranted %v", x.Unused, x.Unread, x.Ungranted)
	}
	var out bytes.Buffer
	printExposure(&out, x)
	for _, want := range []string{"epoch 1-3", "destroyed  nothing", "draining", "now reads 3 credentials", "agentkeys delete NAME: old\n", "Never read: never\n", "Granted to nobody: old never", "Expire unless they are read; when: agentkeys list: never\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
}

func TestExposureOfManyNames(t *testing.T) {
	x := exposed{Unread: make([]string, 8000)}
	for i := range x.Unread {
		x.Unread[i] = "name"
	}
	var out bytes.Buffer
	printExposure(&out, x)
	if !strings.Contains(out.String(), "name and 7988 more") || len(out.String()) > 400 {
		t.Errorf("%d bytes: %.300s", len(out.String()), out.String())
	}
}

func TestExposureOfNothing(t *testing.T) {
	for name, l := range map[string]api.Listing{"no epoch": {}, "first epoch": {Epochs: []api.Epoch{{Epoch: 1, State: "active"}}}} {
		x := exposure(l, time.Now())
		if x.Credentials != 0 || x.Destroyed != 0 || x.Unused == nil || x.Unread == nil || x.Ungranted == nil || x.Expiring == nil {
			t.Errorf("%s: %+v", name, x)
		}
		var out bytes.Buffer
		if printExposure(&out, x); strings.Contains(out.String(), "1-") {
			t.Errorf("%s: %s", name, out.String())
		}
	}
}

func TestPrintEpochs(t *testing.T) {
	var out bytes.Buffer
	printEpochs(&out, api.Listing{Epochs: []api.Epoch{{Epoch: 3, State: "active", Live: 2}, {Epoch: 2, State: "draining", Live: 1}}})
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[1], "1 ") {
		t.Errorf("%s", out.String())
	}
}
