package adversary

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"example.org/agentkeys"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/rotation"
)

// recordedJob is one channel as the courier saw it.
type recordedJob struct {
	rotator      *recordedRotator
	hello, reply []byte
	frames       [][]byte // custodian to rotator
}

// recordedRotator is one start of the rotator.
type recordedRotator struct {
	noise key
	kem   []byte // encapsulation key
	seed  []byte // of the decapsulation key, once found: d 32, z 32
}

// recordedJobs reads the descriptor's messages, and what the operator told the
// custodian that never reached the descriptor.
func recordedJobs(all []Message) (jobs []*recordedJob, rotators []*recordedRotator, answers [][]byte) {
	in, out := map[string][]byte{}, map[string][]byte{}
	var names []string
	for _, m := range all {
		name, ok := strings.CutSuffix(m.Channel, " in")
		switch {
		case ok && strings.HasPrefix(name, "rotator "):
			if in[name] == nil {
				names = append(names, name)
			}
			in[name] = append(in[name], m.Bytes...)
		case strings.HasPrefix(m.Channel, "rotator "):
			name = strings.TrimSuffix(m.Channel, " out")
			out[name] = append(out[name], m.Bytes...)
		}
	}
	for _, name := range names {
		r, list, receipts := readRotator(in[name], out[name])
		rotators, jobs, answers = append(rotators, r), append(jobs, list...), append(answers, receipts...)
	}
	return jobs, rotators, answers
}

func readRotator(in, out []byte) (r *recordedRotator, jobs []*recordedJob, receipts [][]byte) {
	r = &recordedRotator{}
	var replies [][]byte
	for from := bytes.NewReader(out); ; {
		typ, body, err := rotation.ReadMessage(from)
		if err != nil {
			break
		}
		switch {
		case typ == rotation.Hello && len(body) > 32+32+1184:
			r.noise, r.kem = key(body[32:64]), body[64:64+1184]
		case typ == rotation.Handshake:
			replies = append(replies, body)
		case typ == rotation.Receipt:
			receipts = append(receipts, body)
		}
	}
	for from := bytes.NewReader(in); ; {
		typ, body, err := rotation.ReadMessage(from)
		if err != nil {
			return r, jobs, receipts
		}
		switch {
		case typ == rotation.Handshake:
			j := &recordedJob{rotator: r, hello: body}
			if len(jobs) < len(replies) {
				j.reply = replies[len(jobs)]
			}
			jobs = append(jobs, j)
		case typ == rotation.Frame && len(jobs) > 0:
			jobs[len(jobs)-1].frames = append(jobs[len(jobs)-1].frames, body)
		}
	}
}

// Where things lie in a hello: job 16, ML-KEM ciphertext 1088, ephemeral key 32,
// sealed static key 48, sealed payload.
const (
	ephAt     = 16 + mlkem.CiphertextSize768
	staticAt  = ephAt + 32
	payloadAt = staticAt + 48
)

// privates maps public X25519 keys to private ones that were found.
type privates map[key]*ecdh.PrivateKey

func (p privates) dh(a, b key) ([]byte, bool) {
	if k := p[b]; k != nil {
		a, b = b, a
	}
	k := p[a]
	if k == nil {
		return nil, false
	}
	peer, err := ecdh.X25519().NewPublicKey(b[:])
	if err != nil {
		return nil, false
	}
	shared, err := k.ECDH(peer)
	return shared, err == nil
}

// unlocked is what the found keys open of a job.
type unlocked struct {
	static  key    // the custodian's, for the job
	payload []byte // of the first message: must be empty
	frames  key    // transport key from custodian to rotator
	whole   bool   // frames is known
}

// unlock goes through Noise IKpsk2 as far as the found keys lead: docs/spec/channel.md.
func (j *recordedJob) unlock(vault agentkeys.VaultID, found privates) (u unlocked, ok bool) {
	s, u, ok := j.first(vault, found)
	if ok && len(j.reply) >= 32 {
		u.frames, u.whole = j.finish(s, found, key(j.hello[ephAt:staticAt]), u.static)
	}
	return u, u.static != (key{})
}

// first opens the first message; ok is false where it does not open to its end.
func (j *recordedJob) first(vault agentkeys.VaultID, found privates) (s symmetric, u unlocked, ok bool) {
	if len(j.hello) < payloadAt+16 {
		return s, u, false
	}
	s.ck = key([]byte("Noise_IKpsk2_25519_AESGCM_SHA256"))
	s.h = s.ck
	s.mixHash(append(append(append(agentkeys.DomainTag("channel", vault), j.hello[:16]...), j.rotator.kem...), j.hello[16:ephAt]...))
	s.mixHash(j.rotator.noise[:])
	eph := key(j.hello[ephAt:staticAt])
	s.mixHash(eph[:])
	s.mixKey(eph[:])
	if !s.mixDH(found, eph, j.rotator.noise) {
		return s, u, false
	}
	static, ok := s.open(j.hello[staticAt:payloadAt])
	if !ok {
		return s, u, false
	}
	u.static = key(static)
	if !s.mixDH(found, u.static, j.rotator.noise) {
		return s, u, false
	}
	u.payload, ok = s.open(j.hello[payloadAt:])
	return s, u, ok
}

func (j *recordedJob) finish(s symmetric, found privates, eph, static key) (k key, ok bool) {
	kem, err := mlkem.NewDecapsulationKey768(j.rotator.seed)
	if err != nil {
		return k, false
	}
	psk, err := kem.Decapsulate(j.hello[16:ephAt])
	if err != nil {
		return k, false
	}
	reply := key(j.reply[:32])
	s.mixHash(reply[:])
	s.mixKey(reply[:])
	if !s.mixDH(found, eph, reply) || !s.mixDH(found, static, reply) {
		return k, false
	}
	s.mixPSK(psk)
	if _, ok := s.open(j.reply[32:]); !ok {
		return k, false
	}
	return split(&s.ck), true
}

// split gives the key of the first direction.
func split(ck *key) key {
	prk := mac(ck)
	return expand(&prk, nil)
}

// messages opens the frames in order and gives what they carry.
func (j *recordedJob) messages(k *key) (out [][]byte) {
	aead := gcm(k)
	for i, f := range j.frames {
		nonce := binary.BigEndian.AppendUint64(make([]byte, 4, 12), uint64(i))
		if plain, err := aead.Open(nil, nonce, f, nil); err == nil && len(f) == channel.FrameSize {
			out = append(out, plain)
		}
	}
	return out
}

// symmetric is Noise's SymmetricState.
type symmetric struct{ ck, h, k key }

func (s *symmetric) mixHash(b []byte) { s.h = sha256.Sum256(append(s.h[:], b...)) }

func (s *symmetric) mixKey(ikm []byte) {
	out, err := hkdf.Key(sha256.New, ikm, s.ck[:], "", 64)
	if err != nil {
		panic(err) // only for lengths beyond 255 hashes
	}
	s.ck, s.k = key(out[:32]), key(out[32:])
}

func (s *symmetric) mixPSK(psk []byte) {
	out, err := hkdf.Key(sha256.New, psk, s.ck[:], "", 96)
	if err != nil {
		panic(err) // only for lengths beyond 255 hashes
	}
	s.ck = key(out[:32])
	s.mixHash(out[32:64])
	s.k = key(out[64:])
}

func (s *symmetric) mixDH(found privates, a, b key) bool {
	shared, ok := found.dh(a, b)
	if ok {
		s.mixKey(shared)
	}
	return ok
}

func (s *symmetric) open(sealed []byte) ([]byte, bool) {
	plain, ok := unseal(&s.k, make([]byte, 12), sealed, s.h[:])
	s.mixHash(sealed)
	return plain, ok
}
