package channel

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"example.org/agentkeys"
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func private(t testing.TB, b []byte) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Noise_IKpsk2_25519_AESGCM_SHA256 with empty payloads and no prologue, as
// published in vectors.txt of github.com/flynn/noise v1.1.0.
func TestPublishedNoiseVector(t *testing.T) {
	initStatic := private(t, fromHex(t, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"))
	respStatic := private(t, fromHex(t, "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"))
	initEph := private(t, fromHex(t, "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"))
	respEph := private(t, fromHex(t, "4142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60"))
	psk := fromHex(t, "2176657279736563726574766572797365637265747665727973656372657421")

	i := &Initiator{static: initStatic, eph: initEph, psk: agentkeys.NewSecret(bytes.Clone(psk))}
	m0 := i.start(nil, respStatic.PublicKey().Bytes())
	want(t, "message 0", m0, "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd1662540322be5210eec7e84567f5b4ad376b908b7c38a587eb71776e0661a6ca9f3ef251962835db06e694781bcf163d3cb38dfe6ffdada1fcf40492123fd5eae6c0c9")
	n := newNoise(nil, respStatic.PublicKey().Bytes())
	m1 := n.respond(respStatic, respEph, m0, psk)
	want(t, "message 1", m1, "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d48466f9d3c922ccf0a76efc90a08b4d23df61")
	responder, err := n.split(agentkeys.JobID{}, false)
	if err != nil {
		t.Fatal(err)
	}
	initiator, err := i.Finish(m1)
	if err != nil {
		t.Fatal(err)
	}
	seal := func(a cipher.AEAD, plain string) []byte { return a.Seal(nil, nonce(0), fromHex(t, plain), nil) }
	want(t, "message 2", seal(initiator.tx.aead, "79656c6c6f777375626d6172696e65"), "c033f4a3312af700a5a655f6992bcad095ceb5af11b02027cecd87ef65738c")
	want(t, "message 3", seal(responder.tx.aead, "7375626d6172696e6579656c6c6f77"), "3363987af8578ae96cb358858a859ef8060129a05d85700d8a9c4955c599c1")
}

func want(t *testing.T, what string, got []byte, hexWant string) {
	t.Helper()
	if hex.EncodeToString(got) != hexWant {
		t.Errorf("%s: %x", what, got)
	}
}

// hexBytes are written as hex in the vectors.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vectors struct {
	Vault, Job      hexBytes
	RotatorNoise    hexBytes `json:"rotator_noise_private"`
	RotatorKEM      hexBytes `json:"rotator_kem_seed"`
	CustodianStatic hexBytes `json:"custodian_static_private"`
	CustodianEph    hexBytes `json:"custodian_ephemeral_private"`
	RotatorEph      hexBytes `json:"rotator_ephemeral_private"`
	Ciphertext      hexBytes `json:"kem_ciphertext"`
	Secret          hexBytes `json:"kem_secret"`
	KEMHash         hexBytes `json:"kem_hash"`
	Hello, Reply    hexBytes
	Frames          []struct {
		From   string
		Data   hexBytes
		Final  bool
		SHA256 hexBytes
	}
}

func load(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/channel.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Frames) != 3 {
		t.Fatalf("vectors: %d frames", len(v.Frames))
	}
	return v
}

func (v vectors) keys(t testing.TB) *Keys {
	t.Helper()
	kem, err := mlkem.NewDecapsulationKey768(v.RotatorKEM)
	if err != nil {
		t.Fatal(err)
	}
	return &Keys{noise: private(t, v.RotatorNoise), kem: kem}
}

// connect runs the handshake of the vectors and returns both ends.
func (v vectors) connect(t testing.TB) (custodian, rotator *Conn) {
	t.Helper()
	vault, job, keys := agentkeys.VaultID(v.Vault), agentkeys.JobID(v.Job), v.keys(t)
	i := &Initiator{
		job: job, static: private(t, v.CustodianStatic), eph: private(t, v.CustodianEph),
		psk: agentkeys.NewSecret(bytes.Clone(v.Secret)),
	}
	m := i.start(prologue(vault, job, keys.Public(), v.Ciphertext), keys.noise.PublicKey().Bytes())
	hello := append(append(job[:], v.Ciphertext...), m...)
	if !bytes.Equal(hello, v.Hello) {
		t.Errorf("hello %x", hello)
	}
	n := newNoise(prologue(vault, job, keys.Public(), v.Ciphertext), keys.noise.PublicKey().Bytes())
	reply := n.respond(keys.noise, private(t, v.RotatorEph), v.Hello[noiseAt:], v.Secret)
	if !bytes.Equal(reply, v.Reply) {
		t.Errorf("reply %x", reply)
	}
	custodian, err1 := i.Finish(v.Reply)
	rotator, err2 := n.split(job, false)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return custodian, rotator
}

func TestVectors(t *testing.T) {
	v := load(t)
	keys := v.keys(t)
	if hash := keys.Public().KEMHash(); !bytes.Equal(hash[:], v.KEMHash) {
		t.Errorf("kem hash %s", hash)
	}
	if secret, err := keys.kem.Decapsulate(v.Ciphertext); err != nil || !bytes.Equal(secret, v.Secret) {
		t.Errorf("kem secret %x %v", secret, err)
	}
	custodian, rotator := v.connect(t)
	for i, f := range v.Frames {
		from, to := custodian, rotator
		if f.From == "rotator" {
			from, to = rotator, custodian
		}
		frame, err := from.Seal(f.Data, f.Final)
		if err != nil {
			t.Fatal(err)
		}
		if hash := sha256.Sum256(frame); !bytes.Equal(hash[:], f.SHA256) {
			t.Errorf("frame %d: hash %x", i, hash)
		}
		data, final, err := to.Open(frame)
		if err != nil || final != f.Final || !bytes.Equal(data, f.Data) {
			t.Errorf("frame %d: final %v, %v", i, final, err)
		}
	}
}

// The rotator's own entry point reads the vectors' hello, with an ephemeral key of
// its own.
func TestAcceptReadsTheVector(t *testing.T) {
	v := load(t)
	conn, reply, err := Accept(agentkeys.VaultID(v.Vault), v.keys(t), v.Hello)
	if err != nil || len(reply) != ReplySize || conn.Job() != agentkeys.JobID(v.Job) {
		t.Errorf("accept: %v", err)
	}
}
