package api

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"testing"
	"time"

	"example.org/agentkeys"
)

func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func TestCheckDelegation(t *testing.T) {
	vault, proxy, key := agentkeys.VaultID{1}, agentkeys.Wallet{2}, testKey(3)
	for name, c := range map[string]struct {
		change func(d *Delegation, key *ed25519.PublicKey, vault *agentkeys.VaultID, proxy *agentkeys.Wallet)
		ok     bool
	}{
		"as signed":     {func(*Delegation, *ed25519.PublicKey, *agentkeys.VaultID, *agentkeys.Wallet) {}, true},
		"another token": {func(d *Delegation, _ *ed25519.PublicKey, _ *agentkeys.VaultID, _ *agentkeys.Wallet) { d.Token += "x" }, false},
		"longer":        {func(d *Delegation, _ *ed25519.PublicKey, _ *agentkeys.VaultID, _ *agentkeys.Wallet) { d.Until++ }, false},
		"no signature": {func(d *Delegation, _ *ed25519.PublicKey, _ *agentkeys.VaultID, _ *agentkeys.Wallet) {
			d.Signature = nil
		}, false},
		"another key": {func(_ *Delegation, k *ed25519.PublicKey, _ *agentkeys.VaultID, _ *agentkeys.Wallet) {
			*k = public(testKey(4))
		}, false},
		"no key":        {func(_ *Delegation, k *ed25519.PublicKey, _ *agentkeys.VaultID, _ *agentkeys.Wallet) { *k = nil }, false},
		"another vault": {func(_ *Delegation, _ *ed25519.PublicKey, v *agentkeys.VaultID, _ *agentkeys.Wallet) { v[0]++ }, false},
		"another asks":  {func(_ *Delegation, _ *ed25519.PublicKey, _ *agentkeys.VaultID, p *agentkeys.Wallet) { p[0]++ }, false},
		"named for another": {func(d *Delegation, _ *ed25519.PublicKey, _ *agentkeys.VaultID, p *agentkeys.Wallet) {
			p[0]++
			d.Proxy = p.String()
		}, false},
	} {
		d, pub, v, p := Delegate(key, vault, "token", proxy, 100), public(key), vault, proxy
		c.change(&d, &pub, &v, &p)
		if err := CheckDelegation(d, pub, v, p); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckProof(t *testing.T) {
	vault, key, now := agentkeys.VaultID{1}, testKey(3), time.Unix(1_800_000_000, 0)
	check := func(header string, k ed25519.PublicKey, path string, at time.Time) (Proof, error) {
		return CheckProof(header, k, vault, "token", "POST", path, []byte("body"), at)
	}
	prove := func() string { return Prove(key, vault, "token", "POST", PathUse, []byte("body"), now) }
	first, err := check(prove(), public(key), PathUse, now)
	if err != nil || first.Time != uint64(now.Unix()) {
		t.Fatal(first, err)
	}
	if second, err := check(prove(), public(key), PathUse, now); err != nil || second.Nonce == first.Nonce {
		t.Error("the same request has the same proof twice", err)
	}
	for name, c := range map[string]struct {
		header string
		key    ed25519.PublicKey
		path   string
		at     time.Time
		ok     bool
	}{
		"a window later":    {prove(), public(key), PathUse, now.Add(ProofWindow), true},
		"a window earlier":  {prove(), public(key), PathUse, now.Add(-ProofWindow), true},
		"too late":          {prove(), public(key), PathUse, now.Add(ProofWindow + time.Second), false},
		"too early":         {prove(), public(key), PathUse, now.Add(-ProofWindow - time.Second), false},
		"another path":      {prove(), public(key), PathRead, now, false},
		"another key":       {prove(), public(testKey(4)), PathUse, now, false},
		"no key":            {prove(), nil, PathUse, now, false},
		"nothing":           {"", public(key), PathUse, now, false},
		"longer":            {prove() + "AA", public(key), PathUse, now, false},
		"broken over lines": {prove() + "\n", public(key), PathUse, now, false},
		"padded":            {prove() + "=", public(key), PathUse, now, false},
	} {
		if _, err := check(c.header, c.key, c.path, c.at); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCheckProof(f *testing.F) {
	vault, key, now := agentkeys.VaultID{1}, testKey(3), time.Unix(1_800_000_000, 0)
	good := Prove(key, vault, "token", "POST", PathUse, nil, now)
	f.Add(good)
	f.Add("")
	f.Fuzz(func(t *testing.T, header string) {
		p, err := CheckProof(header, public(key), vault, "token", "POST", PathUse, nil, now)
		if err != nil {
			return
		}
		// Whoever has not the key makes no other spelling of a proof, and no other proof.
		if b, err := base64.RawURLEncoding.DecodeString(header); err != nil || !bytes.Equal(b[8:24], p.Nonce[:]) || base64.RawURLEncoding.EncodeToString(b) != header {
			t.Errorf("%q is taken", header)
		}
	})
}
