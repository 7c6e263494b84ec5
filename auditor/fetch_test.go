package auditor_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"testing"

	"example.org/agentkeys/auditor"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
)

// replayNode answers as the node did from which a bundle came.
type replayNode struct {
	b *auditor.Bundle
}

func (n replayNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Method string
		Params map[string]any
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	text, _ := req.Params["height"].(string)
	height, _ := strconv.ParseUint(text, 10, 64)
	out := map[string]any{"jsonrpc": "2.0", "id": 1}
	if result := n.result(req.Method, height, req.Params); result != nil {
		out["result"] = result
	} else {
		out["error"] = ledger.RPCError{Code: -32603, Message: "no answer to " + req.Method}
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (n replayNode) result(method string, height uint64, params map[string]any) any {
	top := n.b.StateHeight + 1
	if method == "status" {
		return map[string]any{"node_info": map[string]any{"network": n.b.ChainID},
			"sync_info": map[string]any{"latest_block_height": fmt.Sprint(top), "latest_block_time": n.b.Blocks[top-1].Header.Time}}
	}
	if method == "abci_query" {
		return map[string]any{"response": n.query(params["path"].(string), height, params["data"].(string))}
	}
	if height == 0 || height > top {
		return nil
	}
	b := n.b.Blocks[height-1]
	switch method {
	case "commit":
		return map[string]any{"signed_header": ledger.SignedHeader{Header: b.Header, Commit: b.Commit}, "canonical": true}
	case "validators":
		return map[string]any{"block_height": fmt.Sprint(height), "validators": b.Validators, "count": fmt.Sprint(len(b.Validators)), "total": fmt.Sprint(len(b.Validators))}
	case "block":
		return map[string]any{"block": map[string]any{"header": b.Header, "data": map[string]any{"txs": b.Txs}}}
	case "block_results":
		results := append([]ledger.TxResult(nil), b.Results...)
		for i := range results {
			results[i].Log = "on this node only"
		}
		return map[string]any{"height": fmt.Sprint(height), "txs_results": results}
	}
	return nil
}

// query proves rows, and lists the users and their rows.
func (n replayNode) query(path string, height uint64, data string) any {
	key, _ := hex.DecodeString(data)
	rows := n.b.Rows
	if height == n.b.EarlyHeight {
		rows = n.b.Early
	}
	var list []byte
	for _, row := range rows {
		owner, owned := rules.Owner(row.Key)
		switch {
		case path == "/store/vault/key" && bytes.Equal(row.Key, key):
			return map[string]any{"height": fmt.Sprint(height), "key": row.Key, "value": row.Value, "proofOps": row.Proof}
		case path == "/agentkeys.vault.v1.Query/Users" && owned && bytes.Equal(row.Key, rules.UserKey(owner)):
			list = field(list, 1, owner[:])
		case path == "/agentkeys.vault.v1.Query/UserRows" && owned && len(row.Value) > 0:
			list = field(list, 1, field(field(nil, 1, row.Key), 2, row.Value))
		}
	}
	return map[string]any{"height": "0", "value": base64.StdEncoding.EncodeToString(list)}
}

func TestFetchGivesTheSameBundle(t *testing.T) {
	want, trust, _ := recorded(t)
	server := httptest.NewServer(replayNode{want})
	defer server.Close()
	node, err := ledger.NewNode(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	got, err := auditor.Fetch(t.Context(), node, trust.ChainID, trust.Vault, func(string, int, int) { steps++ })
	if err != nil {
		t.Fatal(err)
	}
	got.AddRecords(want.Records)
	a, err1 := got.Encode()
	b, err2 := want.Encode()
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) || !reflect.DeepEqual(got.Rows, want.Rows) {
		t.Fatal("another bundle", err1, err2)
	}
	if steps != len(want.Blocks)+len(want.Rows) {
		t.Errorf("%d steps told", steps)
	}
	if _, err := auditor.Fetch(t.Context(), node, "another", trust.Vault, nil); err == nil {
		t.Error("another chain is fetched")
	}
}

// A row that no statement made is listed by the node, so it comes into the bundle and
// shows there.
func TestFetchedRowThatNoStatementMade(t *testing.T) {
	s := newStory(t)
	extra := rules.AgentKey(s.user, [20]byte{9})
	s.vault.KV[string(extra)] = rules.Agent{Role: 1, Counter: 1, Expires: 9}.Append(nil)
	s.end()
	whole := s.bundle()
	server := httptest.NewServer(replayNode{whole})
	defer server.Close()
	node, err := ledger.NewNode(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, err := auditor.Fetch(t.Context(), node, chainID, s.vault.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	found(t, auditor.Verify(b, s.trust(b)), "rows", "the statements make nothing")
}
