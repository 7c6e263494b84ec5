package channel

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"example.org/agentkeys"
)

const (
	protocol         = "Noise_IKpsk2_25519_AESGCM_SHA256" // 32 bytes: h starts as the name itself
	keySize, tagSize = 32, 16
)

// noise is the SymmetricState of the Noise framework, revision 34. In IKpsk2 a new
// key comes before everything sealed, so the counter of its CipherState is always 0
// and left out. The first failure stays in err and stops every later step.
type noise struct {
	ck, h [keySize]byte
	aead  cipher.AEAD
	err   error
}

// newNoise mixes in what both sides know: prologue and the responder's static key.
func newNoise(prologue, responder []byte) *noise {
	n := &noise{ck: [keySize]byte([]byte(protocol)), h: [keySize]byte([]byte(protocol))}
	n.mixHash(prologue)
	n.mixHash(responder)
	return n
}

func (n *noise) mixHash(b []byte) { n.h = sha256.Sum256(append(n.h[:], b...)) }

// mixKey is MixKey with 2 outputs and, for the psk, MixKeyAndHash with 3. Noise's
// HKDF is RFC 5869 with the chaining key as salt and no info.
func (n *noise) mixKey(ikm []byte, outputs int) {
	out, err := hkdf.Key(sha256.New, ikm, n.ck[:], "", outputs*keySize)
	defer clear(out)
	if n.err = cmp.Or(n.err, err); n.err != nil {
		return
	}
	copy(n.ck[:], out)
	if outputs == 3 {
		n.mixHash(out[keySize : 2*keySize])
	}
	n.aead, n.err = newGCM(out[len(out)-keySize:])
}

// mixPublic is token e. Where the pattern has a psk, e goes into the key too.
func (n *noise) mixPublic(e []byte) {
	n.mixHash(e)
	n.mixKey(e, 2)
}

// mixDH is tokens ee, es, se and ss. ECDH refuses points of low order.
func (n *noise) mixDH(private *ecdh.PrivateKey, public []byte) {
	peer, err := ecdh.X25519().NewPublicKey(public)
	if n.err = cmp.Or(n.err, err); n.err == nil {
		var shared []byte
		shared, n.err = private.ECDH(peer)
		n.mixKey(shared, 2)
		clear(shared)
	}
}

func (n *noise) seal(plain []byte) (sealed []byte) {
	if n.err == nil {
		sealed = n.aead.Seal(nil, nonce(0), plain, n.h[:])
		n.mixHash(sealed)
	}
	return sealed
}

func (n *noise) open(sealed []byte) (plain []byte) {
	if n.err == nil {
		plain, n.err = n.aead.Open(nil, nonce(0), sealed, n.h[:])
		n.mixHash(sealed)
	}
	return plain
}

// split ends the handshake, once. Its two keys are what MixKey of nothing gives:
// the first seals what the initiator sends.
func (n *noise) split(job agentkeys.JobID, initiator bool) (*Conn, error) {
	n.mixKey(nil, 2)
	first, err := newGCM(n.ck[:])
	clear(n.ck[:])
	if cmp.Or(n.err, err) != nil {
		return nil, ErrBroken
	}
	n.err = ErrBroken
	c := &Conn{job: job, tx: half{aead: first}, rx: half{aead: n.aead}}
	if !initiator {
		c.tx, c.rx = c.rx, c.tx
	}
	return c, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonce is 4 zero bytes and the counter.
func nonce(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), n) }
