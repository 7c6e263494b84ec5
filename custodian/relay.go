package custodian

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/rules"
)

// HTTPRelay is the operator's relay over HTTP.
type HTTPRelay struct {
	url    string
	client *http.Client
}

// NewHTTPRelay takes the relay's address, such as http://127.0.0.1:7070.
func NewHTTPRelay(url string) *HTTPRelay {
	t := &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512, IdleConnTimeout: time.Minute}
	return &HTTPRelay{strings.TrimSuffix(url, "/") + api.PathRelay, &http.Client{Transport: t}}
}

// Submit returns once a block took the statements, or refused them.
func (r *HTTPRelay) Submit(ctx context.Context, wires [][]byte) (out api.Relayed, err error) {
	body, err := json.Marshal(api.Relay{Wires: wires})
	if err != nil {
		return out, err
	}
	err = api.Call(ctx, r.client, http.MethodPost, r.url, nil, body, &out)
	return out, err
}

// hint reads the relay's word on a single statement; silence counts as done, since
// the rows decide anyway.
func hint(r api.Relayed) (rules.Code, string) {
	if len(r.Results) != 1 {
		return rules.OK, ""
	}
	return rules.Code(r.Results[0].Code), r.Results[0].Reason
}
