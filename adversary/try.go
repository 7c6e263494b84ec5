package adversary

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/statement"
)

// Thief has a loot and tries it. Whatever opens is looked through for keys again,
// until nothing new comes.
type Thief struct {
	loot  *Loot
	vault agentkeys.VaultID

	wraps     []wrap
	dekIDs    map[key]bool // of wraps and envelopes
	blobs     []*blob
	objects   []object
	rootTags  map[[16]byte]place
	places    map[[16]byte]place // by anchor
	jobs      []*recordedJob
	rotators  []*recordedRotator
	publics   map[key]string // X25519 keys whose private halves are worth something
	boxes     []Piece        // 60 bytes: a sealed key, perhaps
	shielding []key

	known    map[string]bool // what was found already
	privates privates
	queue    []source
	windows  *window
	Thorough bool // every kind of key at every byte of everything: some minutes
	Stride   int  // in images
	Tried    map[string]uint64
	Found    map[string]int
	Opened   map[string]bool              // by the envelope's name
	Ways     map[agentkeys.DEKID][]string // to each data key that was found
	Values   map[string]string            // envelope's name -> what was in it
}

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

// source is bytes to look through for keys.
type source struct {
	name  string
	bytes []byte
	depth depth
}

// depth is how much is tried on a source. Data keys and roots are looked for at every
// byte of everything.
type depth int

const (
	everything depth = iota // every kind of key at every byte
	aligned                 // the dear kinds where Go puts 32 bytes of a structure: at multiples of Stride
	cheap                   // data keys and roots only
)

// NewThief sorts a loot. It looks for keys only where [Thief.Everything] or [Thief.Look]
// tell it to.
func NewThief(l *Loot) (*Thief, error) {
	t := &Thief{loot: l, vault: l.Vault, dekIDs: map[key]bool{}, rootTags: map[[16]byte]place{}, places: map[[16]byte]place{},
		publics: map[key]string{}, known: map[string]bool{}, privates: privates{}, Stride: 4, Tried: map[string]uint64{}, Found: map[string]int{},
		Opened: map[string]bool{}, Ways: map[agentkeys.DEKID][]string{}, Values: map[string]string{}}
	t.channels()
	t.wrapped()
	t.envelopes()
	for _, p := range l.Pieces {
		if o, ok := parseObject(l.Vault, p); ok {
			t.objects = append(t.objects, o)
			t.places[o.anchor] = o.place
			if o.kind != shardObject {
				t.rootTags[o.tag()] = o.place
			}
		} else if len(p.Bytes) == 60 {
			t.boxes = append(t.boxes, p)
		}
	}
	if err := t.complete(); err != nil {
		return nil, err
	}
	for _, w := range t.wraps {
		for uint32(len(t.shielding)) < w.version {
			k, err := l.Seed.ShieldingKey(l.Vault, uint32(len(t.shielding))+1)
			if err != nil {
				return nil, err
			}
			t.shielding = append(t.shielding, key(k.Reveal()))
		}
	}
	t.windows = t.newWindow()
	return t, nil
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

// first reports whether something is seen for the first time.
func (t *Thief) first(kind string, b []byte) bool {
	id := kind + "\x00" + string(b)
	if t.known[id] {
		return false
	}
	t.known[id] = true
	return true
}

// Look queues pieces, those of the loot or others.
func (t *Thief) Look(pieces ...Piece) {
	for _, p := range pieces {
		t.look(p.String(), p.Bytes)
	}
}

// Everything queues all of the loot.
func (t *Thief) Everything() error {
	t.Look(t.loot.Pieces...)
	for _, m := range t.loot.Messages {
		t.queue = append(t.queue, source{"channel " + m.Channel, m.Bytes, cheap})
	}
	for i, tx := range t.loot.Blocks {
		t.queue = append(t.queue, source{fmt.Sprintf("transaction %d", i), tx, cheap})
	}
	for _, i := range t.loot.Images {
		t.queue = append(t.queue, source{"memory of " + i.Process, i.Bytes, aligned})
	}
	return t.fromSeed()
}

// fromSeed adds every key that follows from the seed alone; they are tried as anything
// else, because a key may have been used where it does not belong.
func (t *Thief) fromSeed() error {
	t.look("seed", t.loot.Seed.Reveal())
	for i, k := range t.shielding {
		t.look(fmt.Sprintf("shielding key %d", i+1), k[:])
	}
	m, err := t.loot.Seed.MetadataKey(t.vault)
	if err != nil {
		return err
	}
	segments, err := m.SegmentKey(t.vault)
	if err != nil {
		return err
	}
	t.look("metadata key", m.Reveal())
	t.look("segment key", segments.Reveal())
	for w := range t.loot.Users {
		tag, err := m.TagKey(t.vault, w)
		if err != nil {
			return err
		}
		t.look("tag key", tag.Reveal())
	}
	return nil
}

// look queues bytes; what stands in them as hex or base64 comes with them.
func (t *Thief) look(name string, b []byte) {
	sum := sha256.Sum256(b)
	if len(b) < 32 || !t.first("look", sum[:]) {
		return
	}
	d := everything
	if len(b) > small {
		d = cheap
	}
	t.queue = append(t.queue, source{name, b, d})
}

// small is a source that may well be a key, or a few.
const small = 128

// Try goes through all sources until nothing new opens.
func (t *Thief) Try(ctx context.Context) error {
	t.withoutShare()
	for len(t.queue) > 0 {
		batch := t.queue
		t.queue = nil
		if err := t.scan(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// withoutShare: HKDF takes an empty or zero salt without a word.
func (t *Thief) withoutShare() {
	t.share(key{}, "no share at all")
}

func (t *Thief) found(kind string, b []byte, why string) (how string, fresh bool) {
	if !t.first(kind, b) {
		return "", false
	}
	t.Found[kind]++
	return kind + " < " + why, true
}

// share tries a share with every wrapped data key ever.
func (t *Thief) share(share key, why string) {
	how, fresh := t.found("share", share[:], why)
	if !fresh {
		return
	}
	for _, w := range t.wraps {
		t.Tried["share on wrapped key"]++
		wk := derive(&share, &t.shielding[w.version-1], w.info)
		t.wrapping(&w, wk, how)
	}
}

// wrapping tries a wrapping key on one wrapped data key.
func (t *Thief) wrapping(w *wrap, wk key, why string) {
	k := envelope.WrappingKey{Secret: agentkeys.NewSecret(wk[:]), User: w.user, Epoch: w.epoch, Version: w.version}
	if dek, err := k.Unwrap(t.vault, w.id, w.wrapped); err == nil {
		how, fresh := t.found("wrapping key", wk[:], why)
		if !fresh {
			how = "wrapping key < " + why
		}
		t.dek(dek, how)
	}
}

// dek tries a data key on every envelope ever that names it.
func (t *Thief) dek(dek envelope.DEK, why string) {
	id := dek.ID(t.vault)
	if how := "data key < " + why; len(t.Ways[id]) < maxWays && !slices.Contains(t.Ways[id], how) {
		t.Ways[id] = append(t.Ways[id], how)
	}
	if _, fresh := t.found("data key", dek.Reveal(), why); !fresh {
		return
	}
	for _, b := range t.blobs {
		t.Tried["data key on envelope"]++
		if b.id != id {
			continue
		}
		for _, at := range b.places {
			plain, err := envelope.Open(t.vault, dek, id, at, b.Bytes)
			if err != nil {
				continue
			}
			t.opened(b, plain)
			break
		}
	}
}

// maxWays bounds what is kept of the ways to one key.
const maxWays = 100

func (t *Thief) opened(b *blob, plain []byte) {
	t.Opened[b.Name] = true
	if c, err := credential.Parse(plain); err == nil {
		t.Values[b.Name] = string(c.Secret.Reveal())
	}
}

// root tries a root with every index and record ever.
func (t *Thief) root(root key, why string) {
	how, fresh := t.found("root", root[:], why)
	if !fresh {
		return
	}
	for _, p := range t.places {
		for i := range t.shielding {
			t.tree(p.treeKey(&root, &t.shielding[i]), how)
		}
	}
}

// tree tries a tree key with every index and record ever.
func (t *Thief) tree(k key, why string) {
	how, fresh := t.found("tree key", k[:], why)
	if !fresh {
		return
	}
	for i := range t.objects {
		if o := &t.objects[i]; o.info != nil {
			t.Tried["tree key on index or record"]++
			t.object(o, expand(&k, o.info), how)
		}
	}
}

// object tries a key on one object of a tree.
func (t *Thief) object(o *object, k key, why string) bool {
	plain, ok := o.open(&k)
	if !ok {
		return false
	}
	name := map[byte]string{indexObject: "index", shardObject: "shard", recordObject: "record"}[o.kind]
	how := fmt.Sprintf("%s %d < %s", name, o.number, why)
	if _, fresh := t.found(name, append([]byte(o.Name), k[:]...), why); !fresh {
		return true
	}
	t.queue = append(t.queue, source{how, plain, everything})
	if o.kind == indexObject {
		for _, sk := range shardKeys(plain) {
			t.shard(sk, how)
		}
		return true
	}
	for _, e := range entries(plain) {
		t.share(e.share, how)
	}
	return true
}

// shard tries a shard key with every shard ever.
func (t *Thief) shard(k key, why string) {
	how, fresh := t.found("shard key", k[:], why)
	if !fresh {
		return
	}
	for i := range t.objects {
		if o := &t.objects[i]; o.kind == shardObject {
			t.Tried["shard key on shard"]++
			t.object(o, k, how)
		}
	}
}

// private goes through every recorded handshake with what is known now.
func (t *Thief) private(k *ecdh.PrivateKey, why string) {
	how, fresh := t.found("channel key", k.Bytes(), why)
	if !fresh {
		return
	}
	t.privates[key(k.PublicKey().Bytes())] = k
	t.handshakes(t.publics[key(k.PublicKey().Bytes())] + " < " + how)
}

// kem keeps the rotator's ML-KEM key.
func (t *Thief) kem(r *recordedRotator, seed []byte, why string) {
	k, err := mlkem.NewDecapsulationKey768(seed)
	if err != nil || !bytes.Equal(k.EncapsulationKey().Bytes(), r.kem) {
		return
	}
	if how, fresh := t.found("ML-KEM key", seed, why); fresh {
		r.seed = bytes.Clone(seed)
		t.handshakes(how)
	}
}

func (t *Thief) handshakes(how string) {
	for _, j := range t.jobs {
		t.Tried["channel keys on handshake"]++
		u, ok := j.unlock(t.vault, t.privates)
		if !ok {
			continue
		}
		if u.static != (key{}) {
			t.publics[u.static] = "custodian's key of a job"
		}
		if len(u.payload) > 0 && t.first("payload", u.payload) {
			t.Found["payload of a first message"]++
			t.queue = append(t.queue, source{"payload of a first message < " + how, u.payload, everything})
		}
		if u.whole {
			t.transport(u.frames, j, how)
		}
	}
}

// transport opens the frames of a job.
func (t *Thief) transport(k key, j *recordedJob, why string) {
	how, fresh := t.found("frame key", append(append([]byte{}, k[:]...), j.hello[:16]...), why)
	if !fresh {
		return
	}
	for _, m := range j.messages(&k) {
		t.queue = append(t.queue, source{"frame < " + how, m, everything})
	}
}

// direct tries 32 bytes as the key of everything that is sealed under one. It is asked
// only for what passed a cheaper test.
func (t *Thief) direct(k key, why string) {
	for i := range t.objects {
		o := &t.objects[i]
		if o.kind == shardObject {
			if _, ok := o.open(&k); ok {
				t.shard(k, why)
			}
		} else {
			t.object(o, k, why)
		}
	}
	for _, j := range t.jobs {
		if len(j.messages(&k)) > 0 {
			t.transport(k, j, why)
		}
	}
	for _, p := range t.boxes {
		if plain, ok := unseal(&k, p.Bytes[:12], p.Bytes[12:], nil); ok {
			if how, fresh := t.found("sealed key", plain, p.String()+" < "+why); fresh {
				t.queue = append(t.queue, source{how, plain, everything})
			}
		}
	}
}
