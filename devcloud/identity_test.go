package devcloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/token"
)

// The custodian's own tokens and key set are taken, for the roles they are meant for.
func TestCustodianTokensAreTaken(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Issuer: "https://vault.test/oidc", Audience: "agentkeys-vault", Bucket: DefaultBucket}
	issuer := token.Issuer{Key: key, URL: c.Issuer, Audience: c.Audience}
	set := &keySet{path: filepath.Join(t.TempDir(), "jwks.json")}
	b, err := issuer.JWKS()
	if err == nil {
		err = os.WriteFile(set.path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	roles, err := loadRoles(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []agentkeys.Wallet{{}, {0xa1}} {
		signed, err := issuer.Identity(user, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		id, err := set.identify(signed, c.Issuer, c.Audience)
		if err != nil {
			t.Fatalf("token for %s: %v", user, err)
		}
		for _, r := range blobstore.Roles() {
			if got := roles[r.ARN(Account)].trusts(c.provider(), id, "test"); got != (r.Tagged() == !user.IsZero()) {
				t.Errorf("token for %s, role %s: trusted %t", user, r, got)
			}
		}
	}
}
