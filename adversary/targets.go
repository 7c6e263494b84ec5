package adversary

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/statement"
)

// wrap is a wrapped data key that was ever seen.
type wrap struct {
	user    agentkeys.Wallet
	epoch   agentkeys.Epoch
	version uint32
	id      agentkeys.DEKID
	wrapped agentkeys.WrappedDEK
	info    []byte
	from    string
}

// blob is an envelope that ever was in the store.
type blob struct {
	Piece
	user   agentkeys.Wallet
	epoch  agentkeys.Epoch
	id     agentkeys.DEKID
	hash   agentkeys.Hash
	places []envelope.Place // where it may belong
}

// wrapped collects every wrapped data key: of blocks, of every row ever, and of
// receipts that never got into a block.
func (t *Thief) wrapped() {
	add := func(user agentkeys.Wallet, epoch agentkeys.Epoch, id agentkeys.DEKID, w agentkeys.WrappedDEK, from string) {
		version := agentkeys.NewReader(w[:4]).U32()
		if epoch == 0 || version == 0 || version > 16 || !t.first("wrap", w[:]) {
			return
		}
		t.wraps = append(t.wraps, wrap{user, epoch, version, id, w, wrapInfo(t.vault, user, epoch, version), from})
		t.dekIDs[key(id)] = true
	}
	for _, s := range t.loot.Statements {
		switch b := s.Body.(type) {
		case statement.OpenEpoch:
			add(b.Receipt.User, b.Receipt.Epoch, b.Receipt.DEKID, b.Receipt.Wrapped, "block")
		case statement.RewrapDEK:
			add(b.Receipt.User, b.Receipt.Epoch, b.Receipt.DEKID, b.Receipt.Wrapped, "block")
		}
	}
	for w, rows := range t.loot.History {
		for _, h := range rows {
			add(w, h.Active.Epoch, h.Active.DEKID, h.Active.Wrapped, "row")
			add(w, h.Draining.Epoch, h.Draining.DEKID, h.Draining.Wrapped, "row")
		}
	}
	for _, j := range t.receipts() {
		add(j.User, j.Epoch, j.DEKID, j.Wrapped, "receipt")
	}
}

// receipts are the rotator's answers: kind 1, body, signature 96.
func (t *Thief) receipts() (made []receipt.Made) {
	_, _, answers := recordedJobs(t.loot.Messages)
	for _, a := range answers {
		if len(a) < 97 {
			continue
		}
		r := agentkeys.NewReader(a[1 : len(a)-96])
		switch a[0] {
		case receipt.KindMade:
			if m := receipt.ReadMade(r); r.Close() == nil {
				made = append(made, m)
			}
		case receipt.KindRewrapped:
			if w := receipt.ReadRewrapped(r); r.Close() == nil {
				made = append(made, receipt.Made{Job: w.Job, User: w.User, Epoch: w.Epoch, DEKID: w.DEKID, Wrapped: w.Wrapped})
			}
		}
	}
	return made
}

func (t *Thief) channels() {
	t.jobs, t.rotators, _ = recordedJobs(t.loot.Messages)
	for _, r := range t.rotators {
		t.publics[r.noise] = "rotator's static key"
	}
	for _, j := range t.jobs {
		if len(j.hello) >= payloadAt {
			t.publics[key(j.hello[ephAt:staticAt])] = "custodian's ephemeral key"
		}
		if len(j.reply) >= 32 {
			t.publics[key(j.reply[:32])] = "rotator's ephemeral key"
		}
	}
}

// envelopes finds for each where it may belong: statements say so; an orphan may be any
// slot and version of its user.
func (t *Thief) envelopes() {
	places := map[agentkeys.BlobID]envelope.Place{}
	slots := map[agentkeys.Wallet]map[agentkeys.Wallet]uint64{} // user -> agent -> newest version
	note := func(p envelope.Place) {
		places[p.Blob] = p
		if slots[p.User] == nil {
			slots[p.User] = map[agentkeys.Wallet]uint64{p.User: 0}
		}
		slots[p.User][p.Agent] = max(slots[p.User][p.Agent], p.Version)
	}
	for _, s := range t.loot.Statements {
		switch b := s.Body.(type) {
		case statement.RegisterBlob:
			note(envelope.Place{User: b.User, Service: b.Service, Agent: b.Agent, Epoch: b.Epoch, Blob: b.Blob, Version: b.PreviousVersion + 1})
		case statement.RotateBlobs:
			for _, r := range b.Receipt.Rows {
				note(envelope.Place{User: b.Receipt.User, Service: r.Service, Agent: r.Agent, Epoch: b.Receipt.To, Blob: r.NewBlob, Version: r.Version})
			}
		}
	}
	for _, p := range t.loot.Pieces {
		at, ok := envelopePlace(p)
		if !ok {
			continue
		}
		id, err := envelope.Parse(p.Bytes)
		if err != nil {
			continue
		}
		b := &blob{Piece: p, user: at.User, epoch: at.Epoch, id: id, hash: envelope.HashOf(p.Bytes)}
		if said, ok := places[at.Blob]; ok {
			b.places = []envelope.Place{said}
		} else {
			b.places = guesses(at, slots[at.User])
		}
		t.blobs = append(t.blobs, b)
		t.dekIDs[key(id)] = true
	}
}

// guesses are the places of an orphan: every slot of its name, every version.
func guesses(at envelope.Place, newest map[agentkeys.Wallet]uint64) (all []envelope.Place) {
	if newest == nil {
		newest = map[agentkeys.Wallet]uint64{at.User: 0}
	}
	for agent, n := range newest {
		for v := uint64(1); v <= n+2; v++ {
			at.Agent, at.Version = agent, v
			all = append(all, at)
		}
	}
	return all
}

// envelopePlace reads <user>/<epoch>/<service id>/<blob id>.enc.
func envelopePlace(p Piece) (at envelope.Place, ok bool) {
	parts := strings.Split(strings.TrimSuffix(p.Name, ".enc"), "/")
	if p.From != "store" || len(parts) != 4 || !strings.HasSuffix(p.Name, ".enc") {
		return at, false
	}
	user, err1 := agentkeys.ParseWallet(parts[0])
	epoch, err2 := agentkeys.ParseEpoch(parts[1])
	service, err3 := agentkeys.ParseServiceID(parts[2])
	blob, err4 := agentkeys.ParseBlobID(parts[3])
	return envelope.Place{User: user, Epoch: epoch, Service: service, Blob: blob}, errors.Join(err1, err2, err3, err4) == nil
}

// complete is an error when the recorder missed an object that the chain names.
func (t *Thief) complete() error {
	have := map[agentkeys.Hash]bool{}
	for _, p := range t.loot.Pieces {
		if p.From == "store" {
			have[sha256.Sum256(p.Bytes)] = true
		}
	}
	var missed []error
	need := func(h agentkeys.Hash, what string, args ...any) {
		if !have[h] {
			missed = append(missed, fmt.Errorf("adversary: not recorded: "+what, args...))
		}
	}
	for _, s := range t.loot.Statements {
		switch b := s.Body.(type) {
		case statement.RegisterBlob:
			need(b.Hash, "blob %s of %s", b.Blob, b.User)
		case statement.RotateBlobs:
			for _, r := range b.Receipt.Rows {
				need(r.NewHash, "blob %s of %s", r.NewBlob, b.Receipt.User)
			}
		case statement.CommitTree:
			need(b.IndexHash, "index of generation %d", b.Previous+1)
		}
	}
	return errors.Join(missed...)
}
