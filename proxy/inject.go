package proxy

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
)

// maxWire is the longest secret that is put on the wire: servers refuse longer headers.
const maxWire = 16 << 10

// put places the secret in a request as its kind says, in place of whatever the client
// sent there. The header map and the URL then hold copies that cannot be wiped; they
// live as long as the request.
func put(out *http.Request, c credential.Credential) error {
	secret := c.Secret.Reveal()
	if err := onWire(c.Kind, secret); err != nil {
		return err
	}
	switch c.Kind {
	case credential.Bearer:
		setHeader(out, "Authorization", "Bearer "+string(secret))
	case credential.Basic:
		setHeader(out, "Authorization", "Basic "+base64.StdEncoding.EncodeToString(secret))
	case credential.Token:
		name, before, after, err := template(c.Header)
		if err != nil {
			return err
		}
		setHeader(out, name, before+string(secret)+after)
	case credential.Query:
		if c.Header == "" {
			return errUnfit("it does not say which query parameter it is")
		}
		setQuery(out.URL, c.Header, string(secret))
	case credential.SigV4:
		return sign(out, secret)
	default:
		return errUnfit("its kind is never put on the wire")
	}
	return nil
}

func errUnfit(why string) error {
	return &api.Error{Status: http.StatusUnprocessableEntity, Code: "credential_unfit",
		Message: "this credential cannot be put on the wire: " + why,
		Next:    "Ask the owner to store it again: agentkeys replace NAME. Do not retry"}
}

// onWire refuses bytes that would end a header line or that no server reads the same way.
func onWire(k credential.Kind, secret []byte) error {
	if len(secret) > maxWire {
		return errUnfit("it is longer than 16 KiB")
	}
	for _, c := range secret {
		switch {
		case c == '\n' && k == credential.SigV4:
		case c < ' ' || c == 0x7f:
			return errUnfit("it holds a line break or another control character")
		case c > 0x7f && k != credential.Basic && k != credential.Query:
			return errUnfit("it holds bytes that are not ASCII")
		}
	}
	if k == credential.Basic && bytes.IndexByte(secret, ':') < 0 {
		return errUnfit("it is not user:password")
	}
	return nil
}

// setHeader removes every spelling of a header first: other case, repeated, and with
// underscores, which many servers read as hyphens.
func setHeader(out *http.Request, name, value string) {
	for _, h := range []http.Header{out.Header, out.Trailer} {
		for have := range h {
			if strings.EqualFold(strings.ReplaceAll(have, "_", "-"), strings.ReplaceAll(name, "_", "-")) {
				delete(h, have)
			}
		}
	}
	out.Header[http.CanonicalHeaderKey(name)] = []string{value}
}

const slot = "{secret}"

// template reads "Name: text {secret} text".
func template(s string) (name, before, after string, err error) {
	name, value, ok := strings.Cut(s, ":")
	name = strings.TrimSpace(name)
	before, after, found := strings.Cut(strings.TrimSpace(value), slot)
	if !ok || !found || strings.Contains(after, slot) || !isToken(name) {
		return "", "", "", errUnfit(`its header is not "Name: text {secret}"`)
	}
	switch http.CanonicalHeaderKey(name) {
	case "Host", "Content-Length", "Transfer-Encoding", "Content-Encoding", "Connection", "Keep-Alive", "Upgrade",
		"Te", "Trailer", "Expect", "Proxy-Authorization", "Proxy-Connection", "Proxy-Authenticate", "Accept-Encoding":
		return "", "", "", errUnfit("its header is one that steers the connection")
	}
	return name, before, after, nil
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !isAlnum(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// setQuery removes the parameter, in any case and also where a server splits at
// semicolons, and adds it at the end. Everything else stays as it was spelled.
func setQuery(u *url.URL, name, value string) {
	var keep []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if pair != "" && !names(pair, name) {
			keep = append(keep, pair)
		}
	}
	u.RawQuery = strings.Join(append(keep, url.QueryEscape(name)+"="+url.QueryEscape(value)), "&")
}

func names(pair, name string) bool {
	for part := range strings.SplitSeq(pair, ";") {
		key, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(key); err == nil {
			key = plain
		}
		if strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}
