package channel

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"errors"

	"example.org/agentkeys"
)

// Sizes of the two handshake messages. Hello: job 16, ML-KEM ciphertext 1088,
// ephemeral key 32, sealed job key 48, sealed nothing 16. Reply: ephemeral key 32,
// sealed nothing 16.
const (
	noiseAt   = 16 + mlkem.CiphertextSize768
	emptyAt   = keySize + keySize + tagSize // within the Noise message
	HelloSize = noiseAt + emptyAt + tagSize
	ReplySize = keySize + tagSize
)

// Initiator is a custodian that waits for the reply to its hello.
type Initiator struct {
	job         agentkeys.JobID
	static, eph *ecdh.PrivateKey
	psk         agentkeys.Secret
	noise       *noise
}

// Initiate begins one job with a rotator whose keys the verified registry lists,
// and returns the hello. Both keys of this side are fresh, so that no two jobs can
// be linked.
func Initiate(vault agentkeys.VaultID, job agentkeys.JobID, peer PublicKeys) (*Initiator, []byte, error) {
	static, err1 := ecdh.X25519().GenerateKey(rand.Reader)
	eph, err2 := ecdh.X25519().GenerateKey(rand.Reader)
	kem, err3 := mlkem.NewEncapsulationKey768(peer.KEM[:])
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, nil, err
	}
	psk, ciphertext := kem.Encapsulate()
	i := &Initiator{job: job, static: static, eph: eph, psk: agentkeys.NewSecret(psk)}
	hello := append(append(job[:], ciphertext...), i.start(prologue(vault, job, peer, ciphertext), peer.Noise[:])...)
	return i, hello, i.noise.err
}

// start is -> e, es, s, ss and an empty payload.
func (i *Initiator) start(prologue, responder []byte) []byte {
	n := newNoise(prologue, responder)
	e := i.eph.PublicKey().Bytes()
	n.mixPublic(e)
	n.mixDH(i.eph, responder)
	sealedKey := n.seal(i.static.PublicKey().Bytes())
	n.mixDH(i.static, responder)
	i.noise = n
	return append(append(e, sealedKey...), n.seal(nil)...)
}

// Finish reads the rotator's reply: <- e, ee, se, psk and an empty payload. An
// initiator is good for one reply.
func (i *Initiator) Finish(reply []byte) (*Conn, error) {
	defer i.psk.Wipe()
	if len(reply) != ReplySize {
		return nil, ErrBroken
	}
	peer := reply[:keySize]
	i.noise.mixPublic(peer)
	i.noise.mixDH(i.eph, peer)
	i.noise.mixDH(i.static, peer)
	i.noise.mixKey(i.psk.Reveal(), 3)
	i.noise.open(reply[keySize:])
	return i.noise.split(i.job, true)
}

// Accept reads a hello and answers it. Until the first frame opens, the rotator
// does not know that anyone holds the other end: a hello can be replayed, a frame
// cannot.
func Accept(vault agentkeys.VaultID, keys *Keys, hello []byte) (*Conn, []byte, error) {
	if len(hello) != HelloSize {
		return nil, nil, ErrBroken
	}
	job, ciphertext := agentkeys.JobID(hello[:16]), hello[16:noiseAt]
	psk, err1 := keys.kem.Decapsulate(ciphertext)
	eph, err2 := ecdh.X25519().GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, err
	}
	n := newNoise(prologue(vault, job, keys.Public(), ciphertext), keys.noise.PublicKey().Bytes())
	reply := n.respond(keys.noise, eph, hello[noiseAt:], psk)
	clear(psk)
	conn, err := n.split(job, false)
	return conn, reply, err
}

// respond reads the initiator's Noise message and writes the answer to it.
func (n *noise) respond(static, eph *ecdh.PrivateKey, m, psk []byte) []byte {
	peerEph := m[:keySize]
	n.mixPublic(peerEph)
	n.mixDH(static, peerEph)
	peerStatic := n.open(m[keySize:emptyAt])
	n.mixDH(static, peerStatic)
	n.open(m[emptyAt:])
	e := eph.PublicKey().Bytes()
	n.mixPublic(e)
	n.mixDH(eph, peerEph)
	n.mixDH(eph, peerStatic)
	n.mixKey(psk, 3)
	return append(e, n.seal(nil)...)
}

// prologue is domain tag "channel", job 16, encapsulation key 1184, ciphertext
// 1088: exchange any of them and the first tag fails.
func prologue(vault agentkeys.VaultID, job agentkeys.JobID, peer PublicKeys, ciphertext []byte) []byte {
	b := append(agentkeys.DomainTag("channel", vault), job[:]...)
	return append(append(b, peer.KEM[:]...), ciphertext...)
}
