package adversary

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
)

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
