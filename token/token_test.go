package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/seed"
	"github.com/golang-jwt/jwt/v5"
)

var (
	vault = agentkeys.VaultID{1}
	user  = agentkeys.Wallet{2}
	agent = agentkeys.Wallet{3}
)

func issuerKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	master := sha256.Sum256([]byte("seed of token tests"))
	key, err := seed.Seed{Secret: agentkeys.NewSecret(master[:])}.SessionIssuer(vault)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func claims() Claims {
	return Claims{User: user, Agent: agent, Counter: 4, Role: RoleAgent, Key: make(ed25519.PublicKey, 32), Issued: 1000, Expires: 4600, ID: [16]byte{5}}
}

func TestSessionRoundTrip(t *testing.T) {
	key := issuerKey(t)
	text, err := IssueSession(key, vault, claims())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseSession(&key.PublicKey, vault, text)
	if err != nil {
		t.Fatal(err)
	}
	if want := claims(); c.User != want.User || c.Agent != want.Agent || c.Counter != 4 || c.Role != RoleAgent || c.Issued != 1000 || c.Expires != 4600 || c.ID != want.ID {
		t.Fatalf("claims: %+v", c)
	}
	if c.Check(4599) != nil || !errors.Is(c.Check(4600), ErrExpired) {
		t.Fatal("a session ends at exp")
	}
	if _, err := ParseSession(&key.PublicKey, agentkeys.VaultID{9}, text); !errors.Is(err, ErrToken) {
		t.Fatalf("another vault takes it: %v", err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseSession(&other.PublicKey, vault, text); !errors.Is(err, ErrToken) {
		t.Fatalf("another issuer takes it: %v", err)
	}
}

func TestIssueRefuses(t *testing.T) {
	for name, change := range map[string]func(*Claims){
		"no user":             func(c *Claims) { c.User = agentkeys.Wallet{} },
		"no agent":            func(c *Claims) { c.Agent = agentkeys.Wallet{} },
		"counter 0":           func(c *Claims) { c.Counter = 0 },
		"owner of another":    func(c *Claims) { c.Role = RoleOwner },
		"agent of itself":     func(c *Claims) { c.Agent = c.User },
		"unknown role":        func(c *Claims) { c.Role = "admin" },
		"short key":           func(c *Claims) { c.Key = c.Key[:31] },
		"ends before it is":   func(c *Claims) { c.Expires = c.Issued },
		"over thirty days":    func(c *Claims) { c.Expires = c.Issued + 30*86400 + 1 },
		"issued in far, wrap": func(c *Claims) { c.Issued = 1 << 63; c.Expires = 1 },
	} {
		c := claims()
		change(&c)
		if _, err := IssueSession(issuerKey(t), vault, c); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every token has one spelling: whatever else a lenient parser would take is none.
func TestParseSessionRefuses(t *testing.T) {
	key := issuerKey(t)
	good, err := IssueSession(key, vault, claims())
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	with := func(header, payload string) string {
		text, err := sign(key, header, json.RawMessage(payload))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	body := string(payload)
	if again := with(sessionHeader, body); again == good {
		t.Fatal("signatures repeat")
	} else if _, err := ParseSession(&key.PublicKey, vault, again); err != nil {
		t.Fatalf("the test signs wrongly: %v", err)
	}
	flipped := good[:len(good)-4] + map[bool]string{true: "BBBB", false: "AAAA"}[strings.HasSuffix(good, "AAAA")]
	for name, text := range map[string]string{
		"empty":             "",
		"two parts":         parts[0] + "." + parts[1],
		"four parts":        good + ".x",
		"alg none":          enc([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"signed alg none":   with(`{"alg":"none","typ":"agentkeys-session+jwt"}`, body),
		"signed HS256":      with(`{"alg":"HS256","typ":"agentkeys-session+jwt"}`, body),
		"other header":      with(`{"typ":"agentkeys-session+jwt","alg":"ES256"}`, body),
		"identity header":   with(`{"alg":"ES256","kid":"x","typ":"JWT"}`, body),
		"unknown claim":     with(sessionHeader, strings.Replace(body, `{"aud"`, `{"admin":true,"aud"`, 1)),
		"claim twice":       with(sessionHeader, strings.Replace(body, `{"aud"`, `{"role":"owner","aud"`, 1)),
		"upper case wallet": with(sessionHeader, strings.Replace(body, "0x02", "0X02", 1)),
		"audience missing":  with(sessionHeader, strings.Replace(body, vault.String(), "", 1)),
		"curve":             with(sessionHeader, strings.Replace(body, "Ed25519", "Ed448", 1)),
		"padded":            parts[0] + "." + parts[1] + "=." + parts[2],
		"flipped signature": flipped,
		"too long":          good + strings.Repeat("A", MaxSize),
	} {
		if _, err := ParseSession(&key.PublicKey, vault, text); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The identity is what an independent JWT library takes with the key of the JWKS.
func TestIdentity(t *testing.T) {
	i := Issuer{Key: issuerKey(t), URL: "https://issuer.test", Audience: "agentkeys-vault"}
	text, err := i.Identity(user, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := parseIdentity(t, i, text)
	life := int64(c["exp"].(float64)) - int64(c["iat"].(float64))
	tags, _ := json.Marshal(c["https://aws.amazon.com/tags"])
	if c["sub"] != "user" || life != 300 || string(tags) != `{"principal_tags":{"agentkeys_user_wallet":["`+user.String()+`"]},"transitive_tag_keys":["agentkeys_user_wallet"]}` {
		t.Fatalf("claims: %v", c)
	}
	if text, err = i.Identity(agentkeys.Wallet{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if c = parseIdentity(t, i, text); c["sub"] != "custodian" || c["https://aws.amazon.com/tags"] != nil {
		t.Fatalf("claims: %v", c)
	}
	if _, err := ParseSession(&i.Key.PublicKey, vault, text); err == nil {
		t.Fatal("an identity is taken for a session")
	}
}

func parseIdentity(t *testing.T, i Issuer, text string) jwt.MapClaims {
	t.Helper()
	raw, err := i.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(raw, &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("JWKS %s: %v", raw, err)
	}
	k := set.Keys[0]
	if _, private := k["d"]; private {
		t.Fatal("the JWKS holds the private key")
	}
	coordinate := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, coordinate(k["x"]), coordinate(k["y"])))
	if err != nil {
		t.Fatal(err)
	}
	c := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(text, c, func(tok *jwt.Token) (any, error) {
		if tok.Header["kid"] != k["kid"] {
			return nil, errors.New("kid is not in the JWKS")
		}
		return pub, nil
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(i.URL), jwt.WithAudience(i.Audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func FuzzParseSession(f *testing.F) {
	key := issuerKey(f)
	good, err := IssueSession(key, vault, claims())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseSession(&key.PublicKey, vault, text)
		if err == nil && c.valid() != nil {
			t.Fatalf("%q is taken with claims %+v", text, c)
		}
	})
}

func BenchmarkParseSession(b *testing.B) {
	key := issuerKey(b)
	text, err := IssueSession(key, vault, claims())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ParseSession(&key.PublicKey, vault, text); err != nil {
			b.Fatal(err)
		}
	}
}
