package eip712_test

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/statement"
)

var order, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)

// cow is the key, Keccak-256("cow"), that signs the example of the EIP.
func cow(t *testing.T) eip712.Key {
	k, err := eip712.ParseKey(keccak([]byte("cow")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mailDigest() [32]byte {
	ts, domain, message := mail()
	return [32]byte(ts.digest("Mail", domain, message))
}

func TestSignsTheExampleOfTheEIP(t *testing.T) {
	k := cow(t)
	if got := k.Wallet().String(); got != "0xcd2a3d9f938e13cd947ec05abc7fe734df8dd826" {
		t.Fatal(got)
	}
	want := "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d" +
		"07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b91562" + "1c"
	sig := k.Sign(mailDigest())
	if hex.EncodeToString(sig[:]) != want {
		t.Fatalf("%x", sig)
	}
	if w, err := eip712.Recover(mailDigest(), sig); err != nil || w != k.Wallet() {
		t.Fatal(w, err)
	}
}

func TestRecoverRefuses(t *testing.T) {
	digest, good := mailDigest(), cow(t).Sign(mailDigest())
	set := func(at int, n *big.Int) eip712.Signature {
		s := good
		n.FillBytes(s[at : at+32])
		return s
	}
	v := func(v byte) eip712.Signature {
		s := good
		s[64] = v
		return s
	}
	high := set(32, new(big.Int).Sub(order, new(big.Int).SetBytes(good[32:64])))
	high[64] = 55 - high[64] // the twin that plain ECDSA accepts
	half := new(big.Int).Rsh(order, 1)
	for name, sig := range map[string]eip712.Signature{
		"nothing": {}, "high s": high, "s just above half": set(32, new(big.Int).Add(half, big.NewInt(1))),
		"r = 0": set(0, new(big.Int)), "s = 0": set(32, new(big.Int)), "r = n": set(0, order), "s = n": set(32, order),
		"v = 0": v(0), "v = 1": v(1), "v = 26": v(26), "v = 29": v(29), "v = 30": v(30), "v = 31": v(31), "v = 255": v(255),
		"r is no x coordinate": set(0, big.NewInt(5)),
	} {
		if w, err := eip712.Recover(digest, sig); err != eip712.ErrSignature || !w.IsZero() {
			t.Errorf("%s: %v %v", name, w, err)
		}
	}
}

func TestVerifyWantsThisWalletAndThisDigest(t *testing.T) {
	k, digest := cow(t), mailDigest()
	sig := k.Sign(digest)
	if err := eip712.Verify(digest, sig, k.Wallet()); err != nil {
		t.Fatal(err)
	}
	other := digest
	other[0] ^= 1
	flipped := sig
	flipped[64] = 55 - flipped[64]
	for name, err := range map[string]error{
		"another digest": eip712.Verify(other, sig, k.Wallet()),
		"another wallet": eip712.Verify(digest, sig, agentkeys.Wallet{1}),
		"no wallet":      eip712.Verify(digest, sig, agentkeys.Wallet{}),
		"the other v":    eip712.Verify(digest, flipped, k.Wallet()),
	} {
		if err != eip712.ErrSignature {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASignatureIsForOneVault(t *testing.T) {
	k := cow(t)
	body := statement.Enrol{User: k.Wallet()}
	wire, err := k.SignStatement(agentkeys.VaultID{1}, body)
	if err != nil {
		t.Fatal(err)
	}
	s, err := statement.Parse(wire)
	if err != nil {
		t.Fatal(err)
	}
	for vault, want := range map[agentkeys.VaultID]error{{1}: nil, {2}: eip712.ErrSignature, {}: eip712.ErrSignature} {
		d, err := eip712.Digest(vault, s.Body)
		if err != nil || eip712.Verify(d, s.User, k.Wallet()) != want {
			t.Errorf("vault %v: want %v", vault, want)
		}
	}
}

func TestWalletsSignNoStatementOfAProcess(t *testing.T) {
	if _, err := eip712.Digest(agentkeys.VaultID{}, statement.Heartbeat{}); err != eip712.ErrNotUser {
		t.Fatal(err)
	}
	if wire, err := cow(t).SignStatement(agentkeys.VaultID{}, statement.RotateAll{}); err != eip712.ErrNotUser || wire != nil {
		t.Fatal(err)
	}
}

func TestParseKey(t *testing.T) {
	one := make([]byte, 32)
	one[31] = 1
	top := new(big.Int).Sub(order, big.NewInt(1)).Bytes()
	for _, b := range [][]byte{one, top} {
		if k, err := eip712.ParseKey(b); err != nil || !bytes.Equal(k.Bytes(), b) {
			t.Errorf("%x: %v", b, err)
		}
	}
	if k, _ := eip712.ParseKey(one); k.Wallet().String() != "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf" {
		t.Error("the wallet of private key 1 is well known")
	}
	for name, b := range map[string][]byte{"nothing": nil, "short": one[1:], "long": append([]byte{0}, one...), "zero": make([]byte, 32),
		"the order": order.Bytes(), "above it": bytes.Repeat([]byte{0xff}, 32)} {
		if _, err := eip712.ParseKey(b); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestNewKeysDifferAndCanBeCleared(t *testing.T) {
	a, err := eip712.NewKey()
	b, err2 := eip712.NewKey()
	if err != nil || err2 != nil || bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Fatal(err, err2)
	}
	if a.Zero(); !bytes.Equal(a.Bytes(), make([]byte, 32)) {
		t.Fatal("still there")
	}
}

func TestServiceIDIsKeccakOfTheLabel(t *testing.T) {
	if got := eip712.ServiceID("").String(); got != "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470" {
		t.Fatal(got)
	}
	label := "github#000102030405060708090a0b0c0d0e0f"
	if got := eip712.ServiceID(label); !bytes.Equal(got[:], keccak([]byte(label))) {
		t.Fatal(got)
	}
}

func FuzzRecover(f *testing.F) {
	k, err := eip712.ParseKey(keccak([]byte("cow")))
	if err != nil {
		f.Fatal(err)
	}
	digest := mailDigest()
	good := k.Sign(digest)
	f.Add(digest[:], good[:])
	f.Add(make([]byte, 32), make([]byte, 65))
	half := new(big.Int).Rsh(order, 1)
	f.Fuzz(func(t *testing.T, d, s []byte) {
		if len(d) != 32 || len(s) != 65 {
			return
		}
		w, err := eip712.Recover([32]byte(d), eip712.Signature(s))
		if err != nil {
			return
		}
		if v := s[64]; v != 27 && v != 28 || new(big.Int).SetBytes(s[32:64]).Cmp(half) > 0 {
			t.Fatalf("accepted %x", s)
		}
		if eip712.Verify([32]byte(d), eip712.Signature(s), w) != nil {
			t.Fatal("recovers to a wallet that does not verify")
		}
	})
}
