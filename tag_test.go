package agentkeys_test

import (
	"bytes"
	"testing"

	"example.org/agentkeys"
)

func TestDomainTag(t *testing.T) {
	vault := agentkeys.VaultID{0: 0xaa, 31: 0xbb}
	for purpose, text := range map[string]string{
		"envelope": "agentkeys/envelope/v1", "shielding/v1": "agentkeys/shielding/v1", "issuer/jwt/v1": "agentkeys/issuer/jwt/v1",
	} {
		want := append(append([]byte(text), 0), vault[:]...)
		got := agentkeys.DomainTag(purpose, vault)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %q", purpose, got)
		}
		// Callers append to it; two of them must not share an array.
		a, b := append(got, 1), append(got, 2)
		if a[len(a)-1] == b[len(b)-1] {
			t.Errorf("%s: two tags share bytes", purpose)
		}
	}
	if bytes.Equal(agentkeys.DomainTag("wrap", vault), agentkeys.DomainTag("wrap", agentkeys.VaultID{})) {
		t.Error("the tag does not depend on the vault")
	}
}
