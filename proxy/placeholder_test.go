package proxy

import (
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
)

func x(n int) string { return strings.Repeat("x", n) }

func TestPlaceholders(t *testing.T) {
	for _, c := range []struct {
		kind   credential.Kind
		secret string
		want   []string
	}{
		{credential.Bearer, "ghp_SECRETSECRETSECRET", []string{"ghp_agentkeys-placeholder" + x(15)}},
		{credential.Bearer, "sk-ant-api03-SECRET", []string{"sk-ant-api03-agentkeys-placeholder" + x(74)}},
		{credential.Bearer, "sk-SECRET", []string{"sk-agentkeys-placeholder" + x(27)}},
		{credential.Token, "xoxb-SECRET", []string{"xoxb-agentkeys-placeholder" + x(30)}},
		{credential.Query, "AIzaSECRET", []string{"AIzaagentkeys-placeholder" + x(14)}},
		{credential.Bearer, "SECRET", []string{"agentkeys-placeholder-name" + x(14)}},
		{credential.Basic, "x-access-token:SECRET", []string{"x-access-token:agentkeys-placeholder-name" + x(14), "agentkeys-placeholder-name" + x(14)}},
		{credential.Basic, "oauth2:glpat-SECRET", []string{"oauth2:glpat-agentkeys-placeholder", "glpat-agentkeys-placeholder"}},
		{credential.Basic, "SECRET-user:SECRET", []string{"agentkeys:agentkeys-placeholder-name" + x(14), "agentkeys-placeholder-name" + x(14)}},
		{credential.SigV4, "AKIASECRET\nSECRET", []string{"AKIAAGENTKEYSPLACEHO", "agentkeys-placeholder-name" + x(14), "agentkeys-placeholder" + x(19)}},
	} {
		cred := credential.Credential{Kind: c.kind, Secret: agentkeys.NewSecret([]byte(c.secret))}
		got := placeholder("name", cred)
		if strings.Join(got, " ") != strings.Join(c.want, " ") || strings.Contains(strings.Join(got, " "), "SECRET") {
			t.Errorf("%s: %q", c.secret, got)
		}
		if len(parts(cred)) > len(got) {
			t.Errorf("%s: %d parts, %d placeholders", c.secret, len(parts(cred)), len(got))
		}
	}
}

// Two keys of one service have one placeholder: it tells neither length nor content.
func TestPlaceholderTellsNothing(t *testing.T) {
	for _, p := range prefixes {
		short := placeholder("name", credential.Credential{Kind: credential.Bearer, Secret: secretOf(p.text + "a")})[0]
		long := placeholder("name", credential.Credential{Kind: credential.Bearer, Secret: secretOf(p.text + strings.Repeat("b", 99))})[0]
		if short != long || !strings.HasPrefix(short, p.text) || !strings.Contains(short, "agentkeys-placeholder") || len(short) < p.size {
			t.Errorf("%s: %q and %q", p.text, short, long)
		}
	}
}

func TestParts(t *testing.T) {
	for _, c := range []struct {
		kind         credential.Kind
		secret, want string
	}{
		{credential.Bearer, "a:b\nc", "a:b\nc"},
		{credential.Basic, "user:pass:word", "user:pass:word|pass:word"},
		{credential.Basic, "user", "user"},
		{credential.Basic, "user:", "user:"},
		{credential.SigV4, "id\nsecret", "id|secret"},
		{credential.SigV4, "id\nsecret\ntoken", "id|secret|token"},
		{credential.SigV4, "id", "id"},
	} {
		var got []string
		for _, p := range parts(credential.Credential{Kind: c.kind, Secret: secretOf(c.secret)}) {
			got = append(got, string(p))
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%v %q: %q", c.kind, c.secret, got)
		}
	}
}
