package custodian

import (
	"bytes"
	"context"
	"slices"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

// list shows an owner everything of the user, and an agent its own grants. Which
// rows exist is the node's word; each is proven, and an owner's list is complete
// when the proven live counts say so.
func (s *Server) list(ctx context.Context, c token.Claims, _ struct{}) (api.Listing, error) {
	if err := s.freshHead(ctx); err != nil {
		return api.Listing{}, err
	}
	for try := 0; ; try++ {
		v, err := s.authorise(ctx, c, want{action: actSession})
		if err != nil {
			return api.Listing{}, err
		}
		l, err := s.listOnce(ctx, c, v)
		if err != nil {
			s.log.Warn("list", "error", err.Error())
			return l, s.chainFailed(err)
		}
		// Rows that moved between the node's list and the proofs settle quickly.
		if l.Complete || try == 5 {
			return l, nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return l, err
		}
	}
}

func (s *Server) listOnce(ctx context.Context, c token.Claims, v verdict) (api.Listing, error) {
	l := api.Listing{Credentials: []api.Item{}, Grants: []api.Grant{}, Agents: []api.Agent{}, Epochs: []api.Epoch{}}
	tag, err := s.tagKey(c.User)
	if err != nil {
		return l, err
	}
	defer tag.Wipe()
	var keys [][]byte
	for _, prefix := range rules.UserPrefixes(c.User) {
		k, err := s.cfg.Lister.Keys(ctx, prefix)
		if err != nil {
			return l, err
		}
		keys = append(keys, k...)
	}
	if !slices.ContainsFunc(keys, func(k []byte) bool { return string(k) == string(rules.UserKey(c.User)) }) {
		keys = append(keys, rules.UserKey(c.User))
	}
	keys = ownKeys(c.User, keys)
	values, head, err := s.cfg.Chain.Rows(ctx, keys...)
	if err != nil {
		return l, err
	}
	l.Height, l.Time = head.StateHeight, blockTime(head)
	params, err := s.Params(ctx)
	if err != nil {
		return l, err
	}
	b := lister{l: &l, owner: c.Agent == c.User, agent: c.Agent, tag: tag, user: c.User, window: params.DrainWindow}
	if b.owner {
		if _, b.last, err = s.userTrail(ctx, c.User); err != nil {
			s.log.Warn("last reads are unknown", "error", err.Error())
		}
	}
	for i, key := range keys {
		if err := b.row(key, values[i]); err != nil {
			return l, err
		}
	}
	b.finish(v)
	return l, nil
}

// ownKeys drops what the node names twice, which would stand in for a key that it
// left out, and the rows of others.
func ownKeys(user agentkeys.Wallet, keys [][]byte) [][]byte {
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	return slices.DeleteFunc(keys, func(k []byte) bool {
		owner, owned := rules.Owner(k)
		return !owned || owner != user
	})
}

// lister collects proven rows into a listing.
type lister struct {
	l     *api.Listing
	owner bool
	user  agentkeys.Wallet
	agent agentkeys.Wallet
	tag   seed.TagKey
	last  map[agentkeys.Slot]uint64
	row0  rules.User
	// window is how long a draining epoch may wait for reads, seconds.
	window uint64
	live   map[agentkeys.Epoch]uint32
	admit  map[string]rules.Agent
}

func (b *lister) row(key, value []byte) error {
	if value == nil {
		return nil
	}
	if slot, is := rules.ParsePointerKey(key); is {
		return b.pointer(slot, value)
	}
	if slot, is := rules.ParseGrantKey(key); is {
		return b.grant(slot, value)
	}
	if _, agent, is := rules.ParseAgentKey(key); is {
		return b.agentRow(agent, value)
	}
	u, err := rules.ParseUser(value)
	b.row0 = u
	return err
}

func (b *lister) pointer(slot agentkeys.Slot, value []byte) error {
	p, err := rules.ParsePointer(value)
	if err != nil {
		return err
	}
	if b.live == nil {
		b.live = map[agentkeys.Epoch]uint32{}
	}
	b.live[p.Epoch]++
	if !b.owner {
		return nil
	}
	b.l.Credentials = append(b.l.Credentials, api.Item{Service: b.name(slot.Service, p.SealedName), ServiceID: slot.Service.String(),
		Agent: slot.Agent.String(), Version: p.Version, Epoch: uint32(p.Epoch), Idle: uint8(p.Idle), Missing: p.MissingSince,
		Hash: p.Hash.String(), LastRead: b.last[slot]})
	return nil
}

// name opens a sealed name; one that does not open stays unnamed.
func (b *lister) name(id agentkeys.ServiceID, sealed agentkeys.SealedName) string {
	n, err := b.tag.OpenName(b.user, id, sealed)
	if err != nil {
		return ""
	}
	return string(n)
}

func (b *lister) grant(slot agentkeys.Slot, value []byte) error {
	g, err := rules.ParseGrant(value)
	if err != nil || !b.owner && slot.Agent != b.agent {
		return err
	}
	b.l.Grants = append(b.l.Grants, api.Grant{Agent: slot.Agent.String(), Service: b.name(slot.Service, g.SealedName), ServiceID: slot.Service.String(),
		Counter: g.Counter, Version: g.Version, Mode: modeName(g.Mode), Slot: slotKindName(g.Slot), Expires: g.Expires})
	return nil
}

func (b *lister) agentRow(agent agentkeys.Wallet, value []byte) error {
	a, err := rules.ParseAgent(value)
	if err != nil || !b.owner && agent != b.agent {
		return err
	}
	if b.admit == nil {
		b.admit = map[string]rules.Agent{}
	}
	b.admit[agent.String()] = a
	role := "agent"
	if a.Role == statement.RoleProxy {
		role = "proxy"
	}
	b.l.Agents = append(b.l.Agents, api.Agent{Agent: agent.String(), Role: role, Counter: a.Counter, Expires: a.Expires})
	return nil
}

// finish says which grants live and whether the list is complete.
func (b *lister) finish(verdict) {
	for i := range b.l.Grants {
		g := &b.l.Grants[i]
		a := b.admit[g.Agent]
		g.Live = g.Mode != "none" && g.Counter == a.Counter && g.Expires > b.l.Time && a.Expires > b.l.Time
	}
	for i := range b.l.Credentials {
		it := &b.l.Credentials[i]
		if statement.IdleRule(it.Idle) == statement.IdleExpire && expiring(b.row0, agentkeys.Epoch(it.Epoch)) {
			it.Expires = b.row0.Active.Opened + b.window
		}
	}
	complete := b.owner
	for _, e := range []struct {
		row   rules.EpochRow
		state string
	}{{b.row0.Draining, "draining"}, {b.row0.Active, "active"}} {
		if e.row.Epoch == 0 {
			continue
		}
		complete = complete && b.live[e.row.Epoch] == e.row.LiveCount
		if b.owner {
			b.l.Epochs = append(b.l.Epochs, api.Epoch{Epoch: uint32(e.row.Epoch), State: e.state, Opened: e.row.Opened, Live: e.row.LiveCount, Eager: e.row.Eager})
		}
	}
	b.l.Complete = complete || !b.owner
	b.l.Floor, b.l.Due = b.row0.Floor, uint32(b.row0.Due)
}

// expiring says whether an epoch drains at its leisure: then what may expire and is not
// read is dropped at the end. Where everything is moved at once, that is too.
func expiring(u rules.User, epoch agentkeys.Epoch) bool {
	return epoch != 0 && epoch == u.Draining.Epoch && !u.Draining.Eager && u.Due <= u.Active.Epoch
}

func modeName(m statement.Mode) string {
	return [...]string{"none", "use", "reveal"}[min(m, statement.ModeReveal)]
}

func slotKindName(k statement.SlotKind) string {
	if k == statement.SlotOwn {
		return "own"
	}
	return "shared"
}
