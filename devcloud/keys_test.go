package devcloud

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys/blobstore/conformance"
)

func issuer(t testing.TB, kid string) *conformance.Issuer {
	t.Helper()
	i, err := conformance.NewIssuer("https://vault.test", "agentkeys-vault", kid)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func jwks(t testing.TB, issuers ...*conformance.Issuer) []byte {
	t.Helper()
	b, err := conformance.JWKS(issuers...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseJWKS(t *testing.T) {
	good := string(jwks(t, issuer(t, "one"), issuer(t, "two")))
	keys, err := parseJWKS([]byte(good))
	if err != nil || len(keys) != 2 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	keys, err = parseJWKS([]byte(`{"keys":[{"kty":"RSA","kid":"r","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-384","kid":"p"},{"kty":"EC","crv":"P-256","use":"enc","kid":"e"}]}`))
	if err != nil || len(keys) != 0 {
		t.Fatalf("keys of other kinds: %d, %v", len(keys), err)
	}
	for name, bad := range map[string]string{
		"not JSON":        "keys",
		"trailing":        good + good,
		"same id twice":   strings.Replace(good, `"two"`, `"one"`, 1),
		"without id":      strings.Replace(good, `"two"`, `""`, 1),
		"point off curve": strings.Replace(good, `"y":"`, `"y":"A`, 1),
		"short":           `{"keys":[{"kty":"EC","crv":"P-256","kid":"s","x":"AQ","y":"AQ"}]}`,
		"not on curve":    `{"keys":[{"kty":"EC","crv":"P-256","kid":"s","x":"` + strings.Repeat("A", 42) + `E","y":"` + strings.Repeat("A", 42) + `E"}]}`,
		"huge":            `{"keys":[]}` + strings.Repeat(" ", maxJWKS),
	} {
		if keys, err := parseJWKS([]byte(bad)); err == nil {
			t.Errorf("%s: took %d keys", name, len(keys))
		}
	}
}

func FuzzParseJWKS(f *testing.F) {
	f.Add(jwks(f, issuer(f, "one")))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseJWKS(b)
		if err != nil {
			return
		}
		for id, k := range keys {
			if _, err := k.Bytes(); err != nil || id == "" {
				t.Fatalf("key %q: %v", id, err)
			}
		}
	})
}

func TestKeySetFollowsTheFile(t *testing.T) {
	one, two := issuer(t, "one"), issuer(t, "two")
	set := &keySet{path: filepath.Join(t.TempDir(), "jwks.json")}
	write := func(age time.Duration, issuers ...*conformance.Issuer) {
		t.Helper()
		if err := os.WriteFile(set.path, jwks(t, issuers...), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(set.path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	knows := func(what, id string, want bool) {
		t.Helper()
		if _, err := set.key(id); (err == nil) != want {
			t.Errorf("%s: key %s: %v", what, id, err)
		}
	}
	knows("no file yet", "one", false)
	write(time.Hour, one)
	knows("file appeared", "one", true)
	knows("file appeared", "two", false)
	write(time.Hour, one, two)
	knows("new key, same time", "two", true)
	write(time.Minute, two)
	knows("key removed", "one", false)
	knows("key removed", "two", true)
	if err := os.Remove(set.path); err != nil {
		t.Fatal(err)
	}
	knows("file removed", "two", false)
}
