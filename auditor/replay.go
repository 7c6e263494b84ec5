package auditor

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// memory is the store that statements are applied to again.
type memory map[string][]byte

func (m memory) Get(key []byte) ([]byte, error) { return bytes.Clone(m[string(key)]), nil }

func (m memory) Set(key, value []byte) error {
	m[string(key)] = append([]byte{}, value...)
	return nil
}

func (m memory) Delete(key []byte) error {
	delete(m, string(key))
	return nil
}

// layer keeps the writes of one statement apart until it is accepted.
type layer struct {
	under  memory
	writes map[string][]byte // nil = deleted
}

func (l layer) Get(key []byte) ([]byte, error) {
	if v, ok := l.writes[string(key)]; ok {
		return bytes.Clone(v), nil
	}
	return l.under.Get(key)
}

func (l layer) Set(key, value []byte) error {
	l.writes[string(key)] = append([]byte{}, value...)
	return nil
}

func (l layer) Delete(key []byte) error {
	l.writes[string(key)] = nil
	return nil
}

// entry is one accepted statement or act.
type entry struct {
	block  rules.Block
	wire   []byte
	act    bool
	signed statement.Signed // of statements
	user   *agentkeys.Wallet
}

// replay is the vault's state machine run again over the blocks.
type replay struct {
	rows    memory
	keys    map[string]bool // every key ever written
	entries []entry
	early   memory // as the rows stood after the early height
	history history

	position uint32
	users    []agentkeys.Wallet
	scope    uint8

	refused   int
	wrong     findings // the chain answered otherwise than the rules
	strangers findings // the chain took a process that was not registered
	destroyed findings // the chain took the end of an epoch too early
}

func newReplay(vault agentkeys.VaultID, p statement.Params) (*replay, error) {
	r := &replay{rows: memory{}, keys: map[string]bool{}, history: newHistory()}
	if err := rules.InitGenesis(r.rows, vault, p); err != nil {
		return nil, err
	}
	for k := range r.rows {
		r.keys[k] = true
	}
	return r, nil
}

// block applies what the chain says took effect or was refused in one block, then
// ends it.
func (r *replay) block(b *Block) error {
	at := rules.Block{Height: b.Header.Height, Time: uint64(b.Header.Time.Unix())}
	r.position, r.users, r.scope = 0, nil, rules.TouchedUsers
	for i, raw := range b.Txs {
		if i >= len(b.Results) || b.Results[i].Code != 0 {
			continue // it failed as a whole and left nothing
		}
		if err := r.tx(at, i, raw, b.Results[i].Data); err != nil {
			return err
		}
	}
	if r.position == 0 {
		return nil
	}
	l := layer{r.rows, map[string][]byte{}}
	if err := rules.Touch(l, at.Height, r.users, r.scope); err != nil {
		return err
	}
	r.flush(l)
	return nil
}

func (r *replay) tx(at rules.Block, i int, raw, data []byte) error {
	messages, err := ledger.Messages(raw)
	if err != nil {
		r.wrong.add("block %d, transaction %d: %v", at.Height, i, err)
		return nil
	}
	for _, m := range messages {
		if m.Type != ledger.MsgSubmit && m.Type != ledger.MsgAuthority {
			continue
		}
		results, err := ledger.Results(data)
		if err != nil || len(messages) != 1 || len(results) != len(m.Parts) {
			r.wrong.add("block %d, transaction %d: %d statements in %d messages got %d answers", at.Height, i, len(m.Parts), len(messages), len(results))
			results = make([]ledger.Result, len(m.Parts))
		}
		for j, part := range m.Parts {
			if err := r.apply(at, part, m.Type == ledger.MsgAuthority, results[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply runs one statement by the rules and holds the chain's answer against theirs.
func (r *replay) apply(at rules.Block, wire []byte, act bool, said ledger.Result) error {
	at.Position = r.position
	run := rules.Apply
	if act {
		run = rules.ApplyAuthority
	}
	l := layer{r.rows, map[string][]byte{}}
	got, err := run(l, at, wire)
	if err != nil {
		return err
	}
	r.compare(at, wire, got, said)
	if got.Code != rules.OK {
		r.refused++
		return nil
	}
	e := entry{block: at, wire: wire, act: act}
	if !act {
		if e.signed, err = statement.Parse(wire); err != nil {
			return err
		}
		if len(got.Users) > 0 {
			e.user = &got.Users[0]
		}
	}
	r.history.before(r.rows, e)
	r.flush(l)
	r.history.after(r.rows, e, got)
	r.entries = append(r.entries, e)
	r.note(got)
	return nil
}

func (r *replay) compare(at rules.Block, wire []byte, got rules.Result, said ledger.Result) {
	if uint32(got.Code) == said.Code && slices.Equal(got.Skipped, said.Skipped) {
		return
	}
	f := &r.wrong
	switch {
	case got.Code == rules.NotRegistered:
		f = &r.strangers
	case len(wire) > 0 && statement.Kind(wire[0]) == statement.KindDestroyEpoch:
		f = &r.destroyed
	}
	f.add("block %d, %s: the chain answered %s, the rules say %s: %s", at.Height, describe(wire), rules.Code(said.Code), got.Code, got.Reason)
}

// describe names a statement for people.
func describe(wire []byte) string {
	if body, err := statement.ParseAct(wire); err == nil {
		return fmt.Sprintf("act %s", kindName(body))
	}
	s, err := statement.Parse(wire)
	if err != nil {
		return fmt.Sprintf("%d bytes that are no statement", len(wire))
	}
	hash := statement.Hash(wire)
	return fmt.Sprintf("%s %x", kindName(s.Body), hash[:4])
}

func kindName(body statement.Body) string {
	name := fmt.Sprintf("%T", body)
	return name[len("statement."):]
}

func (r *replay) flush(l layer) {
	for k, v := range l.writes {
		r.keys[k] = true
		if v == nil {
			delete(r.rows, k)
		} else {
			r.rows[k] = v
		}
	}
}

// note gathers what the block's Touched row says, the widest scope winning.
func (r *replay) note(got rules.Result) {
	r.position++
	r.users = append(r.users, got.Users...)
	if r.scope != rules.TouchedAll && got.Scope != rules.TouchedUsers {
		r.scope = got.Scope
	}
}

// run replays blocks 1 to the state height from the params that the early rows show.
func run(b *Bundle, chain []Block, vault agentkeys.VaultID) (*replay, error) {
	p, err := beginning(b)
	if err != nil {
		return nil, err
	}
	r, err := newReplay(vault, p)
	if err != nil {
		return nil, err
	}
	for i := range chain[:b.StateHeight] {
		if err := r.block(&chain[i]); err != nil {
			return nil, fmt.Errorf("block %d: %w", i+1, err)
		}
		if uint64(i+1) == b.EarlyHeight {
			r.early = maps.Clone(r.rows)
		}
	}
	return r, nil
}

// beginning reads the params of genesis. That they are the ones is checked against
// the proven rows, not here.
func beginning(b *Bundle) (statement.Params, error) {
	for _, row := range b.Early {
		if bytes.Equal(row.Key, rules.ParamsKey()) {
			p, err := rules.ParseParams(row.Value)
			return p.Current, err
		}
	}
	return statement.Params{}, fmt.Errorf("the bundle does not hold the vault's first params")
}

// applied runs the replay.
func (v *verifier) applied() {
	r, err := run(v.bundle, v.chain, v.trust.Vault)
	if err != nil {
		var f findings
		f.add("%v", err)
		v.report.check("statements", Proved, f, "statements cannot be applied again")
		v.replay = &replay{rows: memory{}, early: memory{}, history: newHistory()}
		return
	}
	v.replay = r
	v.report.check("statements", Proved, r.wrong, "%d statements and acts applied again from the first block, signatures checked: the chain's answers are the rules'; %d were refused",
		len(r.entries), r.refused)
}
