package ledger

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// fakeNode serves a fakeChain as a node's RPC does. Its hooks lie.
type fakeNode struct {
	chain   atomic.Pointer[fakeChain]
	server  *httptest.Server
	noWS    atomic.Bool
	down    atomic.Bool
	calls   sync.Map // method -> *atomic.Int64
	commit  func(*SignedHeader)
	answer  func(*Answer)
	members int           // added to the number of validators
	waiting chan struct{} // when set, queries wait for it to close
}

func serveFake(t testing.TB, c *fakeChain) *fakeNode {
	n := &fakeNode{}
	n.chain.Store(c)
	n.server = httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.server.Close)
	return n
}

func (n *fakeNode) count(method string) int64 {
	v, ok := n.calls.Load(method)
	if !ok {
		return 0
	}
	return v.(*atomic.Int64).Load()
}

func (n *fakeNode) serve(w http.ResponseWriter, r *http.Request) {
	if n.down.Load() {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	if r.URL.Path == "/websocket" {
		n.websocket(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var batch []fakeRequest
	if json.Unmarshal(body, &batch) == nil {
		out := make([]map[string]any, len(batch))
		for i, req := range batch {
			out[len(batch)-1-i] = n.reply(req) // in any order
		}
		_ = json.NewEncoder(w).Encode(out)
		return
	}
	var req fakeRequest
	if err := json.Unmarshal(body, &req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(n.reply(req))
}

type fakeRequest struct {
	ID     int
	Method string
	Params map[string]any
}

func (n *fakeNode) reply(req fakeRequest) map[string]any {
	v, _ := n.calls.LoadOrStore(req.Method, new(atomic.Int64))
	v.(*atomic.Int64).Add(1)
	result, err := n.result(req.Method, req.Params)
	if err != nil {
		return map[string]any{"jsonrpc": "2.0", "id": req.ID, "error": RPCError{-32603, "Internal error", err.Error()}}
	}
	return map[string]any{"jsonrpc": "2.0", "id": req.ID, "result": result}
}

func (n *fakeNode) result(method string, params map[string]any) (any, error) {
	c := n.chain.Load()
	text, _ := params["height"].(string)
	height, _ := strconv.ParseUint(text, 10, 64)
	b := c.at(height)
	if b == nil {
		return nil, fmt.Errorf("height %d must be less than or equal to the current blockchain height %d", height, c.height())
	}
	switch method {
	case "status":
		return map[string]any{
			"node_info": map[string]any{"network": c.id},
			"sync_info": map[string]any{"latest_block_height": fmt.Sprint(c.height()), "latest_block_time": b.Header.Time},
		}, nil
	case "commit":
		signed := SignedHeader{b.Header, b.Commit}
		if n.commit != nil {
			n.commit(&signed)
		}
		return commitResult{signed, true}, nil
	case "validators":
		r := validatorsResult{Height: b.Header.Height, Count: len(b.Validators.members), Total: len(b.Validators.members)}
		for _, m := range b.Validators.members {
			r.Validators = append(r.Validators, rpcValidator{m, "0"})
		}
		r.Total += n.members
		return r, nil
	case "abci_query":
		if n.waiting != nil {
			<-n.waiting
		}
		key, err := hex.DecodeString(params["data"].(string))
		if err != nil {
			return nil, err
		}
		a := c.query(key, height)
		if n.answer != nil {
			n.answer(&a)
		}
		return map[string]any{"response": a}, nil
	case "block":
		c.mu.Lock()
		defer c.mu.Unlock()
		return map[string]any{"block": map[string]any{
			"header": b.Header, "data": map[string]any{"txs": c.txs[b.Header.Height-1]},
		}}, nil
	case "block_results":
		c.mu.Lock()
		defer c.mu.Unlock()
		var results []TxResult
		for i := range c.txs[b.Header.Height-1] {
			results = append(results, TxResult{Code: uint32(i), GasUsed: 7})
		}
		return map[string]any{"height": text, "txs_results": results}, nil
	}
	return nil, fmt.Errorf("no method %s", method)
}

// websocket sends an event for every new height.
func (n *fakeNode) websocket(w http.ResponseWriter, r *http.Request) {
	if n.noWS.Load() {
		http.Error(w, "no websocket here", http.StatusNotFound)
		return
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	if _, _, err := c.Read(r.Context()); err != nil {
		return
	}
	ctx := c.CloseRead(r.Context())
	if c.Write(ctx, websocket.MessageText, []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`)) != nil {
		return
	}
	n.events(ctx, c)
}

func (n *fakeNode) events(ctx context.Context, c *websocket.Conn) {
	for last := uint64(0); ; {
		if h := n.chain.Load().height(); h > last {
			last = h
			event := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"query":"q","data":{"type":"tendermint/event/NewBlockHeader","value":{"header":{"height":"%d"}}}}}`, h)
			if c.Write(ctx, websocket.MessageText, []byte(event)) != nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Millisecond):
		}
		if n.noWS.Load() {
			return
		}
	}
}
