package channel

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"example.org/agentkeys"
)

var (
	vault = agentkeys.VaultID{1}
	job   = agentkeys.JobID{2}
)

func newKeys(t testing.TB) *Keys {
	t.Helper()
	k, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// pair connects a custodian and a rotator through the exported API.
func pair(t testing.TB) (custodian, rotator *Conn) {
	t.Helper()
	keys := newKeys(t)
	i, hello, err := Initiate(vault, job, keys.Public())
	if err != nil {
		t.Fatal(err)
	}
	rotator, reply, err := Accept(vault, keys, hello)
	if err != nil {
		t.Fatal(err)
	}
	custodian, err = i.Finish(reply)
	if err != nil {
		t.Fatal(err)
	}
	if len(hello) != HelloSize || len(reply) != ReplySize || custodian.Job() != job || rotator.Job() != job {
		t.Fatalf("hello %d, reply %d, jobs %s %s", len(hello), len(reply), custodian.Job(), rotator.Job())
	}
	return custodian, rotator
}

func TestHandshakeBothWays(t *testing.T) {
	a, b := pair(t)
	for i, ends := range [][2]*Conn{{a, b}, {b, a}, {a, b}} {
		frame, err := ends[0].Seal([]byte{byte(i)}, false)
		if err != nil {
			t.Fatal(err)
		}
		if data, _, err := ends[1].Open(frame); err != nil || !bytes.Equal(data, []byte{byte(i)}) {
			t.Errorf("frame %d: %x %v", i, data, err)
		}
	}
}

func TestHelloBitFlips(t *testing.T) {
	keys := newKeys(t)
	_, hello, err := Initiate(vault, job, keys.Public())
	if err != nil {
		t.Fatal(err)
	}
	for i := range hello {
		bad := bytes.Clone(hello)
		bad[i] ^= 1
		if conn, _, err := Accept(vault, keys, bad); err == nil || conn != nil {
			t.Fatalf("byte %d changed", i)
		}
	}
	for _, n := range []int{0, 16, noiseAt, HelloSize - 1} {
		if _, _, err := Accept(vault, keys, hello[:n]); err == nil {
			t.Errorf("cut to %d bytes", n)
		}
	}
	if _, _, err := Accept(vault, keys, append(bytes.Clone(hello), 0)); err == nil {
		t.Error("trailing byte")
	}
}

func TestReplyBitFlips(t *testing.T) {
	keys := newKeys(t)
	for at := range ReplySize + 2 {
		i, hello, err := Initiate(vault, job, keys.Public())
		if err != nil {
			t.Fatal(err)
		}
		_, reply, err := Accept(vault, keys, hello)
		if err != nil {
			t.Fatal(err)
		}
		bad := append(bytes.Clone(reply), 0)
		switch {
		case at < ReplySize:
			bad = bad[:ReplySize]
			bad[at] ^= 1
		case at == ReplySize:
			bad = bad[:ReplySize-1]
		}
		if conn, err := i.Finish(bad); err == nil || conn != nil {
			t.Fatalf("reply %d accepted", at)
		}
		if conn, err := i.Finish(reply); err == nil || conn != nil {
			t.Fatalf("the right reply accepted after bad reply %d", at)
		}
	}
}

func TestFinishOnce(t *testing.T) {
	keys := newKeys(t)
	i, hello, err := Initiate(vault, job, keys.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, reply, err := Accept(vault, keys, hello)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Finish(reply); err != nil {
		t.Fatal(err)
	}
	// Spent by a mark of its own, not only because its keys are wiped.
	if i.noise.err == nil || !bytes.Equal(i.psk.Reveal(), make([]byte, 32)) || i.noise.ck != [keySize]byte{} {
		t.Error("a finished initiator keeps something")
	}
	if _, err := i.Finish(reply); err != ErrBroken {
		t.Errorf("second finish: %v", err)
	}
}

func TestWrongPeer(t *testing.T) {
	right, wrong := newKeys(t), newKeys(t)
	_, hello, err := Initiate(vault, job, right.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string]*Keys{
		"both keys": wrong,
		"noise key": {noise: wrong.noise, kem: right.kem},
		"kem key":   {noise: right.noise, kem: wrong.kem},
	} {
		if _, _, err := Accept(vault, keys, hello); err != ErrBroken {
			t.Errorf("other %s: %v", name, err)
		}
	}
	if _, _, err := Accept(agentkeys.VaultID{9}, right, hello); err != ErrBroken {
		t.Errorf("other vault: %v", err)
	}
	otherJob := bytes.Clone(hello)
	otherJob[0]++
	if _, _, err := Accept(vault, right, otherJob); err != ErrBroken {
		t.Errorf("other job: %v", err)
	}
}

// The psk is the post-quantum half: whoever breaks X25519 but lacks the ML-KEM key
// still cannot answer.
func TestReplyNeedsTheKEMSecret(t *testing.T) {
	keys := newKeys(t)
	i, hello, err := Initiate(vault, job, keys.Public())
	if err != nil {
		t.Fatal(err)
	}
	n := newNoise(prologue(vault, job, keys.Public(), hello[16:noiseAt]), keys.noise.PublicKey().Bytes())
	reply := n.respond(keys.noise, newKeys(t).noise, hello[noiseAt:], make([]byte, 32))
	if n.err != nil {
		t.Fatal(n.err)
	}
	if _, err := i.Finish(reply); err != ErrBroken {
		t.Errorf("reply without the secret: %v", err)
	}
}

func TestReplyOfAnotherJob(t *testing.T) {
	keys := newKeys(t)
	i, _, err1 := Initiate(vault, job, keys.Public())
	_, hello, err2 := Initiate(vault, job, keys.Public())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	_, reply, err := Accept(vault, keys, hello)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Finish(reply); err != ErrBroken {
		t.Errorf("reply to another hello: %v", err)
	}
}

// A replayed hello gets a reply, but what the first connection carried does not
// open in the second.
func TestHelloReplay(t *testing.T) {
	keys := newKeys(t)
	i, hello, err := Initiate(vault, job, keys.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, reply, err1 := Accept(vault, keys, hello)
	replayed, _, err2 := Accept(vault, keys, hello)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	custodian, err := i.Finish(reply)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := custodian.Seal([]byte("x"), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := replayed.Open(frame); err != ErrBroken {
		t.Errorf("frame of the first connection: %v", err)
	}
}

func TestFreshKeys(t *testing.T) {
	keys := newKeys(t)
	_, a, err1 := Initiate(vault, job, keys.Public())
	_, b, err2 := Initiate(vault, job, keys.Public())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if bytes.Equal(a[16:noiseAt], b[16:noiseAt]) || bytes.Equal(a[noiseAt:noiseAt+32], b[noiseAt:noiseAt+32]) {
		t.Error("two jobs share a ciphertext or an ephemeral key")
	}
}

func TestBadPeerKeys(t *testing.T) {
	p := newKeys(t).Public()
	p.Noise = [32]byte{}
	if _, _, err := Initiate(vault, job, p); err == nil {
		t.Error("a Noise key of low order")
	}
	p = newKeys(t).Public()
	for i := range p.KEM {
		p.KEM[i] = 0xff
	}
	if _, _, err := Initiate(vault, job, p); err == nil {
		t.Error("an ML-KEM key out of range")
	}
	keys := newKeys(t)
	_, hello, err := Initiate(vault, job, keys.Public())
	if err != nil {
		t.Fatal(err)
	}
	clear(hello[noiseAt : noiseAt+32])
	if _, _, err := Accept(vault, keys, hello); err == nil {
		t.Error("an ephemeral key of low order")
	}
}

func TestPublicKeys(t *testing.T) {
	p := newKeys(t).Public()
	b := p.Append(nil)
	if got, err := ParsePublicKeys(b); err != nil || got != p {
		t.Errorf("round trip: %v", err)
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(b, 0)} {
		if _, err := ParsePublicKeys(bad); err != agentkeys.ErrLayout {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	keys := newKeys(t)
	i, _, err := Initiate(vault, job, keys.Public())
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{keys.noise.Bytes(), keys.kem.Bytes(), i.static.Bytes(), i.eph.Bytes(), i.psk.Reveal(), i.noise.ck[:]}
	conn, _ := pair(t)
	for _, value := range []any{keys, *keys, i, *i, conn} {
		j, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out := fmt.Sprintf("%v %+v %#v %x %s", value, value, value, value, j)
		for n, s := range secrets {
			spelled := strings.Trim(fmt.Sprint(s[:8]), "[]")
			if strings.Contains(out, spelled) || strings.Contains(out, hex.EncodeToString(s[:8])) {
				t.Errorf("%T prints secret %d", value, n)
			}
		}
	}
}

func FuzzAccept(f *testing.F) {
	v := load(f)
	f.Add([]byte(v.Hello))
	f.Add(make([]byte, HelloSize))
	keys := v.keys(f)
	f.Fuzz(func(t *testing.T, hello []byte) {
		conn, _, err := Accept(agentkeys.VaultID(v.Vault), keys, hello)
		if err == nil && !bytes.Equal(hello, v.Hello) || (err == nil) != (conn != nil) {
			t.Fatalf("accepted %x: %v", hello, err)
		}
	})
}

func FuzzFinish(f *testing.F) {
	v := load(f)
	f.Add([]byte(v.Reply))
	f.Fuzz(func(t *testing.T, reply []byte) {
		keys := v.keys(t)
		i := &Initiator{
			static: private(t, v.CustodianStatic), eph: private(t, v.CustodianEph),
			psk: agentkeys.NewSecret(bytes.Clone(v.Secret)),
		}
		i.start(prologue(agentkeys.VaultID(v.Vault), agentkeys.JobID(v.Job), keys.Public(), v.Ciphertext), keys.noise.PublicKey().Bytes())
		conn, err := i.Finish(reply)
		if err == nil && !bytes.Equal(reply, v.Reply) || (err == nil) != (conn != nil) {
			t.Fatalf("accepted %x: %v", reply, err)
		}
	})
}

func FuzzParsePublicKeys(f *testing.F) {
	f.Add(make([]byte, 1216))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePublicKeys(b); err == nil && !bytes.Equal(p.Append(nil), b) {
			t.Fatal("two spellings")
		}
	})
}

func BenchmarkHandshake(b *testing.B) {
	keys := newKeys(b)
	for b.Loop() {
		i, hello, err := Initiate(vault, job, keys.Public())
		if err != nil {
			b.Fatal(err)
		}
		_, reply, err := Accept(vault, keys, hello)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := i.Finish(reply); err != nil {
			b.Fatal(err)
		}
	}
}
