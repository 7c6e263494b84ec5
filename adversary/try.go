package adversary

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/envelope"
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
