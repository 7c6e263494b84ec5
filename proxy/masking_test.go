package proxy

import (
	"bytes"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
)

func TestMaskingOfWhatACommandPrints(t *testing.T) {
	for _, cut := range []int{1, 2, 3, 7, 1000} {
		var m Masking
		for _, s := range []string{"ghp_first-secret", "sk-second-secret"} {
			m.Add(credential.Credential{Secret: agentkeys.NewSecret([]byte(s)), Kind: credential.Bearer})
		}
		var out bytes.Buffer
		w := m.Writer(&out)
		text := []byte("a ghp_first-secret b sk-second-secret c ghp_first-secreX ghp_first")
		for i := 0; i < len(text); i += cut {
			if _, err := w.Write(text[i:min(i+cut, len(text))]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if want := "a **************** b **************** c ghp_first-secreX ghp_first"; out.String() != want {
			t.Errorf("in pieces of %d: %q", cut, out.String())
		}
		m.Wipe()
	}
}
