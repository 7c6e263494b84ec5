package adversary

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
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
