package rules_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
	"pgregory.net/rapid"
)

// world draws statements over a small vault: few users, agents, services and
// processes, so that they meet each other often. Bodies are what an honest signer
// would sign over the rows as they stand; the property test spoils some of them.
type world struct {
	*rulestest.Vault
	t          *rapid.T
	keys       map[agentkeys.Wallet]eip712.Key
	wallets    []agentkeys.Wallet
	custodians []ed25519.PrivateKey
	rotators   []ed25519.PrivateKey
	services   []agentkeys.ServiceID
	anchors    []statement.AnchorID
	fresh      uint64 // makes hashes and nonces that never repeat
}

func newWorld(t *rapid.T) *world {
	v, err := rulestest.NewVault(vaultID, statement.DefaultParams())
	if err != nil {
		t.Fatalf("%v", err)
	}
	w := &world{Vault: v, t: t, keys: map[agentkeys.Wallet]eip712.Key{}, services: []agentkeys.ServiceID{github, openai}, anchors: []statement.AnchorID{anchorA, anchorB, {'c'}}}
	for _, n := range []string{"alice", "bob", "carol"} {
		k := rulestest.Wallet(n)
		w.wallets = append(w.wallets, k.Wallet())
		w.keys[k.Wallet()] = k
	}
	for _, n := range []string{"1", "2"} {
		w.custodians = append(w.custodians, rulestest.Process("custodian"+n))
		w.rotators = append(w.rotators, rulestest.Process("rotator"+n))
	}
	kit := rulestest.Kit{Vault: vaultID, Custodian: w.custodians[0], Rotator: w.rotators[0]}
	if err := kit.Found(v, w.anchors[:2]...); err != nil {
		t.Fatalf("%v", err)
	}
	for i, u := range w.wallets[:2] {
		for _, wire := range [][]byte{
			kit.SignUser(w.keys[u], statement.Enrol{User: u}),
			kit.SignProcess(w.openEpoch(u)),
		} {
			if r, err := v.Apply(wire); err != nil || r.Code != rules.OK {
				t.Fatalf("user %d: %v %v", i, r, err)
			}
		}
	}
	return w
}

func pick[T any](w *world, from []T, label string) T {
	return rapid.SampledFrom(from).Draw(w.t, label)
}

func (w *world) number(low, high uint64, label string) uint64 {
	return rapid.Uint64Range(low, high).Draw(w.t, label)
}

func (w *world) wallet(label string) agentkeys.Wallet { return pick(w, w.wallets, label) }

func (w *world) hash() agentkeys.Hash {
	w.fresh++
	return sha256.Sum256(fmt.Append(nil, w.fresh))
}

func (w *world) valid() uint64 { return w.Block.Time + w.number(1, 600, "validity") }

func (w *world) slot() agentkeys.Slot {
	return agentkeys.Slot{User: w.wallet("user"), Agent: w.wallet("agent"), Service: pick(w, w.services, "service")}
}

// livePointer prefers a slot that holds something.
func (w *world) livePointer() (agentkeys.Slot, rules.Pointer) {
	s := w.slot()
	for range 4 {
		if w.Pointer(s).Version != 0 {
			break
		}
		s = w.slot()
	}
	return s, w.Pointer(s)
}

// bodies has one maker for each kind of statement.
var bodies = map[string]func(w *world) statement.Body{
	"enrol": func(w *world) statement.Body { return statement.Enrol{User: w.wallet("user")} },
	"admit": func(w *world) statement.Body {
		u, a := w.wallet("user"), w.wallet("agent")
		row := w.Agent(u, a)
		return statement.AdmitAgent{User: u, Agent: a, Role: pick(w, []statement.Role{1, 2}, "role"), Counter: row.Counter,
			Expires: max(row.Expires, w.Block.Time) + w.number(1, 200000, "longer")}
	},
	"revoke": func(w *world) statement.Body {
		u, a := w.wallet("user"), w.wallet("agent")
		return statement.RevokeAgent{User: u, Agent: a, Counter: w.Agent(u, a).Counter}
	},
	"grant": func(w *world) statement.Body {
		s := w.slot()
		return statement.Grant{User: s.User, Agent: s.Agent, Service: s.Service, Previous: w.Grant(s).Version,
			Counter: w.Agent(s.User, s.Agent).Counter, Mode: pick(w, []statement.Mode{0, 1, 2}, "mode"),
			Slot: statement.SlotOwn, Expires: w.Block.Time + w.number(1, 200000, "longer")}
	},
	"delete": func(w *world) statement.Body {
		s, p := w.livePointer()
		return statement.Delete{User: s.User, Agent: s.Agent, Service: s.Service, Version: p.Version}
	},
	"ask": func(w *world) statement.Body {
		u := w.wallet("user")
		return statement.AskRotation{User: u, Due: w.User(u).Active.Epoch + 1}
	},
	"write": (*world).write, "write more": (*world).write,
	"drop": func(w *world) statement.Body {
		s, p := w.livePointer()
		return statement.Drop{User: s.User, Agent: s.Agent, Service: s.Service, Version: p.Version, Hash: p.Hash,
			Reason: pick(w, []statement.DropReason{1, 2}, "reason"), ValidUntil: w.valid()}
	},
	"lost": func(w *world) statement.Body {
		s, p := w.livePointer()
		return statement.ReportLost{User: s.User, Agent: s.Agent, Service: s.Service, Version: p.Version, Hash: p.Hash,
			Height: p.Height, Missing: p.MissingSince == 0, ValidUntil: w.valid()}
	},
	"open":    func(w *world) statement.Body { return w.openEpoch(w.wallet("user")) },
	"rotate":  (*world).rotate,
	"rotate2": (*world).rotate,
	"rewrap": func(w *world) statement.Body {
		u := w.wallet("user")
		row := w.User(u)
		e := pick(w, []rules.EpochRow{row.Active, row.Draining}, "place")
		old := uint32(e.Wrapped[3])
		return statement.RewrapDEK{ValidUntil: w.valid(), Receipt: receipt.Rewrapped{User: u, Epoch: e.Epoch, DEKID: e.DEKID,
			From: old, Wrapped: wrapped(byte(old)+1, byte(w.number(0, 255, "tail")))}}
	},
	"destroy": (*world).destroy, "destroy2": (*world).destroy,
	"commit": func(w *world) statement.Body {
		id := pick(w, w.anchors, "anchor")
		a := w.Anchor(id)
		return statement.CommitTree{Anchor: id, Term: a.Term, Previous: a.Generation, IndexHash: w.hash(), ValidUntil: w.valid()}
	},
	"take": func(w *world) statement.Body {
		id := pick(w, w.anchors, "anchor")
		return statement.TakeKeeper{Anchor: id, Term: w.Anchor(id).Term + w.number(0, 1, "next term"),
			LeaseUntil: w.Block.Time + w.number(1, rules.MaxLease, "lease"), ValidUntil: w.valid()}
	},
	"reads": func(w *world) statement.Body {
		r := w.Reads(rulestest.PublicKey(w.custodians[0]))
		return statement.RecordReads{First: max(r.Next, 1), Count: uint32(w.number(1, 9, "count")), Root: w.hash(), Previous: r.Head,
			Boots: r.Boots, SeenHeight: r.SeenHeight + w.number(0, 3, "seen"), ValidUntil: w.valid()}
	},
	"beat": func(w *world) statement.Body {
		h := w.hash()
		return statement.Heartbeat{Previous: w.Reads(rulestest.PublicKey(w.custodians[0])).Beat, Nonce: [16]byte(h[:16]),
			SeenHeight: w.Block.Height, ValidUntil: w.valid()}
	},
	"vouch": func(w *world) statement.Body {
		return statement.Vouch{Rotator: rulestest.PublicKey(pick(w, w.rotators, "rotator")), Platform: statement.PlatformSoftware, ValidUntil: w.valid()}
	},
}

func (w *world) write() statement.Body {
	s := w.slot()
	p, u, h := w.Pointer(s), w.User(s.User), w.hash()
	b := statement.RegisterBlob{User: s.User, Agent: s.Agent, Service: s.Service, Epoch: u.Active.Epoch, Blob: agentkeys.BlobID(h[:16]),
		Hash: h, PreviousVersion: u.Floor, Idle: pick(w, []statement.IdleRule{1, 2}, "idle"), ValidUntil: w.valid()}
	if p.Version != 0 {
		b.PreviousVersion, b.PreviousHash = p.Version, p.Hash
	}
	return b
}

func (w *world) openEpoch(u agentkeys.Wallet) statement.OpenEpoch {
	h := w.hash()
	return statement.OpenEpoch{ValidUntil: w.Block.Time + 300, Receipt: receipt.Made{User: u,
		Epoch: w.User(u).Active.Epoch + 1, DEKID: agentkeys.DEKID(h), Wrapped: wrapped(1, h[0])}}
}

// rotate covers every slot of a user that waits, and now and then one that does not.
func (w *world) rotate() statement.Body {
	return w.rotateUser(w.wallet("user"), w.number(0, 8, "stray"))
}

func (w *world) rotateUser(u agentkeys.Wallet, stray uint64) statement.Body {
	row := w.User(u)
	c := receipt.Rotated{User: u, From: row.Draining.Epoch, To: row.Active.Epoch, FromDEKID: row.Draining.DEKID, ToDEKID: row.Active.DEKID}
	for i, a := range w.wallets {
		for j, svc := range w.services {
			p := w.Pointer(agentkeys.Slot{User: u, Agent: a, Service: svc})
			if p.Version != 0 && p.Epoch == c.From || stray == uint64(2*i+j) {
				h := w.hash()
				c.Rows = append(c.Rows, receipt.Row{Agent: a, Service: svc, Version: p.Version, OldHash: p.Hash,
					NewBlob: agentkeys.BlobID(h[:16]), NewHash: h})
			}
		}
	}
	if len(c.Rows) == 0 {
		c.Rows = make([]receipt.Row, 1)
		c.Rows[0].NewHash = w.hash()
	}
	return statement.RotateBlobs{Receipt: c, ValidUntil: w.Block.Time + 60}
}

func (w *world) destroy() statement.Body {
	id := pick(w, w.anchors, "anchor")
	a, u := w.Anchor(id), w.wallet("user")
	return statement.DestroyEpoch{Anchor: id, Term: a.Term, Generation: a.Generation, User: u, Epoch: w.User(u).Draining.Epoch, ValidUntil: w.valid()}
}

// acts has the authority's; each is drawn rarely.
var acts = []func(w *world) statement.Body{
	func(w *world) statement.Body { return statement.RotateAll{} },
	func(w *world) statement.Body { return statement.RotateUser{User: w.wallet("user")} },
	func(w *world) statement.Body {
		return statement.AddAnchor{Anchor: pick(w, w.anchors, "anchor"), Type: statement.AnchorFile}
	},
	func(w *world) statement.Body { return statement.RetireAnchor{Anchor: pick(w, w.anchors, "anchor")} },
	func(w *world) statement.Body { return statement.EvictAnchor{Anchor: pick(w, w.anchors, "anchor")} },
	func(w *world) statement.Body {
		return statement.RegisterEnclave{Role: statement.EnclaveCustodian, Key: rulestest.PublicKey(pick(w, w.custodians, "custodian")), Platform: statement.PlatformSoftware}
	},
	func(w *world) statement.Body {
		return statement.RevokeEnclave{Role: statement.EnclaveRotator, Key: rulestest.PublicKey(w.rotators[1])}
	},
	func(w *world) statement.Body {
		return statement.SetOidcKey{KeyHash: agentkeys.Hash{1}, Active: rapid.Bool().Draw(w.t, "active")}
	},
	func(w *world) statement.Body {
		p := statement.DefaultParams()
		p.DrainWindow = w.number(0, p.Cadence, "drain window")
		return statement.SetParams{Params: p, Activation: w.Block.Height + w.number(0, 4, "activation")}
	},
}
