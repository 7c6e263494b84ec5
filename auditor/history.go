package auditor

import (
	"cmp"
	"slices"

	"example.org/agentkeys"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
)

// User is what happened at one user.
type User struct {
	Wallet      string       `json:"wallet"`
	Statements  uint64       `json:"statements"`
	Log         string       `json:"log"`
	Epochs      []Epoch      `json:"epochs"`
	Credentials []Credential `json:"credentials"`
}

// Epoch of a user. Times are block times in seconds, 0 for what has not happened.
type Epoch struct {
	Epoch     uint32 `json:"epoch"`
	State     string `json:"state"` // active, draining, destroyed
	DEKID     string `json:"dek_id"`
	Opened    uint64 `json:"opened"`
	Closed    uint64 `json:"closed"`    // its successor was opened: nothing is sealed into it any more
	Drained   uint64 `json:"drained"`   // the last credential left it
	Destroyed uint64 `json:"destroyed"` // every live anchor's keeper signed that its share is gone
}

// Credential is the history of one slot.
type Credential struct {
	Service string   `json:"service"` // its name, or its id without a viewing key
	Agent   string   `json:"agent"`   // whose slot; the user's own is shared
	Changes []Change `json:"changes"`
}

// Change of a slot.
type Change struct {
	What    string `json:"what"` // written, re-sealed, deleted
	Height  uint64 `json:"height"`
	Time    uint64 `json:"time"`
	Version uint64 `json:"version"`
	Epoch   uint32 `json:"epoch"`
	Blob    string `json:"blob,omitempty"`
	Hash    string `json:"hash,omitempty"` // SHA-256 of the sealed object
}

// Process is an enclave process that signed something.
type Process struct {
	Role        string `json:"role"`
	Key         string `json:"key"`
	Platform    string `json:"platform"`
	Evidence    string `json:"evidence"`
	Measurement string `json:"measurement"`
	Signed      int    `json:"signed"`
	First       uint64 `json:"first"` // height
	Last        uint64 `json:"last"`
	Revoked     bool   `json:"revoked"`
	Shows       string `json:"shows"` // what its evidence shows
}

type processID struct {
	role statement.EnclaveRole
	key  agentkeys.ProcessKey
}

// history gathers the timelines while statements are applied.
type history struct {
	epochs    map[agentkeys.Wallet][]Epoch
	slots     map[agentkeys.Slot][]Change
	names     map[agentkeys.Slot]agentkeys.SealedName
	processes map[processID]*Process
	batches   map[agentkeys.ProcessKey][]batch
	last      rules.User
}

func newHistory() history {
	return history{epochs: map[agentkeys.Wallet][]Epoch{}, slots: map[agentkeys.Slot][]Change{}, names: map[agentkeys.Slot]agentkeys.SealedName{},
		processes: map[processID]*Process{}, batches: map[agentkeys.ProcessKey][]batch{}}
}

// before remembers the user's row as it stood.
func (h *history) before(rows memory, e entry) {
	h.last = rules.User{}
	if e.user != nil {
		h.last, _ = rules.ParseUser(rows[string(rules.UserKey(*e.user))])
	}
}

func (h *history) after(rows memory, e entry, got rules.Result) {
	if e.act {
		return
	}
	if !e.signed.Body.Kind().ByUser() {
		h.signed(statement.EnclaveCustodian, e.signed.Process.Key, e)
		if e.signed.Body.Kind().HasReceipt() {
			h.signed(statement.EnclaveRotator, e.signed.Receipt.Key, e)
		}
	}
	if e.user != nil {
		now, _ := rules.ParseUser(rows[string(rules.UserKey(*e.user))])
		h.epoch(*e.user, now, e.block)
	}
	switch b := e.signed.Body.(type) {
	case statement.RegisterBlob:
		h.slot(rows, agentkeys.Slot{User: b.User, Agent: b.Agent, Service: b.Service}, "written", e.block)
	case statement.RotateBlobs:
		for i, row := range b.Receipt.Rows {
			if !slices.Contains(got.Skipped, uint16(i)) {
				h.slot(rows, slotOf(b.Receipt, row), "re-sealed", e.block)
			}
		}
	case statement.Delete:
		h.gone(agentkeys.Slot{User: b.User, Agent: b.Agent, Service: b.Service}, "deleted", b.Version, e.block)
	case statement.Drop:
		what := "expired"
		if b.Reason == statement.DropLost {
			what = "lost"
		}
		h.gone(agentkeys.Slot{User: b.User, Agent: b.Agent, Service: b.Service}, what, b.Version, e.block)
	case statement.RecordReads:
		k := e.signed.Process.Key
		h.batches[k] = append(h.batches[k], batch{b, e.block})
	}
}

func slotOf(r receipt.Rotated, row receipt.Row) agentkeys.Slot {
	return agentkeys.Slot{User: r.User, Agent: row.Agent, Service: row.Service}
}

func (h *history) signed(role statement.EnclaveRole, key agentkeys.ProcessKey, e entry) {
	id := processID{role, key}
	p := h.processes[id]
	if p == nil {
		p = &Process{Key: key.String(), First: e.block.Height}
		h.processes[id] = p
	}
	p.Signed, p.Last = p.Signed+1, e.block.Height
}

// epoch notes what a statement did to the user's two places.
func (h *history) epoch(u agentkeys.Wallet, now rules.User, at rules.Block) {
	list := h.epochs[u]
	place := func(e agentkeys.Epoch) *Epoch {
		i := slices.IndexFunc(list, func(x Epoch) bool { return x.Epoch == uint32(e) })
		if i < 0 {
			return new(Epoch)
		}
		return &list[i]
	}
	if now.Active.Epoch != h.last.Active.Epoch {
		place(h.last.Active.Epoch).Closed = at.Time
		list = append(list, Epoch{Epoch: uint32(now.Active.Epoch), DEKID: now.Active.DEKID.String(), Opened: at.Time})
	}
	if d := now.Draining; d.Epoch != 0 && d.LiveCount == 0 && place(d.Epoch).Drained == 0 {
		place(d.Epoch).Drained = at.Time
	}
	if h.last.Draining.Epoch != 0 && now.Draining.Epoch == 0 {
		place(h.last.Draining.Epoch).Destroyed = at.Time
	}
	h.epochs[u] = list
}

func (h *history) slot(rows memory, s agentkeys.Slot, what string, at rules.Block) {
	p, err := rules.ParsePointer(rows[string(rules.PointerKey(s))])
	if err != nil {
		return
	}
	h.names[s] = p.SealedName
	h.slots[s] = append(h.slots[s], Change{what, at.Height, at.Time, p.Version, uint32(p.Epoch), p.Blob.String(), p.Hash.String()})
}

func (h *history) gone(s agentkeys.Slot, what string, version uint64, at rules.Block) {
	var e uint32
	if old := h.slots[s]; len(old) > 0 {
		e = old[len(old)-1].Epoch
	}
	h.slots[s] = append(h.slots[s], Change{What: what, Height: at.Height, Time: at.Time, Version: version, Epoch: e})
}

// users writes the timelines into the report, sorted.
func (v *verifier) users() {
	h := v.replay.history
	for u, epochs := range h.epochs {
		row, _ := rules.ParseUser(v.replay.rows[string(rules.UserKey(u))])
		user := User{Wallet: u.String(), Statements: row.Rev, Log: row.Log.String(), Epochs: epochs, Credentials: []Credential{}}
		for i := range user.Epochs {
			e := &user.Epochs[i]
			switch {
			case e.Epoch == uint32(row.Active.Epoch):
				e.State = "active"
			case e.Epoch == uint32(row.Draining.Epoch):
				e.State = "draining"
			default:
				e.State = "destroyed"
			}
		}
		for s, changes := range h.slots {
			if s.User == u {
				user.Credentials = append(user.Credentials, Credential{v.service(s, h.names[s]), s.Agent.String(), changes})
			}
		}
		slices.SortFunc(user.Credentials, func(a, b Credential) int {
			return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Agent, b.Agent))
		})
		v.report.Users = append(v.report.Users, user)
	}
	slices.SortFunc(v.report.Users, func(a, b User) int { return cmp.Compare(a.Wallet, b.Wallet) })
}

// service names a slot's service with the viewing key of its user, if there is one
// and it opens the sealed name.
func (v *verifier) service(s agentkeys.Slot, sealed agentkeys.SealedName) string {
	for _, k := range v.viewing {
		if k.User != s.User {
			continue
		}
		if name, err := (seed.TagKey{Secret: k.Key.Secret}).OpenName(s.User, s.Service, sealed); err == nil {
			return string(name)
		}
	}
	return s.Service.String()
}
