package rulestest

import (
	"fmt"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// Entry is one statement or act that was accepted, and where: what an auditor
// replays.
type Entry struct {
	Block rules.Block
	Wire  []byte
	Act   bool
}

// Vault is the rules on a map with blocks around them. Fields may be read and set
// between calls; it is not safe for concurrent use.
type Vault struct {
	ID      agentkeys.VaultID
	KV      MapKV
	Block   rules.Block // where the next statement lands
	History []Entry

	users []agentkeys.Wallet
	scope uint8
	dirty bool
}

// NewVault is an empty vault in block 1 at time 1,000,000.
func NewVault(id agentkeys.VaultID, p statement.Params) (*Vault, error) {
	v := &Vault{ID: id, KV: MapKV{}, Block: rules.Block{Height: 1, Time: 1_000_000}}
	return v, rules.InitGenesis(v.KV, id, p)
}

// Apply runs one signed statement in the current block. A refused one leaves no
// trace; the error is the store's alone.
func (v *Vault) Apply(wire []byte) (rules.Result, error) {
	return v.run(Entry{Block: v.Block, Wire: wire})
}

// Act runs one act of the authority in the current block.
func (v *Vault) Act(act statement.Body) (rules.Result, error) {
	return v.run(Entry{Block: v.Block, Wire: statement.AppendAct(nil, act), Act: true})
}

// Run applies an entry at its own block, without the bookkeeping of a [Vault].
func (e Entry) Run(kv rules.KV) (rules.Result, error) {
	apply := rules.Apply
	if e.Act {
		apply = rules.ApplyAuthority
	}
	layer := NewLayer(kv)
	r, err := apply(layer, e.Block, e.Wire)
	if err != nil || r.Code != rules.OK {
		return r, err
	}
	return r, layer.Flush()
}

func (v *Vault) run(e Entry) (rules.Result, error) {
	r, err := e.Run(v.KV)
	if err != nil || r.Code != rules.OK {
		return r, err
	}
	v.Block.Position++
	v.History = append(v.History, e)
	v.users = append(v.users, r.Users...)
	v.dirty = true
	// all over system over users
	if v.scope != rules.TouchedAll && r.Scope != rules.TouchedUsers {
		v.scope = r.Scope
	}
	return r, nil
}

// NextBlock ends the current block, writing its Touched row if something changed,
// and starts the next one some seconds later.
func (v *Vault) NextBlock(seconds uint64) error {
	if v.dirty {
		if err := rules.Touch(v.KV, v.Block.Height, v.users, v.scope); err != nil {
			return err
		}
	}
	v.users, v.scope, v.dirty = nil, rules.TouchedUsers, false
	v.Block = rules.Block{Height: v.Block.Height + 1, Time: v.Block.Time + seconds}
	return nil
}

// User reads the row of a user; the zero row when there is none.
func (v *Vault) User(w agentkeys.Wallet) rules.User {
	return row(v, rules.UserKey(w), rules.ParseUser)
}

// Pointer reads the row of a slot; version 0 when there is none.
func (v *Vault) Pointer(s agentkeys.Slot) rules.Pointer {
	return row(v, rules.PointerKey(s), rules.ParsePointer)
}

// Agent reads the row of an agent at a user; counter 0 when there is none.
func (v *Vault) Agent(user, agent agentkeys.Wallet) rules.Agent {
	return row(v, rules.AgentKey(user, agent), rules.ParseAgent)
}

// Grant reads the row of a grant; version 0 when there is none.
func (v *Vault) Grant(s agentkeys.Slot) rules.Grant {
	return row(v, rules.GrantKey(s), rules.ParseGrant)
}

// Anchor reads the row of an anchor; state 0 when there is none.
func (v *Vault) Anchor(id statement.AnchorID) rules.Anchor {
	return row(v, rules.AnchorKey(id), rules.ParseAnchor)
}

// Reads reads the row of a custodian's audit trail.
func (v *Vault) Reads(k agentkeys.ProcessKey) rules.Reads {
	return row(v, rules.ReadsKey(k), rules.ParseReads)
}

// Enclave reads the row of a process; activation 0 when there is none.
func (v *Vault) Enclave(role statement.EnclaveRole, k agentkeys.ProcessKey) rules.Enclave {
	return row(v, rules.EnclaveKey(role, k), rules.ParseEnclave)
}

// System reads the row of the whole vault.
func (v *Vault) System() rules.System {
	return row(v, rules.SystemKey(), rules.ParseSystem)
}

// row panics on a row that does not parse: a test wrote it by hand.
func row[T any](v *Vault, key []byte, parse func([]byte) (T, error)) (r T) {
	b, ok := v.KV[string(key)]
	if !ok {
		return r
	}
	r, err := parse(b)
	if err != nil {
		panic(fmt.Sprintf("rulestest: broken row %x", key))
	}
	return r
}
