package agentkeys_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"

	"example.org/agentkeys"
)

func TestParseService(t *testing.T) {
	for _, good := range []string{"a", "7", "github", "s3.eu-central-1", "a_b-c.d", "a.", "a-", strings.Repeat("x", 63)} {
		if s, err := agentkeys.ParseService(good); err != nil || string(s) != good {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", ".", "-a", "_a", ".a", "a..b", "..", "A", "gitHub", "a b", "a/b", "a#b", "a\x00", "a\n", "é", "a:b", strings.Repeat("x", 64),
	} {
		if s, err := agentkeys.ParseService(bad); err == nil || s != "" {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestLabel(t *testing.T) {
	key := [32]byte{1, 2, 3}
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte("github"))
	want := "github#" + hex.EncodeToString(m.Sum(nil))[:32]
	if got := agentkeys.Service("github").Label(key); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	key[31] ^= 1
	if agentkeys.Service("github").Label(key) == want {
		t.Error("the label does not depend on the whole tag key")
	}
}

func FuzzParseService(f *testing.F) {
	for _, s := range []string{"github", "a..b", "", "-a", strings.Repeat("x", 64)} {
		f.Add(s)
	}
	name := regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	f.Fuzz(func(t *testing.T, s string) {
		_, err := agentkeys.ParseService(s)
		if ok := name.MatchString(s) && !strings.Contains(s, "..") && !strings.HasSuffix(s, "\n"); ok != (err == nil) {
			t.Errorf("%q: %v", s, err)
		}
	})
}
