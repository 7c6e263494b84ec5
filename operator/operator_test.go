package operator

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
)

// testOperator serves with a chain that takes everything; nothing else is there.
func testOperator(t *testing.T) (*Operator, *memorySender, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key := agentkeys.NewSecret([]byte(strings.Repeat("k", 32)))
	o, err := New(Config{Vault: testVault, ChainID: "c", Node: "http://127.0.0.1:1", Custodian: "http://127.0.0.1:1", Token: "t",
		RelayKey: key, Listener: l, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	s := &memorySender{looks: make(chan agentkeys.Wallet, 8)}
	o.relay.send = s
	o.scheduler.step = func(_ context.Context, u agentkeys.Wallet, _ uint64) (time.Duration, error) {
		s.looks <- u
		return -1, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	return o, s, "http://" + l.Addr().String()
}

func post(t *testing.T, url string, body io.Reader) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func wires(t *testing.T, n int, wire []byte) io.Reader {
	t.Helper()
	r := api.Relay{}
	for range n {
		r.Wires = append(r.Wires, wire)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReader(string(b))
}

func TestRelayOverHTTP(t *testing.T) {
	_, s, url := testOperator(t)
	s.answer = func(_ context.Context, parts [][]byte) (uint64, []ledger.Result, error) {
		return 12, []ledger.Result{{Code: uint32(rules.Stale), Reason: "version 2"}}, nil
	}
	status, text := post(t, url+api.PathRelay, wires(t, 1, beatWire()))
	var out api.Relayed
	if err := json.Unmarshal([]byte(text), &out); err != nil || status != http.StatusOK {
		t.Fatal(status, text, err)
	}
	if out.Height != 12 || len(out.Results) != 1 || out.Results[0].Name != "stale" || out.Results[0].Reason != "version 2" {
		t.Errorf("%+v", out)
	}
	status, text = post(t, url+api.PathRelay, wires(t, 4096, []byte("junk")))
	if status != http.StatusOK || strings.Count(text, "bad_layout") != 4096 {
		t.Errorf("4096 statements: %d", status)
	}
	_, metrics := get(t, url+"/metrics")
	for _, want := range []string{"agentkeys_relay_transactions_total 1\n", "agentkeys_relay_statements_total 1\n", "agentkeys_relay_refused_total 1\n"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %q:\n%s", want, metrics)
		}
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestRelayRefuses(t *testing.T) {
	_, s, url := testOperator(t)
	for name, body := range map[string]io.Reader{
		"nothing":       strings.NewReader(""),
		"no statement":  wires(t, 0, nil),
		"too many":      wires(t, 4097, []byte("x")),
		"unknown field": strings.NewReader(`{"wires":["AA=="],"more":1}`),
		"trailing":      strings.NewReader(`{"wires":["AA=="]}{}`),
		"slow":          iotest.OneByteReader(strings.NewReader(`{"wires":`)),
	} {
		if status, text := post(t, url+api.PathRelay, body); status != http.StatusBadRequest || !strings.Contains(text, "bad_request") {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if len(s.batches) != 0 {
		t.Error("something was sent")
	}
}

func TestChainAwayOverHTTP(t *testing.T) {
	_, s, url := testOperator(t)
	s.answer = func(context.Context, [][]byte) (uint64, []ledger.Result, error) { return 0, nil, errAway }
	status, text := post(t, url+api.PathRelay, wires(t, 1, beatWire()))
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "chain_unavailable") || !strings.Contains(text, `"retry":true`) {
		t.Errorf("%d %s", status, text)
	}
	if status, _ := get(t, url+api.PathHealth); status != http.StatusOK {
		t.Errorf("health %d", status)
	}
	if status, text := get(t, url+api.PathReady); status != http.StatusServiceUnavailable {
		t.Errorf("ready without a node: %d %s", status, text)
	}
}

func TestLook(t *testing.T) {
	_, s, url := testOperator(t)
	u := agentkeys.Wallet{5}
	if status, _ := post(t, url+"/v1/look", strings.NewReader(`{"user":"`+u.String()+`"}`)); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if got := <-s.looks; got != u {
		t.Errorf("looked at %s", got)
	}
	for _, body := range []string{"", `{"user":1}`, `{"user":"me"}`} {
		if status, _ := post(t, url+"/v1/look", strings.NewReader(body)); status != http.StatusBadRequest {
			t.Errorf("%q: status %d", body, status)
		}
	}
}
