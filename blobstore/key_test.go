package blobstore_test

import (
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
)

const goodKey = "0x00112233445566778899aabbccddeeff00112233/0000000007/" +
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f/00112233445566778899aabbccddeeff.enc"

func TestKey(t *testing.T) {
	n, err := blobstore.ParseKey(goodKey)
	if err != nil {
		t.Fatal(err)
	}
	if n.Epoch != 7 || n.Service[31] != 0x1f || n.Blob[0] != 0 || n.User[1] != 0x11 {
		t.Errorf("parsed %+v", n)
	}
	if got := blobstore.Key(n.User, n.Epoch, n.Service, n.Blob); got != goodKey {
		t.Errorf("key %s", got)
	}
	if got := blobstore.EpochPrefix(n.User, n.Epoch); got != goodKey[:54] {
		t.Errorf("epoch prefix %s", got)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	for name, bad := range map[string]string{
		"empty":        "",
		"upper case":   strings.ToUpper(goodKey),
		"no suffix":    strings.TrimSuffix(goodKey, ".enc"),
		"two suffixes": goodKey + ".enc",
		"leading /":    "/" + goodKey,
		"trailing /":   goodKey + "/",
		"double /":     strings.Replace(goodKey, "/", "//", 1),
		"no 0x":        goodKey[2:],
		"epoch 0":      strings.Replace(goodKey, "0000000007", "0000000000", 1),
		"epoch short":  strings.Replace(goodKey, "0000000007", "7", 1),
		"epoch signed": strings.Replace(goodKey, "0000000007", "+000000007", 1),
		"epoch huge":   strings.Replace(goodKey, "0000000007", "4294967296", 1),
		"dots":         strings.Replace(goodKey, "0000000007", "..", 1),
		"tree":         "tree/a/b/c.enc",
	} {
		if n, err := blobstore.ParseKey(bad); err == nil {
			t.Errorf("%s: parsed as %+v", name, n)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(goodKey)
	f.Add("0x/0/0/.enc")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := blobstore.ParseKey(s)
		if err != nil {
			if n != (blobstore.Name{}) {
				t.Fatal("a refused key left a name")
			}
			return
		}
		if got := blobstore.Key(n.User, n.Epoch, n.Service, n.Blob); got != s {
			t.Fatalf("%q parses and prints as %q", s, got)
		}
	})
}

func TestPoliciesAreComplete(t *testing.T) {
	g := blobstore.Grantor{Account: "123456789012", Provider: "vault.test/oidc", Audience: "aud-1", Bucket: "bucket-1"}
	for _, r := range blobstore.Roles() {
		for kind, doc := range map[string]string{"trust": g.TrustPolicy(r), "access": g.AccessPolicy(r)} {
			for _, hole := range []string{"{account}", "{provider}", "{audience}", "{bucket}", `"*"`, "s3:*", "sts:*"} {
				if strings.Contains(doc, hole) {
					t.Errorf("%s policy of %s contains %s", kind, r, hole)
				}
			}
		}
		if tagged := strings.Contains(g.AccessPolicy(r), "${aws:PrincipalTag/"+blobstore.TagKey+"}/*"); tagged != r.Tagged() {
			t.Errorf("access policy of %s: bound to a tag: %t", r, tagged)
		}
		if !strings.Contains(g.TrustPolicy(r), `"vault.test/oidc:sub": "`+r.Subject()+`"`) {
			t.Errorf("trust policy of %s does not ask for its subject", r)
		}
		if got := r.ARN("123456789012"); got != "arn:aws:iam::123456789012:role/agentkeys-"+string(r) {
			t.Error(got)
		}
	}
	for _, s := range []string{g.AccessPolicy(blobstore.RoleCourier)} {
		if strings.Contains(s, "Delete") || strings.Contains(s, "List") || strings.Contains(s, "Abort") {
			t.Error("the courier may do more than read and write")
		}
	}
	var zero agentkeys.Wallet
	if !strings.HasPrefix(blobstore.UserPrefix(zero), "0x") {
		t.Error("a user's prefix could meet a system prefix")
	}
}
