package ledger

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echo is a node that answers every query with its own data, batches from the last to
// the first, once gate is open.
func echo(t *testing.T, gate chan struct{}, requests, queries *atomic.Int64) *Node {
	t.Helper()
	answer := func(r rpcRequest) map[string]any {
		queries.Add(1)
		if r.Params["data"] == "ff" {
			return map[string]any{"jsonrpc": "2.0", "id": r.ID, "error": RPCError{1, "no", "ff"}}
		}
		return map[string]any{"jsonrpc": "2.0", "id": r.ID, "result": map[string]any{"response": map[string]any{
			"height": "7", "log": r.Params["data"]}}}
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		<-gate
		var raw json.RawMessage
		_ = json.NewDecoder(req.Body).Decode(&raw)
		var many []rpcRequest
		if json.Unmarshal(raw, &many) != nil {
			var single rpcRequest
			_ = json.Unmarshal(raw, &single)
			_ = json.NewEncoder(w).Encode(answer(single))
			return
		}
		out := make([]map[string]any, len(many))
		for i, r := range many {
			out[len(many)-1-i] = answer(r)
		}
		_ = json.NewEncoder(w).Encode(out)
	}))
	t.Cleanup(srv.Close)
	n, err := NewNode(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Queries that wait for others go together, each gets its own answer, and one that
// fails harms none.
func TestQueriesGoTogether(t *testing.T) {
	var requests, queries atomic.Int64
	gate := make(chan struct{})
	n := echo(t, gate, &requests, &queries)
	const all = 42
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			data := byte(i)
			if i == all-1 {
				data = 0xff
			}
			a, err := n.Query(t.Context(), "/x", []byte{data}, 0, false)
			switch {
			case data == 0xff:
				if err == nil || !strings.Contains(err.Error(), "ff") {
					t.Errorf("the failing query: %v", err)
				}
			case err != nil || a.Log != Hex([]byte{data}).lower() || a.Height != 7:
				t.Errorf("query %d: %+v, %v", i, a, err)
			}
		})
		// The first ones are on their way alone before the others come.
		for i < maxFlights && requests.Load() <= int64(i) {
			time.Sleep(time.Millisecond)
		}
	}
	for n.queued() < all-maxFlights {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	wg.Wait()
	if queries.Load() != all || requests.Load() > maxFlights+(all-maxFlights+maxBatch-1)/maxBatch+1 {
		t.Errorf("%d queries in %d requests", queries.Load(), requests.Load())
	}
}

func (h Hex) lower() string { return strings.ToLower(h.String()) }

func (n *Node) queued() int {
	n.batch.mu.Lock()
	defer n.batch.mu.Unlock()
	return len(n.batch.waiting)
}

// Who gives up does not wait for the node, and the others get their answers.
func TestQueryGivenUp(t *testing.T) {
	var requests, queries atomic.Int64
	gate := make(chan struct{})
	n := echo(t, gate, &requests, &queries)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Query(ctx, "/x", []byte{1}, 0, false); err != context.Canceled {
		t.Fatalf("given up: %v", err)
	}
	close(gate)
	if a, err := n.Query(t.Context(), "/x", []byte{2}, 0, false); err != nil || a.Log != "02" {
		t.Fatalf("the next: %+v, %v", a, err)
	}
}

// A node that does not know batches, or answers too few, is an error for each.
func TestBatchWithoutAnswers(t *testing.T) {
	for name, body := range map[string]string{"one answer": `{"jsonrpc":"2.0","id":0,"result":{}}`, "none": `[]`, "strangers": `[{"id":99,"result":{}},{"id":-1,"result":{}}]`} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
		n, err := NewNode(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		batch := []*query{{params: map[string]any{}}, {params: map[string]any{}}}
		n.together(batch)
		for _, q := range batch {
			if q.err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		srv.Close()
	}
}
