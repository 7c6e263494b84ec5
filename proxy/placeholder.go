package proxy

import (
	"bytes"
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
// There is one for each of the secret's parts, and at least two for an AWS key.
func placeholder(name agentkeys.Service, c credential.Credential) []string {
	value := c.Secret.Reveal()
	switch c.Kind {
	case credential.SigV4:
		return []string{"AKIAAGENTKEYSPLACEHO", padded("agentkeys-placeholder-"+string(name), plainSize), padded("agentkeys-placeholder", plainSize)}
	case credential.Basic:
		user, password, _ := bytes.Cut(value, []byte(":"))
		stands := beginning(name, password)
		for _, public := range []string{"x-access-token", "oauth2"} {
			if string(user) == public {
				return []string{public + ":" + stands, stands}
			}
		}
		return []string{"agentkeys:" + stands, stands}
	}
	return []string{beginning(name, value)}
}

// beginning is a placeholder that begins like the value, if many values begin so.
func beginning(name agentkeys.Service, value []byte) string {
	for _, p := range prefixes {
		if bytes.HasPrefix(value, []byte(p.text)) {
			return padded(p.text+"agentkeys-placeholder", p.size)
		}
	}
	return padded("agentkeys-placeholder-"+string(name), plainSize)
}

// padded fills up with x: letters are in every service's alphabet.
func padded(s string, size int) string {
	if len(s) < size {
		s += strings.Repeat("x", size-len(s))
	}
	return s
}

// parts are what of a secret may stand somewhere by itself, in the order of its
// placeholders: all of it; of user:password the password, too; of an AWS key id,
// secret and session token. They are the secret's own bytes.
func parts(c credential.Credential) [][]byte {
	value := c.Secret.Reveal()
	switch c.Kind {
	case credential.SigV4:
		return bytes.SplitN(value, []byte("\n"), 3)
	case credential.Basic:
		if _, password, ok := bytes.Cut(value, []byte(":")); ok && len(password) > 0 {
			return [][]byte{value, password}
		}
	}
	return [][]byte{value}
}
