package operator

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"example.org/agentkeys/api"
)

// custodianClient calls the custodian's operator API. The token keeps strangers
// out; nothing that comes back opens anything.
type custodianClient struct {
	url, token string
	http       *http.Client
}

func newCustodianClient(url, token string) *custodianClient {
	return &custodianClient{strings.TrimSuffix(url, "/"), token, &http.Client{Timeout: 2 * time.Minute}}
}

func (c *custodianClient) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	h := http.Header{"Authorization": {"Bearer " + c.token}}
	return api.Call(ctx, c.http, http.MethodPost, c.url+path, h, body, out)
}

func (c *custodianClient) vouch(ctx context.Context, h api.RotatorHello) error {
	return c.call(ctx, api.PathVouch, h, nil)
}

func (c *custodianClient) job(ctx context.Context, r api.JobRequest) (j api.Job, err error) {
	return j, c.call(ctx, api.PathJob, r, &j)
}

func (c *custodianClient) handshake(ctx context.Context, h api.Handshake) (f api.JobFrames, err error) {
	return f, c.call(ctx, api.PathHandshake, h, &f)
}

func (c *custodianClient) receipt(ctx context.Context, r api.JobReceipt) error {
	return c.call(ctx, api.PathReceipt, r, nil)
}

func (c *custodianClient) wrap(ctx context.Context, r api.WrapRequest) (j api.Job, err error) {
	return j, c.call(ctx, api.PathWrap, r, &j)
}

func (c *custodianClient) wrapped(ctx context.Context, r api.JobReceipts) error {
	return c.call(ctx, api.PathWrapped, r, nil)
}

func (c *custodianClient) hints(ctx context.Context) (h api.Hints, err error) {
	return h, c.call(ctx, api.PathHints, struct{}{}, &h)
}
