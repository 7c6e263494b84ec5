package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
)

// controlled runs a keeper with its socket.
func controlled(t *testing.T, f *lender) (*leases, string, <-chan error) {
	t.Helper()
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	k := newKeeper(Config{Vault: f, Wallet: ownWallet, CA: ca, Log: slog.New(slog.DiscardHandler)})
	k.address = "127.0.0.1:1"
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- k.run(ctx, l) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	c, err := Connect(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for { // until it hears the custodian
		out, err := c.Ask(Request{Op: "status"})
		if err != nil {
			t.Fatal(err)
		}
		if out.Status.Watching {
			return k, path, done
		}
		time.Sleep(time.Millisecond)
	}
}

func connect(t *testing.T, path string) *Control {
	t.Helper()
	c, err := Connect(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func hexHash(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestChildLivesWithItsConnection(t *testing.T) {
	f := newLender()
	k, path, _ := controlled(t, f)
	c := connect(t, path)
	out, err := c.Ask(Request{Op: "child", Agent: "scribe", Delegation: &api.Delegation{}, Names: []string{"github", "openai", "github"},
		Env: []string{hexHash("secret-of-github-v1"), hexHash("something else")}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Services) != 2 || out.Services[0].Name != "github" || out.Services[0].Hosts[0] != "api.github.test:443" || !strings.Contains(out.CA, "BEGIN CERTIFICATE") {
		t.Errorf("told %+v", out)
	}
	if len(out.Env) != 1 || out.Env[0].Env != hexHash("secret-of-github-v1") || out.Env[0].Placeholder != out.Services[0].Placeholders[0] {
		t.Errorf("found in the environment: %+v", out.Env)
	}
	user, rest, _ := strings.Cut(strings.TrimPrefix(out.URL, "http://"), ":")
	token, host, _ := strings.Cut(rest, "@")
	if user != "scribe" || host != "127.0.0.1:1" || len(token) != 64 {
		t.Errorf("the URL is %q", out.URL)
	}
	found, ok := k.find(token)
	if !ok || found.agent() != "scribe" {
		t.Fatal("its token is not known")
	}
	if _, ok := k.find(token[:63] + "0"); ok && token[63] != '0' {
		t.Error("another token is known")
	}
	if _, err := c.Ask(Request{Op: "child", Agent: "scribe", Delegation: &api.Delegation{}, Names: []string{"github"}}); code(err) != "bad_request" {
		t.Errorf("a second child on one connection: %v", err)
	}
	if _, err := c.Ask(Request{Op: "renew", Delegation: &api.Delegation{Until: 77}}); err != nil {
		t.Error(err)
	}
	if d := found.(*child).delegation; d.Until != 77 {
		t.Errorf("the delegation is %+v", d)
	}
	running, err := found.begin(t.Context(), "github")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	<-running.ctx.Done()
	<-found.gone()
	running.end()
	if _, ok := k.find(token); ok {
		t.Error("its token lives on")
	}
}

func TestControlRefuses(t *testing.T) {
	_, path, _ := controlled(t, newLender())
	c := connect(t, path)
	d := &api.Delegation{}
	for name, in := range map[string]Request{
		"no operation":         {},
		"unknown operation":    {Op: "dump"},
		"child of nothing":     {Op: "child", Delegation: d},
		"child without rights": {Op: "child", Names: []string{"github"}},
		"no service name":      {Op: "child", Delegation: d, Names: []string{"../x"}},
		"renewed before":       {Op: "renew", Delegation: d},
		"long name":            {Op: "child", Delegation: d, Names: []string{"github"}, Agent: strings.Repeat("a", 65)},
	} {
		if _, err := c.Ask(in); code(err) != "bad_request" {
			t.Errorf("%s: %v", name, err)
		}
	}
	raw, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, line := range []string{"x\n", `{"op":"status","more":1}` + "\n", `{"op":"status"} {}` + "\n"} {
		if _, err := raw.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := raw.Read(b)
		if err != nil || !strings.Contains(string(b[:n]), "bad_request") {
			t.Errorf("%q: %q %v", line, b[:n], err)
		}
	}
	// A line without an end is not kept for ever.
	go func() { _, _ = raw.Write([]byte(strings.Repeat("x", 2*maxLine))) }()
	_ = raw.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := raw.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes answer a line over the limit", n)
	}
}

func TestStopByControl(t *testing.T) {
	f := newLender()
	_, path, done := controlled(t, f)
	c := connect(t, path)
	if _, err := c.Ask(Request{Op: "child", Agent: "scribe", Delegation: &api.Delegation{}, Names: []string{"github"}}); err != nil {
		t.Fatal(err)
	}
	status, err := c.Ask(Request{Op: "status"})
	if err != nil || len(status.Status.Children) != 1 || status.Status.Children[0].Leases[0].Service != "github" {
		t.Fatalf("%+v %v", status.Status, err)
	}
	if _, err := connect(t, path).Ask(Request{Op: "stop"}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if f.wiped() != len(f.given) || len(f.given) == 0 {
		t.Errorf("%d of %d values are wiped", f.wiped(), len(f.given))
	}
	if _, err := Connect(t.Context(), path); err == nil {
		t.Error("it still listens")
	}
}

func TestAgentNamesInTheURL(t *testing.T) {
	for in, want := range map[string]string{"scribe": "scribe", "": "owner", "a b": "owner", "a@b": "owner"} {
		if got := urlName(in); got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
	if _, err := agentkeys.ParseService(urlName("x y")); err != nil {
		t.Error(err)
	}
}
