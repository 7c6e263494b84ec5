package adversary

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"

	"example.org/agentkeys"
)

// guess is what the first block of a ciphertext must decrypt to: cheaper than its tag.
type guess struct {
	counter, sealed [16]byte
	mask            [16]byte
	want            [][16]byte
}

func newGuess(nonce, sealed []byte, mask [16]byte, want ...[16]byte) (g guess) {
	copy(g.counter[:], nonce)
	g.counter[15] = 2 // GCM keeps block 1 for the tag
	copy(g.sealed[:], sealed)
	g.mask, g.want = mask, want
	return g
}

// fits reports whether the key may be the right one.
func (g *guess) fits(block cipher.Block) bool {
	var b [16]byte
	block.Encrypt(b[:], g.counter[:])
	for i := range b {
		b[i] = (b[i] ^ g.sealed[i]) & g.mask[i]
	}
	for i := range g.want {
		if b == g.want[i] {
			return true
		}
	}
	return false
}

// maskOf has 0xff for n bytes from at.
func maskOf(at, n int) (m [16]byte) {
	copy(m[at:at+n], bytes.Repeat([]byte{0xff}, n))
	return m
}

func (t *Thief) newWindow() *window {
	w := &window{ids: t.dekIDs, idTag: agentkeys.DomainTag("dek-id", t.vault), tags: t.rootTags, shielding: t.shielding, wraps: t.wraps,
		publics: t.publics, rho: map[key]*recordedRotator{}, boxes: len(t.boxes) > 0,
		tried: make([]atomic.Uint64, remembered), hash: maphash.MakeSeed()}
	for _, p := range t.places {
		w.rootInfos = append(w.rootInfos, append(agentkeys.DomainTag("tree/name", p.vault), p.anchor[:]...))
	}
	generations := map[string]bool{}
	for i := range t.objects {
		o := &t.objects[i]
		g := t.guessObject(o)
		w.guesses = append(w.guesses, g)
		if o.kind == indexObject && !generations[string(o.info)] {
			generations[string(o.info)] = true
			w.indexes = append(w.indexes, o)
		}
	}
	for _, j := range t.jobs {
		if len(j.frames) > 0 && len(j.frames[0]) > 16 {
			// The job's 317 bytes with their length 4, behind final 1 and length 2.
			g := newGuess(make([]byte, 12), j.frames[0], maskOf(1, 6), [16]byte{0, 0x01, 0x41, 0, 0, 0x01, 0x3d})
			w.guesses, w.chunks = append(w.guesses, g), append(w.chunks, g)
		}
	}
	for _, r := range t.rotators {
		if len(r.kem) >= 32 {
			w.rho[key(r.kem[len(r.kem)-32:])] = r
		}
	}
	return w
}

// guessObject says how the plaintext of a tree object begins.
func (t *Thief) guessObject(o *object) guess {
	var want [16]byte
	switch o.kind {
	case indexObject: // generation 8, term 8
		binary.BigEndian.PutUint64(want[:], o.number)
		return newGuess(o.nonce, o.sealed, maskOf(0, 12), want)
	case shardObject: // count 4, user 20
		var all [][16]byte
		for u := range t.loot.Users {
			copy(want[4:], u[:])
			all = append(all, want)
		}
		return newGuess(o.nonce, o.sealed, maskOf(4, 12), all...)
	}
	var all [][16]byte // user 20
	for u := range t.loot.Users {
		all = append(all, [16]byte(u[:16]))
	}
	return newGuess(o.nonce, o.sealed, maskOf(0, 16), all...)
}
