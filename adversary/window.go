package adversary

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"

	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
)

// window tries any 32 bytes as every kind of key there is, each by the cheapest test
// that is sure enough; what passes is tried in full afterwards.
type window struct {
	ids       map[key]bool // of data keys
	idTag     []byte
	tags      map[[16]byte]place
	rootInfos [][]byte
	shielding []key
	wraps     []wrap
	indexes   []*object // one of each generation
	guesses   []guess   // first blocks under a key itself
	chunks    []guess   // first frames, under a key that a chaining key gives
	boxes     bool
	publics   map[key]string
	rho       map[key]*recordedRotator

	seen, dense, full atomic.Uint64
	tried             []atomic.Uint64 // hashes of windows, the last one of each place
	hash              maphash.Seed
	stride            int
}

// remembered is how many windows the thief knows again: an image holds most of its bytes
// more than once.
const remembered = 1 << 22

// again reports whether a window was tried before; it may forget, but never mistakes.
func (w *window) again(k *key, d depth) bool {
	h := maphash.Bytes(w.hash, k[:]) ^ uint64(d)
	return w.tried[h%remembered].Swap(h) == h
}

// Hit is a window that passed a test.
type hit struct {
	kind string
	key  key
	more []byte // what follows it in its source
	why  string
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

// A key is random bytes: 32 of them with fewer than minDistinct different values come
// once in a million keys, all in printable ASCII once in 10^13.
const minDistinct = 21

// chunk is how much one goroutine takes at a time.
const chunk = 32 << 10

// scan looks through sources, and takes what it finds further when all are through.
func (t *Thief) scan(ctx context.Context, batch []source) error {
	t.windows.stride = t.Stride
	var all []source
	for _, s := range batch {
		if t.Thorough {
			s.depth = everything
		}
		all = append(all, s)
		for _, x := range texts(s) {
			if sum := sha256.Sum256(x.bytes); t.first("look", sum[:]) {
				all = append(all, x)
			}
		}
	}
	work, hits := make(chan source), make(chan hit)
	var workers, sink sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for s := range work {
				t.windows.scan(s, hits)
			}
		})
	}
	var found []hit
	sink.Go(func() {
		for h := range hits {
			found = append(found, h)
		}
	})
	for _, s := range all {
		for at := 0; at < len(s.bytes) && ctx.Err() == nil; at += chunk {
			work <- source{s.name, s.bytes[at:min(len(s.bytes), at+chunk+64)], s.depth}
		}
	}
	close(work)
	workers.Wait()
	close(hits)
	sink.Wait()
	for _, h := range found {
		t.take(h)
	}
	return ctx.Err()
}

// scan tries every 32 bytes of a source that could be random.
func (w *window) scan(s source, hits chan<- hit) {
	b := s.bytes
	if len(b) < 32 {
		return
	}
	var count [256]uint8
	distinct, text := 0, 0
	step := func(c byte, by int) {
		if c >= 0x20 && c < 0x7f {
			text += by
		}
		switch {
		case by > 0 && count[c] == 0, by < 0 && count[c] == 1:
			distinct += by
		}
		count[c] += uint8(by)
	}
	for _, c := range b[:32] {
		step(c, 1)
	}
	last := min(len(b)-32, chunk-1)
	for at := 0; ; at++ {
		w.seen.Add(1)
		if distinct >= minDistinct && text < 32 {
			w.try((*key)(b[at:]), at, b[at+32:], s, hits)
		}
		if at == last {
			return
		}
		step(b[at], -1)
		step(b[at+32], 1)
	}
}

func (w *window) try(k *key, at int, more []byte, s source, hits chan<- hit) {
	say := func(kind string) { hits <- hit{kind, *k, append([]byte{}, more[:min(len(more), 64)]...), s.name} }
	if !w.again(k, cheap) {
		w.dense.Add(1)
		w.cheap(k, say)
	}
	if (s.depth == everything || s.depth == aligned && at%w.stride == 0) && !w.again(k, aligned) {
		w.full.Add(1)
		w.dear(k, say)
	}
	// Dearest of all, a multiplication on the curve: only where Go allocates 32 bytes.
	if s.depth == everything && at%8 == 0 || s.depth == aligned && at%32 == 0 {
		w.curve(k, say)
	}
}

func (w *window) cheap(k *key, say func(string)) {
	if w.ids[mac(k, w.idTag)] {
		say("data key")
	}
	prk := mac(&key{}, k[:])
	for _, info := range w.rootInfos {
		tag := expand(&prk, info)
		if _, ok := w.tags[[16]byte(tag[:16])]; ok {
			say("root")
		}
	}
}

// dear are the tests whose number grows with what was recorded.
func (w *window) dear(k *key, say func(string)) {
	for i := range w.shielding {
		prk := mac(k, w.shielding[i][:])
		for j := range w.wraps {
			if wr := &w.wraps[j]; int(wr.version) == i+1 {
				wk := expand(&prk, wr.info)
				if block, err := aes.NewCipher(wk[:]); err == nil && w.unwraps(block, wr) {
					say("share")
				}
			}
		}
	}
	for _, o := range w.indexes {
		ik := expand(k, o.info)
		g := newGuess(o.nonce, o.sealed, maskOf(0, 8), indexStart(o.number))
		if block, err := aes.NewCipher(ik[:]); err == nil && g.fits(block) {
			say("tree key")
		}
	}
	w.direct(k, say)
	if d := sha3.Sum512(append(k[:], 3)); w.rho[key(d[:32])] != nil {
		say("ML-KEM key")
	}
}

func (w *window) curve(k *key, say func(string)) {
	if p, err := ecdh.X25519().NewPrivateKey(k[:]); err == nil && w.publics[key(p.PublicKey().Bytes())] != "" {
		say("channel key")
	}
}

func indexStart(number uint64) (b [16]byte) {
	binary.BigEndian.PutUint64(b[:], number)
	return b
}

// direct tries the window as the key of ciphertexts themselves.
func (w *window) direct(k *key, say func(string)) {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return
	}
	for i := range w.guesses {
		if w.guesses[i].fits(block) {
			say("key of a ciphertext")
			break
		}
	}
	for i := range w.wraps {
		if w.unwraps(block, &w.wraps[i]) {
			say("wrapping key")
			break
		}
	}
	if w.boxes {
		say("key of a ciphertext")
	}
	first := split(k)
	if block, err = aes.NewCipher(first[:]); err != nil {
		return
	}
	for i := range w.chunks {
		if w.chunks[i].fits(block) {
			say("chaining key")
			break
		}
	}
}

// unwraps decrypts without the tag: the data key's id tells.
func (w *window) unwraps(block cipher.Block, wr *wrap) bool {
	var counter [16]byte
	var dek key
	copy(counter[:12], wr.wrapped[4:16])
	for i := range 2 {
		counter[15] = byte(2 + i)
		block.Encrypt(dek[16*i:], counter[:])
	}
	for i := range dek {
		dek[i] ^= wr.wrapped[16+i]
	}
	return mac(&dek, w.idTag) == key(wr.id)
}

// take tries in full what passed a test.
func (t *Thief) take(h hit) {
	switch h.kind {
	case "data key":
		t.dek(envelope.DEK{Secret: agentkeys.NewSecret(h.key[:])}, h.why)
	case "root":
		t.root(h.key, h.why)
	case "share":
		t.share(h.key, h.why)
	case "tree key":
		t.tree(h.key, h.why)
	case "wrapping key":
		for i := range t.wraps {
			t.wrapping(&t.wraps[i], h.key, h.why)
		}
	case "key of a ciphertext":
		t.direct(h.key, h.why)
	case "chaining key":
		t.direct(split(&h.key), "chaining key < "+h.why)
	case "channel key":
		if k, err := ecdh.X25519().NewPrivateKey(h.key[:]); err == nil {
			t.private(k, h.why)
		}
	case "ML-KEM key":
		for _, r := range t.rotators {
			for at := 0; at+32 <= len(h.more); at++ {
				t.kem(r, append(append([]byte{}, h.key[:]...), h.more[at:at+32]...), h.why)
			}
		}
	}
}

// texts decodes runs of hex and base64 that are long enough for a key.
func texts(s source) (out []source) {
	run := func(alphabet func(byte) bool, least int, decode func([]byte)) {
		for at := 0; at < len(s.bytes); {
			if !alphabet(s.bytes[at]) {
				at++
				continue
			}
			end := at
			for end < len(s.bytes) && alphabet(s.bytes[end]) {
				end++
			}
			if end-at >= least {
				decode(s.bytes[at:end])
			}
			at = end
		}
	}
	add := func(kind string, b []byte) {
		d := s.depth
		if len(b) <= small && d == aligned {
			d = everything
		}
		out = append(out, source{fmt.Sprintf("%s (%s)", s.name, kind), b, d})
	}
	run(isHex, 64, func(text []byte) {
		for odd := range min(2, len(text)-63) {
			part := text[odd : len(text)-(len(text)-odd)%2]
			if b, err := hex.DecodeString(string(part)); err == nil {
				add("hex", b)
			}
		}
	})
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		extra := "+/"
		if enc == base64.RawURLEncoding {
			extra = "-_"
		}
		run(func(c byte) bool { return isAlnum(c) || c == extra[0] || c == extra[1] }, 43, func(text []byte) {
			if b, err := enc.DecodeString(string(text)); err == nil {
				add("base64", b)
			} else if b, err := enc.DecodeString(string(text[:len(text)/4*4])); err == nil {
				add("base64", b)
			}
		})
	}
	return out
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
