package rules

import (
	"bytes"
	"fmt"

	"example.org/agentkeys"
	"example.org/agentkeys/statement"
)

// Row is one key and its value, as a genesis file carries it.
type Row struct{ Key, Value []byte }

// InitGenesis writes the rows of an empty vault.
func InitGenesis(kv KV, vault agentkeys.VaultID, p statement.Params) error {
	if err := checkParams(p); err != nil {
		return err
	}
	if err := kv.Set(VaultKey(), vault[:]); err != nil {
		return err
	}
	if err := kv.Set(ParamsKey(), ParamsRow{Current: p}.Append(nil)); err != nil {
		return err
	}
	return kv.Set(SystemKey(), System{}.Append(nil))
}

// CheckRows refuses rows that no sequence of statements could have made: keys out
// of order, rows that do not parse, counts that do not add up. Rows come sorted by
// key, as an export writes them.
func CheckRows(rows []Row) error {
	c := check{users: map[agentkeys.Wallet]User{}, counts: map[place]uint32{}, agents: map[agentkeys.Wallet]bool{},
		anchors: map[statement.AnchorID]bool{}}
	var last []byte
	for _, r := range rows {
		if len(r.Key) == 0 || last != nil && bytes.Compare(last, r.Key) >= 0 {
			return fmt.Errorf("genesis: keys empty or out of order at %x", r.Key)
		}
		last = r.Key
		if err := c.row(r); err != nil {
			return fmt.Errorf("genesis: row %x: %w", r.Key, err)
		}
	}
	return c.close()
}

type place struct {
	user  agentkeys.Wallet
	epoch agentkeys.Epoch
}

type check struct {
	vault, params, hasSystem bool
	system                   System
	users                    map[agentkeys.Wallet]User
	agents                   map[agentkeys.Wallet]bool   // owner of an agent or grant row: has a row as its own agent
	anchors                  map[statement.AnchorID]bool // with a row
	list                     Anchors
	counts                   map[place]uint32
	liveEpochs               uint64
}

func (c *check) row(r Row) (err error) {
	want := map[byte]int{keyVault: 1, keyParams: 1, keySystem: 1, keyAnchors: 1, keyTouchedHead: 1, keyUser: 21,
		keyPointer: 73, keyGrant: 73, keyAgent: 41, keyEnclave: 34, keyReads: 33, keyAnchor: 17, keyMeasurement: 51,
		keyOidc: 33, keyTouched: 9}[r.Key[0]]
	if len(r.Key) != want {
		return fmt.Errorf("key of unknown kind or length")
	}
	switch r.Key[0] {
	case keyVault:
		c.vault = len(r.Value) == 32
	case keyParams:
		err = c.paramsRow(r)
	case keySystem:
		c.system, err = ParseSystem(r.Value)
		c.hasSystem = err == nil
	case keyUser:
		err = c.user(r)
	case keyPointer:
		var p Pointer
		p, err = ParsePointer(r.Value)
		c.counts[place{agentkeys.Wallet(r.Key[1:21]), p.Epoch}]++
	case keyAgent:
		_, err = ParseAgent(r.Value)
		c.owned(r.Key, bytes.Equal(r.Key[1:21], r.Key[21:41]))
	case keyGrant:
		_, err = ParseGrant(r.Value)
		c.owned(r.Key, false)
	case keyAnchor:
		_, err = ParseAnchor(r.Value)
		c.anchors[statement.AnchorID(r.Key[1:])] = true
	case keyAnchors:
		c.list, err = ParseAnchors(r.Value)
	default:
		err = parseOther(r)
	}
	return err
}

// owned notes that a user has an agent or grant row, and whether that is its own.
func (c *check) owned(key []byte, own bool) {
	user := agentkeys.Wallet(key[1:21])
	c.agents[user] = c.agents[user] || own
}

func parseOther(r Row) (err error) {
	switch r.Key[0] {
	case keyEnclave:
		_, err = ParseEnclave(r.Value)
	case keyReads:
		_, err = ParseReads(r.Value)
	case keyMeasurement:
		_, err = ParseMeasurement(r.Value)
	case keyTouched, keyTouchedHead:
		_, err = ParseTouched(r.Value)
	case keyOidc:
		if !bytes.Equal(r.Value, []byte{1}) {
			err = agentkeys.ErrLayout
		}
	}
	return err
}

func (c *check) user(r Row) error {
	u, err := ParseUser(r.Value)
	if err != nil {
		return err
	}
	if u.Draining.Epoch != 0 && u.Draining.Epoch+1 != u.Active.Epoch {
		return fmt.Errorf("draining epoch %d is not right before the active %d", u.Draining.Epoch, u.Active.Epoch)
	}
	if u.Due > u.Active.Epoch && (u.Active.Epoch == 0 || u.Due != u.Active.Epoch+1) {
		return fmt.Errorf("due epoch %d, active %d", u.Due, u.Active.Epoch)
	}
	if u.Active.Eager || u.Active.Erased != 0 {
		return fmt.Errorf("active epoch carries marks of a draining one")
	}
	for _, e := range []EpochRow{u.Active, u.Draining} {
		switch {
		case e.Epoch != 0:
			c.liveEpochs++
		case e != EpochRow{}:
			return fmt.Errorf("empty epoch place is not zero")
		}
	}
	c.users[agentkeys.Wallet(r.Key[1:])] = u
	return nil
}

// close checks the counts: a pointer into an epoch that is not live has no place
// in either count and so makes them differ.
func (c *check) close() error {
	if !c.vault || !c.params || !c.hasSystem {
		return fmt.Errorf("genesis: vault id, params or system row missing or broken")
	}
	if c.system.Users != uint64(len(c.users)) || c.system.LiveEpochs != c.liveEpochs {
		return fmt.Errorf("genesis: system counts %d users and %d live epochs, rows have %d and %d",
			c.system.Users, c.system.LiveEpochs, len(c.users), c.liveEpochs)
	}
	for w, u := range c.users {
		if !c.agents[w] {
			return fmt.Errorf("genesis: user %s has no row as its own agent", w)
		}
		for _, e := range []EpochRow{u.Active, u.Draining} {
			if n := c.counts[place{w, e.Epoch}]; e.Epoch != 0 && n != e.LiveCount {
				return fmt.Errorf("genesis: user %s epoch %d counts %d credentials, rows have %d", w, e.Epoch, e.LiveCount, n)
			}
			delete(c.counts, place{w, e.Epoch})
		}
	}
	for p := range c.counts {
		return fmt.Errorf("genesis: user %s has a pointer into epoch %d, which is not live", p.user, p.epoch)
	}
	for w := range c.agents {
		if _, ok := c.users[w]; !ok {
			return fmt.Errorf("genesis: agents or grants of %s, who is not enrolled", w)
		}
	}
	return c.closeAnchors()
}

// closeAnchors holds the list of anchors against their rows, in both directions.
func (c *check) closeAnchors() error {
	for _, id := range c.list {
		if !c.anchors[id] {
			return fmt.Errorf("genesis: anchor %x is listed twice or has no row", id)
		}
		delete(c.anchors, id)
	}
	for id := range c.anchors {
		return fmt.Errorf("genesis: anchor %x is not listed", id)
	}
	return nil
}

func (c *check) paramsRow(r Row) error {
	p, err := ParseParams(r.Value)
	if err != nil {
		return err
	}
	c.params = true
	if p.Activation != 0 {
		if err := checkParams(p.Pending); err != nil {
			return err
		}
	}
	return checkParams(p.Current)
}
