package client

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
)

// Lease is a value on loan to a proxy.
type Lease struct {
	Value
	ServiceID agentkeys.ServiceID
	Session   string           // it is used for, 32 hex
	Agent     agentkeys.Wallet // whose session that is
	Until     time.Time        // monotonic, counted from before it was asked for
}

// Delegate lets a proxy use what this session may use, at most until the session ends.
func (c *Client) Delegate(proxy agentkeys.Wallet, until time.Time) api.Delegation {
	s := c.session()
	end := uint64(min(until.Unix(), s.expires.Unix()))
	return api.Delegate(s.key, c.at.Vault, s.token, proxy, end)
}

// Use asks for a value as a proxy, on behalf of the session that delegated. The caller
// wipes it.
func (c *Client) Use(ctx context.Context, d api.Delegation, name agentkeys.Service, instance string) (Lease, error) {
	sent := time.Now()
	var u api.Used
	if err := c.call(ctx, api.PathUse, api.Use{Delegation: d, Service: string(name), Instance: instance}, &u); err != nil {
		return Lease{}, err
	}
	v, err := c.open(u.Value)
	if err != nil {
		return Lease{}, err
	}
	// The calls are told by what the receipt says, so the answer has to say the same.
	r := v.Receipt.Record
	if r.Mode != uint8(statement.ModeUse) || u.ServiceID != r.Service.String() || u.Agent != r.Agent.String() || u.Session != hex.EncodeToString(r.Session[:]) {
		v.Secret.Wipe()
		return Lease{}, errors.New("use: the receipt is for another use; keep it and tell the operator")
	}
	lease := time.Duration(min(u.Lease, uint64(api.MaxLease/time.Second))) * time.Second
	return Lease{Value: v, ServiceID: r.Service, Session: u.Session, Agent: r.Agent, Until: sent.Add(lease)}, nil
}

// Watch tells what a proxy did and asks what it has to drop. It may take WatchHold.
func (c *Client) Watch(ctx context.Context, in api.Watch) (w api.Watched, err error) {
	return w, c.call(ctx, api.PathWatch, in, &w)
}

// Rules tells where a credential may go. The owner names the slot, zero for the shared
// one; an agent reads its own or the shared one, as its grant says.
func (c *Client) Rules(ctx context.Context, name agentkeys.Service, slot agentkeys.Wallet) (r api.Rules, err error) {
	in := api.RulesRequest{Service: string(name)}
	if !slot.IsZero() {
		in.Agent = slot.String()
	}
	return r, c.call(ctx, api.PathRules, in, &r)
}

// Sessions lists the user's live sessions. Owners only.
func (c *Client) Sessions(ctx context.Context) (s api.Sessions, err error) {
	return s, c.call(ctx, api.PathSessions, struct{}{}, &s)
}

// End ends this session for good.
func (c *Client) End(ctx context.Context) error {
	w, err := c.WhoAmI(ctx)
	if err != nil {
		return err
	}
	return c.EndSession(ctx, api.SessionInfo{ID: w.Session}, nil)
}

// EndSession ends a session for good: this one without more, another of the user's with
// the owner's wallet.
func (c *Client) EndSession(ctx context.Context, info api.SessionInfo, owner *eip712.Key) error {
	in := api.End{Session: info.ID}
	if owner != nil {
		agent, err := agentkeys.ParseWallet(info.Agent)
		if err != nil {
			return err
		}
		nonce, err := c.challenge(ctx)
		if err != nil {
			return err
		}
		p := eip712.Presence{User: c.user, Action: "end", Service: eip712.ServiceID(api.SessionLabel(info.ID)), Agent: agent, Nonce: nonce}
		sig := owner.Sign(p.Digest(c.at.Vault))
		in.Presence = &api.Presence{Nonce: nonce[:], Signature: sig[:]}
	}
	return c.call(ctx, api.PathEnd, in, &struct{}{})
}
