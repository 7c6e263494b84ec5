package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Node is a client of one node's JSON RPC over HTTP. It is safe for concurrent use and
// keeps connections. Nothing it returns is proven.
type Node struct {
	url  string
	http *http.Client

	batch batcher
}

// Limits of one answer in bytes.
const (
	maxAnswer  = 2 << 20
	maxBlock   = 32 << 20
	maxResults = 128 << 20
)

// callTimeout bounds a call whose context has no nearer deadline.
const callTimeout = 10 * time.Second

// NewNode takes the address of the RPC, http:// or https:// with host and port.
func NewNode(rpc string) (*Node, error) {
	u, err := url.Parse(rpc)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("node: want the address of its RPC, such as http://127.0.0.1:26657")
	}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
	}
	return &Node{url: u.Scheme + "://" + u.Host + u.Path, http: &http.Client{Transport: t}}, nil
}

// RPCError is an error that the node itself answered with.
type RPCError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    string `json:"data"`
}

func (e *RPCError) Error() string { return fmt.Sprintf("node: %s: %s", e.Message, e.Data) }

type rpcRequest struct {
	Version string         `json:"jsonrpc"`
	ID      int            `json:"id"`
	Method  string         `json:"method"`
	Params  map[string]any `json:"params"`
}

type rpcAnswer struct {
	Result json.RawMessage `json:"result"`
	Error  *RPCError       `json:"error"`
}

// call posts one request and decodes its result into out. exact refuses fields that
// out does not have.
func (n *Node) call(ctx context.Context, method string, params map[string]any, limit int64, exact bool, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, err := n.post(ctx, method, rpcRequest{"2.0", 1, method, params}, limit)
	if err != nil {
		return err
	}
	return decodeAnswer(b, method, exact, out)
}

// post sends one request, or several in an array, and gives the answer's bytes.
func (n *Node) post(ctx context.Context, method string, request any, limit int64) ([]byte, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := n.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("node: %s: %w", method, err)
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("node: %s: answer over %d bytes", method, limit)
	}
	return b, nil
}

func decodeAnswer(b []byte, method string, exact bool, out any) error {
	var a rpcAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return fmt.Errorf("node: %s: not a JSON RPC answer", method)
	}
	if a.Error != nil {
		return a.Error
	}
	d := json.NewDecoder(bytes.NewReader(a.Result))
	if exact {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(out); err != nil {
		return fmt.Errorf("node: %s: %w", method, err)
	}
	return nil
}

// heightParam leaves the height out for 0, the newest.
func heightParam(height uint64) map[string]any {
	if height == 0 {
		return map[string]any{}
	}
	return map[string]any{"height": fmt.Sprint(height)}
}

// Status is where the node says it is.
type Status struct {
	ChainID    string
	Height     uint64
	Time       time.Time
	CatchingUp bool
}

// Status asks for the node's chain id and height.
func (n *Node) Status(ctx context.Context) (Status, error) {
	var r struct {
		Node struct {
			Network string `json:"network"`
		} `json:"node_info"`
		Sync struct {
			Height     uint64    `json:"latest_block_height,string"`
			Time       time.Time `json:"latest_block_time"`
			CatchingUp bool      `json:"catching_up"`
		} `json:"sync_info"`
	}
	err := n.call(ctx, "status", map[string]any{}, maxAnswer, false, &r)
	return Status{r.Node.Network, r.Sync.Height, r.Sync.Time, r.Sync.CatchingUp}, err
}

// SignedHeader is a header with its commit.
type SignedHeader struct {
	Header Header `json:"header"`
	Commit Commit `json:"commit"`
}

type commitResult struct {
	Signed    SignedHeader `json:"signed_header"`
	Canonical bool         `json:"canonical"`
}

// Commit asks for a header and its commit; height 0 is the newest.
func (n *Node) Commit(ctx context.Context, height uint64) (SignedHeader, error) {
	var r commitResult
	err := n.call(ctx, "commit", heightParam(height), maxAnswer, true, &r)
	if err == nil && height != 0 && r.Signed.Header.Height != height {
		err = errors.New("node: commit: another height than asked for")
	}
	return r.Signed, err
}
