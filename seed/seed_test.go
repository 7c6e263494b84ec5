package seed

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
)

// hexBytes are written as hex in the vectors.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type issuer struct{ Private, Public hexBytes }

type vectors struct {
	Vault, Seed, User hexBytes
	Shielding         []struct {
		Version uint32
		Key     hexBytes
	}
	SessionIssuer issuer   `json:"session_issuer"`
	OIDCIssuer    issuer   `json:"oidc_issuer"`
	MetadataKey   hexBytes `json:"metadata_key"`
	TagKey        hexBytes `json:"tag_key"`
	ServiceID     hexBytes `json:"service_id"`
	Names         []struct {
		Name, Label   string
		Nonce, Sealed hexBytes
	}
	Wrapping struct {
		Share   hexBytes
		Epoch   uint32
		Version uint32 `json:"wrap_version"`
		Info    hexBytes
		Key     hexBytes
	}
}

func load(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/seed.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Shielding) != 2 || len(v.Names) != 3 {
		t.Fatalf("vectors: %d shielding keys, %d names", len(v.Shielding), len(v.Names))
	}
	return v
}

func secret(b []byte) agentkeys.Secret         { return agentkeys.NewSecret(bytes.Clone(b)) }
func (v vectors) vault() agentkeys.VaultID     { return agentkeys.VaultID(v.Vault) }
func (v vectors) user() agentkeys.Wallet       { return agentkeys.Wallet(v.User) }
func (v vectors) seed() Seed                   { return Seed{secret(v.Seed)} }
func (v vectors) tagKey() TagKey               { return TagKey{secret(v.TagKey)} }
func (v vectors) service() agentkeys.ServiceID { return agentkeys.ServiceID(v.ServiceID) }

func TestVectorLabels(t *testing.T) {
	v := load(t)
	for _, want := range v.Shielding {
		if got, err := v.seed().ShieldingKey(v.vault(), want.Version); err != nil || !bytes.Equal(got.Reveal(), want.Key) {
			t.Errorf("shielding key %d: %v", want.Version, err)
		}
	}
	metadata, err := v.seed().MetadataKey(v.vault())
	if err != nil || !bytes.Equal(metadata.Reveal(), v.MetadataKey) {
		t.Errorf("metadata key: %v", err)
	}
	if got, err := metadata.TagKey(v.vault(), v.user()); err != nil || !bytes.Equal(got.Reveal(), v.TagKey) {
		t.Errorf("tag key: %v", err)
	}
	session, err1 := v.seed().SessionIssuer(v.vault())
	oidc, err2 := v.seed().OIDCIssuer(v.vault())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	checkIssuer(t, session, v.SessionIssuer)
	checkIssuer(t, oidc, v.OIDCIssuer)
}

func checkIssuer(t *testing.T, key *ecdsa.PrivateKey, want issuer) {
	t.Helper()
	private, err1 := key.Bytes()
	public, err2 := key.PublicKey.Bytes()
	if err1 != nil || err2 != nil || !bytes.Equal(private, want.Private) || !bytes.Equal(public, want.Public) {
		t.Errorf("issuer: public %x %v %v", public, err1, err2)
	}
	digest := sha256.Sum256([]byte("token"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil || !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
		t.Errorf("issuer does not sign: %v", err)
	}
}

// Whatever the 48 bytes are, a key comes out; the ends of the range are 1 and n-1.
func TestES256Range(t *testing.T) {
	n1, _ := hex.DecodeString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550")
	one := append(make([]byte, 31), 1)
	for name, test := range map[string]struct{ wide, want []byte }{
		"zero":           {make([]byte, 48), one},
		"n-1":            {append(make([]byte, 16), n1...), one},
		"n-2":            {append(make([]byte, 16), append(bytes.Clone(n1[:31]), 0x4f)...), n1},
		"n-1 times 2^64": {append(append(make([]byte, 8), n1...), make([]byte, 8)...), one},
	} {
		key, err := es256Key(test.wide)
		if err != nil {
			t.Fatal(name, err)
		}
		if got, _ := key.Bytes(); !bytes.Equal(got, test.want) {
			t.Errorf("%s: %x", name, got)
		}
	}
	if _, err := es256Key(bytes.Repeat([]byte{0xff}, 48)); err != nil {
		t.Errorf("all ones: %v", err)
	}
}

func TestVectorWrappingKey(t *testing.T) {
	v := load(t)
	w := v.Wrapping
	shielding, err := v.seed().ShieldingKey(v.vault(), w.Version)
	if err != nil {
		t.Fatal(err)
	}
	wk, err := DeriveWrappingKey(v.vault(), shielding, secret(w.Share), v.user(), agentkeys.Epoch(w.Epoch), w.Version)
	if err != nil || !bytes.Equal(wk.Reveal(), w.Key) || !bytes.Equal(wk.Info(v.vault()), w.Info) {
		t.Errorf("wrapping key: %v", err)
	}
	if wk.User != v.user() || uint32(wk.Epoch) != w.Epoch || wk.Version != w.Version {
		t.Errorf("wrapping key is for %v %v %v", wk.User, wk.Epoch, wk.Version)
	}
}

// Every input must matter, and none may be missing.
func TestWrappingKeyInputs(t *testing.T) {
	v := load(t)
	vault, epoch, version := v.vault(), agentkeys.Epoch(v.Wrapping.Epoch), v.Wrapping.Version
	shielding, err := v.seed().ShieldingKey(vault, version)
	if err != nil {
		t.Fatal(err)
	}
	share, other := secret(v.Wrapping.Share), secret(v.Wrapping.Key)
	vault2, user2 := vault, v.user()
	vault2[0] ^= 1
	user2[0] ^= 1
	seen := map[string]string{string(v.Wrapping.Key): "the vector"}
	for name, f := range map[string]func() (envelope.WrappingKey, error){
		"vault": func() (envelope.WrappingKey, error) {
			return DeriveWrappingKey(vault2, shielding, share, v.user(), epoch, version)
		},
		"shielding": func() (envelope.WrappingKey, error) {
			return DeriveWrappingKey(vault, ShieldingKey{other}, share, v.user(), epoch, version)
		},
		"share": func() (envelope.WrappingKey, error) {
			return DeriveWrappingKey(vault, shielding, other, v.user(), epoch, version)
		},
		"user": func() (envelope.WrappingKey, error) {
			return DeriveWrappingKey(vault, shielding, share, user2, epoch, version)
		},
		"epoch": func() (envelope.WrappingKey, error) {
			return DeriveWrappingKey(vault, shielding, share, v.user(), epoch+1, version)
		},
		"version": func() (envelope.WrappingKey, error) {
			return DeriveWrappingKey(vault, shielding, share, v.user(), epoch, version+1)
		},
	} {
		wk, err := f()
		if err != nil {
			t.Fatal(name, err)
		}
		if same, ok := seen[string(wk.Reveal())]; ok {
			t.Errorf("%s changed gives the key of %s", name, same)
		}
		seen[string(wk.Reveal())] = name
	}
	zero, short, none := agentkeys.NewSecret(make([]byte, 32)), agentkeys.NewSecret([]byte("short")), agentkeys.Secret{}
	for _, test := range []struct {
		name      string
		shielding agentkeys.Secret
		share     agentkeys.Secret
		user      agentkeys.Wallet
		epoch     agentkeys.Epoch
		version   uint32
		want      error
	}{
		{"missing share", shielding.Secret, none, v.user(), epoch, version, ErrKey},
		{"zero share", shielding.Secret, zero, v.user(), epoch, version, ErrKey},
		{"short share", shielding.Secret, short, v.user(), epoch, version, ErrKey},
		{"missing shielding key", none, share, v.user(), epoch, version, ErrKey},
		{"zero shielding key", zero, share, v.user(), epoch, version, ErrKey},
		{"no user", shielding.Secret, share, agentkeys.Wallet{}, epoch, version, ErrNumber},
		{"no epoch", shielding.Secret, share, v.user(), 0, version, ErrNumber},
		{"no version", shielding.Secret, share, v.user(), epoch, 0, ErrNumber},
	} {
		wk, err := DeriveWrappingKey(vault, ShieldingKey{test.shielding}, test.share, test.user, test.epoch, test.version)
		if err != test.want || wk.Len() != 0 {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestUnusableSeed(t *testing.T) {
	v := load(t)
	for name, s := range map[string]Seed{
		"missing": {}, "zero": {agentkeys.NewSecret(make([]byte, 32))}, "short": {agentkeys.NewSecret([]byte("x"))},
	} {
		_, err1 := s.ShieldingKey(v.vault(), 1)
		_, err2 := s.MetadataKey(v.vault())
		_, err3 := s.SessionIssuer(v.vault())
		_, err4 := MetadataKey(s).TagKey(v.vault(), v.user())
		_, err5 := TagKey(s).Label("github")
		_, err6 := TagKey(s).SealName(v.user(), v.service(), "github")
		_, err7 := TagKey(s).OpenName(v.user(), v.service(), agentkeys.SealedName{})
		for i, err := range []error{err1, err2, err3, err4, err5, err6, err7} {
			if err != ErrKey {
				t.Errorf("%s seed, derivation %d: %v", name, i+1, err)
			}
		}
	}
	if _, err := v.seed().ShieldingKey(v.vault(), 0); err != ErrNumber {
		t.Errorf("shielding key 0: %v", err)
	}
	if _, err := (MetadataKey{secret(v.MetadataKey)}).TagKey(v.vault(), agentkeys.Wallet{}); err != ErrNumber {
		t.Errorf("tag key of nobody: %v", err)
	}
}

func TestNewSeeds(t *testing.T) {
	a, b := New(), New()
	if a.Len() != 32 || bytes.Equal(a.Reveal(), b.Reveal()) {
		t.Error("seeds are not 32 fresh bytes")
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	k := agentkeys.NewSecret(bytes.Repeat([]byte("K"), 32))
	for _, value := range []any{Seed{k}, ShieldingKey{k}, MetadataKey{k}, TagKey{k}, &Seed{k}, struct{ s Seed }{Seed{k}}} {
		j, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out := fmt.Sprintf("%v %+v %#v %s %q %x %X %d %s", value, value, value, value, value, value, value, value, j)
		for _, leak := range []string{"KK", "4b4b", "4B4B", "75 75", "0x4b, 0x4b", "S0tL"} {
			if strings.Contains(out, leak) {
				t.Errorf("%T prints %q", value, leak)
			}
		}
	}
}
