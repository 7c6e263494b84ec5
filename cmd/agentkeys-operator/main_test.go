package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The relay answers anybody who reaches it, so only this machine does.
func TestListen(t *testing.T) {
	ln, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for addr, says := range map[string]string{
		ln.Addr().String(): "in use", "0.0.0.0:0": "loopback", ":0": "loopback", "192.0.2.1:80": "loopback", "localhost": "--listen",
	} {
		if ln, err := listen(addr); err == nil {
			ln.Close()
			t.Errorf("%s: accepted", addr)
		} else if !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", addr, err, says)
		}
	}
}

// Each part is looked at for itself, and what is red has a next step.
func TestExamine(t *testing.T) {
	ready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ready")) }))
	defer ready.Close()
	unready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the share trees are not open yet", http.StatusServiceUnavailable)
	}))
	defer unready.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	open := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(open, []byte("abcd"), 0o644); err != nil {
		t.Fatal(err)
	}
	x := examined{relay: ready.URL, custodian: unready.URL, node: gone.URL, files: []string{open}}
	all := x.examine(t.Context())
	for i, want := range []struct{ check, state, says string }{
		{"operator", "ok", "ready"}, {"custodian", "FAIL", "share trees are not open"}, {"node", "FAIL", "does not answer"}, {"file", "FAIL", "0600"},
	} {
		if i >= len(all) || all[i].Check != want.check || all[i].State != want.state || !strings.Contains(all[i].Says, want.says) {
			t.Fatalf("finding %d of %+v, want %+v", i, all, want)
		}
		if all[i].State == "FAIL" && all[i].Next == "" {
			t.Errorf("%s has no next step", all[i].Check)
		}
	}
	if err := failed(all); err == nil || !strings.Contains(err.Error(), "3 of 4") {
		t.Errorf("%v", err)
	}
	if err := failed(all[:1]); err != nil {
		t.Error(err)
	}
	if f := answers(t.Context(), "operator", gone.URL, "start it"); f.State != "FAIL" || f.Next != "start it" {
		t.Errorf("%+v", f)
	}
}
