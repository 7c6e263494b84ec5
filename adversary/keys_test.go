package adversary

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/seed"
)

func random(t *testing.T) (k key) {
	t.Helper()
	rand.Read(k[:])
	return k
}

// TestMac holds the thief's own HMAC and HKDF against the standard library's.
func TestMac(t *testing.T) {
	k, ikm := random(t), random(t)
	for _, n := range []int{0, 1, 31, 64, 100, 192} {
		m := bytes.Repeat([]byte{7}, n)
		h := hmac.New(sha256.New, k[:])
		h.Write(m)
		if got := mac(&k, m); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Errorf("HMAC of %d bytes differs", n)
		}
	}
	want, err := hkdf.Key(sha256.New, ikm[:], k[:], "info", 32)
	if got := derive(&k, &ikm, []byte("info")); err != nil || !bytes.Equal(got[:], want) {
		t.Errorf("HKDF differs: %v", err)
	}
}

// TestUnlock: with the rotator's static key the first message opens, and only with its
// ephemeral and ML-KEM keys the frames do. The custodian's side is the vault's own.
func TestUnlock(t *testing.T) {
	vault := agentkeys.VaultID{1}
	static, eph, kem := x25519(t), x25519(t), must(mlkem.GenerateKey768())
	pub := channel.PublicKeys{Noise: public(static), KEM: [mlkem.EncapsulationKeySize768]byte(kem.EncapsulationKey().Bytes())}
	init, hello, err := channel.Initiate(vault, agentkeys.JobID{2}, pub)
	if err != nil {
		t.Fatal(err)
	}
	j := &recordedJob{rotator: &recordedRotator{noise: pub.Noise, kem: pub.KEM[:]}, hello: hello}
	if _, ok := j.unlock(vault, privates{public(eph): eph}); ok {
		t.Error("a job opens without the rotator's static key")
	}
	found := privates{pub.Noise: static}
	u, ok := j.unlock(vault, found)
	if !ok || u.static == (key{}) || len(u.payload) != 0 || u.whole {
		t.Fatalf("with the static key: %+v %t", u, ok)
	}
	j.reply = answer(t, vault, j, found, eph, kem)
	conn, err := init.Finish(j.reply)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := conn.Seal([]byte("wrapping keys"), true)
	if err != nil {
		t.Fatal(err)
	}
	j.frames = [][]byte{frame}
	for what, try := range map[string]struct {
		eph, kem, open bool
	}{"all keys": {true, true, true}, "no ephemeral key": {false, true, false}, "no ML-KEM key": {true, false, false}} {
		found, j.rotator.seed = privates{pub.Noise: static}, nil
		if try.eph {
			found[public(eph)] = eph
		}
		if try.kem {
			j.rotator.seed = kem.Bytes()
		}
		u, _ := j.unlock(vault, found)
		opened := u.whole && len(j.messages(&u.frames)) == 1 && bytes.Contains(j.messages(&u.frames)[0], []byte("wrapping keys"))
		if opened != try.open {
			t.Errorf("%s: opened %t", what, opened)
		}
	}
}

// answer is the rotator's reply, made by the thief's code for Noise.
func answer(t *testing.T, vault agentkeys.VaultID, j *recordedJob, found privates, eph *ecdh.PrivateKey, kem *mlkem.DecapsulationKey768) []byte {
	t.Helper()
	s, their, ok := j.first(vault, found)
	if !ok {
		t.Fatal("the first message does not open")
	}
	found = privates{public(eph): eph}
	mine := public(eph)
	s.mixHash(mine[:])
	s.mixKey(mine[:])
	if !s.mixDH(found, key(j.hello[ephAt:staticAt]), mine) || !s.mixDH(found, their.static, mine) {
		t.Fatal("no shared secret")
	}
	s.mixPSK(must(kem.Decapsulate(j.hello[16:ephAt])))
	return gcm(&s.k).Seal(mine[:], make([]byte, 12), nil, s.h[:])
}

func x25519(t *testing.T) *ecdh.PrivateKey {
	t.Helper()
	return must(ecdh.X25519().GenerateKey(rand.Reader))
}

func public(k *ecdh.PrivateKey) key { return key(k.PublicKey().Bytes()) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// planted is a loot with one wrapped data key, and where a key of it lies.
func planted(t *testing.T) (l *Loot, share, dek key) {
	t.Helper()
	l = &Loot{Vault: agentkeys.VaultID{1}, Seed: seed.New(), Users: map[agentkeys.Wallet]User{}, History: map[agentkeys.Wallet][]rules.User{}}
	share = random(t)
	user := agentkeys.Wallet{3}
	shielding, err := l.Seed.ShieldingKey(l.Vault, 1)
	if err != nil {
		t.Fatal(err)
	}
	wk, err := seed.DeriveWrappingKey(l.Vault, shielding, agentkeys.NewSecret(share[:]), user, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	data := envelope.NewDEK()
	wrapped, err := wk.Wrap(l.Vault, data)
	if err != nil {
		t.Fatal(err)
	}
	at := envelope.Place{User: user, Service: agentkeys.ServiceID{4}, Agent: user, Epoch: 1, Blob: agentkeys.BlobID{5}, Version: 1}
	sealed, err := envelope.Seal(l.Vault, data, at, []byte("planted"))
	if err != nil {
		t.Fatal(err)
	}
	name := user.String() + "/" + at.Epoch.String() + "/" + hex.EncodeToString(at.Service[:]) + "/" + hex.EncodeToString(at.Blob[:]) + ".enc"
	l.Pieces = []Piece{{"store", name, sealed}}
	l.History[user] = []rules.User{{Active: rules.EpochRow{Epoch: 1, DEKID: data.ID(l.Vault), Wrapped: wrapped}}}
	l.Users[user] = User{User: rules.User{Active: rules.EpochRow{Epoch: 2}}, Pointers: map[agentkeys.Slot]rules.Pointer{}}
	return l, share, key(data.Reveal())
}

// TestFindsPlantedKeys: a share or data key is found wherever it lies, raw, as hex, as
// base64, on the border of two chunks; and the destroyed epoch opens by it.
func TestFindsPlantedKeys(t *testing.T) {
	l, share, dek := planted(t)
	noise := make([]byte, chunk+200)
	rand.Read(noise)
	around := func(k []byte, at int) []byte {
		b := slices.Clone(noise)
		copy(b[at:], k)
		return b
	}
	for name, c := range map[string]struct {
		bytes []byte
		image bool
		way   string
	}{
		"data key":            {around(dek[:], 1001), false, "data key < home/x"},
		"over two chunks":     {around(dek[:], chunk-13), false, "data key < home/x"},
		"at the end":          {around(dek[:], len(noise)-32), false, "data key < home/x"},
		"hex in a log":        {[]byte("key=" + hex.EncodeToString(dek[:]) + " "), false, "data key < home/x (hex)"},
		"base64 in JSON":      {[]byte(`{"a":"` + base64.StdEncoding.EncodeToString(dek[:]) + `"}`), false, "data key < home/x (base64)"},
		"share in an image":   {around(share[:], 2048), true, "data key < wrapping key < share < memory of x"},
		"share in a file":     {share[:], false, "data key < wrapping key < share < home/x"},
		"nothing":             {noise, false, ""},
		"share without image": {around(share[:], 2047), true, ""}, // where Go puts none: only the long form looks there
	} {
		t.Run(name, func(t *testing.T) {
			l := *l
			if c.image {
				l.Images = []Image{{"x", 0, c.bytes}}
			} else {
				l.Pieces = append(slices.Clone(l.Pieces), Piece{"home", "x", c.bytes})
			}
			th, err := NewThief(&l)
			if err != nil {
				t.Fatal(err)
			}
			if err := th.Everything(); err != nil {
				t.Fatal(err)
			}
			if err := th.Try(t.Context()); err != nil {
				t.Fatal(err)
			}
			var want []string
			if c.way != "" {
				want = []string{c.way}
			}
			if leaks := Leaks(th.Report()); !slices.Equal(leaks, want) {
				t.Errorf("leaks %q, want %q", leaks, want)
			}
		})
	}
}

// TestCheck: what opens too much, too little or nothing is no success.
func TestCheck(t *testing.T) {
	live := Row{State: Active, Ever: 2, Opened: 2, Live: 1, Read: 1, How: []string{"x"}}
	gone := Row{State: Destroyed, Ever: 3}
	leak := Row{State: Destroyed, Ever: 3, Opened: 1, How: []string{"data key < log"}}
	for name, c := range map[string]struct {
		rows []Row
		good bool
	}{
		"as it has to be":       {[]Row{live, gone}, true},
		"a leak":                {[]Row{live, leak}, false},
		"nothing live opened":   {[]Row{gone}, false},
		"one live left shut":    {[]Row{live, gone, {State: Draining, Live: 2, Read: 1}}, false},
		"no destroyed envelope": {[]Row{live}, false},
		"nothing at all":        {nil, false},
	} {
		if err := Check(c.rows); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
