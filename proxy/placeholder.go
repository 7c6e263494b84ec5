package proxy

import (
	"strings"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
)

// prefixes are how well-known services' keys begin: public, the same for everybody.
// Longer ones first. The number is how long such a key is.
var prefixes = []struct {
	text string
	size int
}{
	{"github_pat_", 93}, {"ghp_", 40}, {"gho_", 40}, {"ghu_", 40}, {"ghs_", 40}, {"ghr_", 76}, {"glpat-", 26},
	{"sk-ant-api03-", 108}, {"sk-proj-", 56}, {"sk-", 51}, {"xoxb-", 56}, {"xoxp-", 76}, {"AIza", 39}, {"hf_", 37}, {"npm_", 40},
	{"sk_live_", 32}, {"sk_test_", 32}, {"rk_live_", 32}, {"whsec_", 38}, {"pypi-", 180}, {"dop_v1_", 71}, {"SG.", 69}, {"gsk_", 56},
	{"r8_", 40}, {"tvly-", 41}, {"pplx-", 53},
}

// plainSize is how long a placeholder is whose key has no known beginning.
const plainSize = 40

// placeholder stands in a child's environment where the secret would: it begins like
// the service's keys, so that clients which look accept it, and says what it is. It
// tells nothing else of the secret, not even its length, and is the same at each run.
// An AWS key has two parts, the id first.
func placeholder(name agentkeys.Service, c credential.Credential) []string {
	switch c.Kind {
	case credential.SigV4:
		return []string{"AKIAAGENTKEYSPLACEHO", padded("agentkeys-placeholder-"+string(name), 40)}
	case credential.Basic:
		user, _, _ := strings.Cut(string(c.Secret.Reveal()), ":")
		if user == "x-access-token" || user == "oauth2" {
			return []string{user + ":" + padded("agentkeys-placeholder", plainSize)}
		}
		return []string{"agentkeys:" + padded("agentkeys-placeholder", plainSize)}
	}
	value := string(c.Secret.Reveal())
	for _, p := range prefixes {
		if strings.HasPrefix(value, p.text) {
			return []string{padded(p.text+"agentkeys-placeholder", p.size)}
		}
	}
	return []string{padded("agentkeys-placeholder-"+string(name), plainSize)}
}

// padded fills up with x: letters are in every service's alphabet.
func padded(s string, size int) string {
	if len(s) < size {
		s += strings.Repeat("x", size-len(s))
	}
	return s
}

// parts are the strings of a secret that may stand somewhere by themselves, in the
// order of its placeholders: all of it, and for an AWS key id and secret.
func parts(c credential.Credential) []string {
	value := string(c.Secret.Reveal())
	if c.Kind != credential.SigV4 {
		return []string{value}
	}
	return strings.Split(value, "\n")
}
