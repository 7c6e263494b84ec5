package client

import (
	"context"
	"errors"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/record"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
)

// Value is a credential in the open, with the custodian's receipt.
type Value struct {
	credential.Credential
	Version uint64
	Epoch   agentkeys.Epoch
	Receipt record.ReadReceipt
}

// Read asks for a value: an agent as its grant allows. slot is the agent whose slot
// the owner means, zero for the shared one. The owner brings its wallet for a fresh
// presence signature; agents pass nil.
func (c *Client) Read(ctx context.Context, name agentkeys.Service, slot agentkeys.Wallet, owner *eip712.Key) (Value, error) {
	in := api.Read{Service: string(name)}
	if !slot.IsZero() {
		in.Agent = slot.String()
	}
	if owner != nil {
		version, err := c.version(ctx, name, slot)
		if err != nil {
			return Value{}, err
		}
		if in.Presence, err = c.presence(ctx, *owner, "reveal", name, slot, version); err != nil {
			return Value{}, err
		}
	}
	var v api.Value
	if err := c.call(ctx, api.PathRead, in, &v); err != nil {
		return Value{}, err
	}
	return c.open(v)
}

// open reads a credential and holds it against its receipt. The bytes are cleared.
func (c *Client) open(v api.Value) (Value, error) {
	defer clear(v.Credential)
	cred, err := credential.Parse(v.Credential)
	if err != nil {
		return Value{}, err
	}
	rcpt, err := record.ParseReceipt(v.Receipt)
	if err != nil || !rcpt.Verify(c.at.Vault) || rcpt.Record.Version != v.Version {
		cred.Secret.Wipe()
		return Value{}, errors.New("read: the receipt does not match the value; keep both and tell the operator")
	}
	return Value{cred, v.Version, agentkeys.Epoch(v.Epoch), rcpt}, nil
}

// maxUnknown is how often a write without a known outcome is repeated.
const maxUnknown = 2

// Write stores a credential in a slot: zero is the shared one. previous is the
// version it replaces, 0 for an empty slot; overwriting needs the owner's wallet.
// While the first epoch opens it waits for a moment; a write whose outcome is unknown
// is repeated with its blob id, which cannot write twice.
func (c *Client) Write(ctx context.Context, name agentkeys.Service, slot agentkeys.Wallet, cred credential.Credential, idle statement.IdleRule, previous uint64, owner *eip712.Key) (w api.Written, err error) {
	b, err := cred.Append(nil)
	if err != nil {
		return w, err
	}
	defer clear(b)
	in := api.Write{Service: string(name), Credential: b, Idle: uint8(idle), Previous: previous}
	if !slot.IsZero() {
		in.Agent = slot.String()
	}
	unknown := 0
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		if previous != 0 && owner != nil {
			if in.Presence, err = c.presence(ctx, *owner, "overwrite", name, slot, previous); err != nil {
				return w, err
			}
		}
		err = c.call(ctx, api.PathWrite, in, &w)
		var refusal *api.Error
		switch {
		case !errors.As(err, &refusal) || wait > 5*time.Second:
			return w, err
		case refusal.Code == "unknown_outcome" && len(refusal.BlobID) != 0 && unknown < maxUnknown:
			in.BlobID = refusal.BlobID
			unknown++
		case refusal.Code != "epoch_opening":
			return w, err
		}
		select {
		case <-ctx.Done():
			return w, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// List shows what the session may see.
func (c *Client) List(ctx context.Context) (l api.Listing, err error) {
	return l, c.call(ctx, api.PathList, struct{}{}, &l)
}

// WhoAmI says what the session is.
func (c *Client) WhoAmI(ctx context.Context) (w api.WhoAmI, err error) {
	return w, c.call(ctx, api.PathWhoAmI, struct{}{}, &w)
}

// TagKey is the user's viewing key. Owners only.
func (c *Client) TagKey(ctx context.Context) (seed.TagKey, error) {
	var k api.TagKey
	if err := c.call(ctx, api.PathTagKey, struct{}{}, &k); err != nil {
		return seed.TagKey{}, err
	}
	if len(k.Key) != 32 {
		return seed.TagKey{}, errors.New("tag key: want 32 bytes")
	}
	return seed.TagKey{Secret: agentkeys.NewSecret(k.Key)}, nil
}

// Reads lists the user's read records from a sequence on. Owners only.
func (c *Client) Reads(ctx context.Context, from uint64, limit int) (out []record.Record, next uint64, err error) {
	var r api.Reads
	if err := c.call(ctx, api.PathReads, api.ReadsRequest{From: from, Limit: limit}, &r); err != nil {
		return nil, 0, err
	}
	for _, b := range r.Records {
		rec, err := record.Parse(b)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, rec)
	}
	return out, r.Next, nil
}

// Submit has a user's statement signed by its wallet accepted by the chain.
func (c *Client) Submit(ctx context.Context, owner eip712.Key, body statement.Body) (a api.Accepted, err error) {
	wire, err := owner.SignStatement(c.at.Vault, body)
	if err != nil {
		return a, err
	}
	return a, c.post(ctx, api.PathStatement, api.Statement{Wire: wire}, &a)
}

// version is the newest version of a slot.
func (c *Client) version(ctx context.Context, name agentkeys.Service, slot agentkeys.Wallet) (uint64, error) {
	it, err := c.Item(ctx, name, slot)
	return it.Version, err
}

// Item finds one credential of the owner; zero slot is the shared one.
func (c *Client) Item(ctx context.Context, name agentkeys.Service, slot agentkeys.Wallet) (api.Item, error) {
	l, err := c.List(ctx)
	if err != nil {
		return api.Item{}, err
	}
	if slot.IsZero() {
		slot = c.user
	}
	for _, it := range l.Credentials {
		if it.Service == string(name) && it.Agent == slot.String() {
			return it, nil
		}
	}
	return api.Item{}, &api.Error{Status: 404, Code: "not_found", Message: string(name) + " is not stored", Next: "Store it: agentkeys store " + string(name)}
}

// presence signs the owner's fresh consent to one action.
func (c *Client) presence(ctx context.Context, owner eip712.Key, action string, name agentkeys.Service, slot agentkeys.Wallet, version uint64) (*api.Presence, error) {
	nonce, err := c.challenge(ctx)
	if err != nil {
		return nil, err
	}
	if slot.IsZero() {
		slot = c.user
	}
	tag, err := c.TagKey(ctx)
	if err != nil {
		return nil, err
	}
	defer tag.Wipe()
	label, err := tag.Label(name)
	if err != nil {
		return nil, err
	}
	p := eip712.Presence{User: c.user, Action: action, Service: eip712.ServiceID(label), Agent: slot, Version: version, Nonce: nonce}
	sig := owner.Sign(p.Digest(c.at.Vault))
	return &api.Presence{Nonce: nonce[:], Signature: sig[:]}, nil
}
