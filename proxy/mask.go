package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"example.org/agentkeys/credential"
)

// minMask is the shortest secret that is looked for: a shorter one would be found
// everywhere.
const minMask = 8

// mask replaces what is secret in what comes back: as it is, and as headers, URLs and
// JSON would spell it. A mask has the length of what it covers, so lengths, frames and
// ranges stay right. Compressed or otherwise encoded echoes are not found: the engine
// asks for none (see exchange).
type mask struct {
	patterns [][]byte // shortest first
	first    [256]bool
}

// newMask spells a credential's secrets.
func newMask(c credential.Credential) *mask {
	m := &mask{}
	value := string(c.Secret.Reveal())
	switch c.Kind {
	case credential.Basic:
		_, password, _ := strings.Cut(value, ":")
		m.spell(password)
		m.add(base64.StdEncoding.EncodeToString([]byte(value)))
		m.add(base64.URLEncoding.EncodeToString([]byte(value)))
		m.add(base64.RawURLEncoding.EncodeToString([]byte(value)))
	case credential.SigV4:
		for i, part := range strings.Split(value, "\n") {
			if i > 0 { // the id is no secret, and every answer may name it
				m.spell(part)
			}
		}
	default:
		m.spell(value)
	}
	return m
}

func (m *mask) spell(s string) {
	m.add(s)
	m.add(url.QueryEscape(s))
	m.add(url.PathEscape(s))
	quoted, err := json.Marshal(s)
	if err == nil {
		m.add(string(quoted[1 : len(quoted)-1]))
	}
	m.add(base64.StdEncoding.EncodeToString([]byte(s)))
}

func (m *mask) add(s string) {
	if len(s) < minMask || slices.ContainsFunc(m.patterns, func(p []byte) bool { return string(p) == s }) {
		return
	}
	m.patterns = append(m.patterns, []byte(s))
	slices.SortStableFunc(m.patterns, func(a, b []byte) int { return len(a) - len(b) })
	m.first[s[0]] = true
}

// wipe clears the spellings.
func (m *mask) wipe() {
	for _, p := range m.patterns {
		clear(p)
	}
	m.patterns = nil
}

// scan masks b in place and says how many bytes of it are settled: the rest may be the
// beginning of something secret, unless this is the end. The shortest match at the
// first place counts, so how a stream is cut makes no difference.
func (m *mask) scan(b []byte, end bool) (settled int) {
	for i := 0; i < len(b); {
		if !m.first[b[i]] {
			i++
			continue
		}
		n, open := m.at(b[i:])
		switch {
		case n > 0:
			copy(b[i:i+n], bytes.Repeat([]byte{'*'}, n))
			i += n
		case open && !end:
			return i
		default:
			i++
		}
	}
	return len(b)
}

// at gives the length of what matches here; open says that more bytes might.
func (m *mask) at(b []byte) (n int, open bool) {
	for _, p := range m.patterns {
		if bytes.HasPrefix(b, p) {
			return len(p), false
		}
		open = open || len(b) < len(p) && bytes.HasPrefix(p, b)
	}
	return 0, open
}

func (m *mask) text(s string) string {
	b := []byte(s)
	m.scan(b, true)
	return string(b)
}

// headers masks values in place.
func (m *mask) headers(h http.Header) {
	for _, values := range h {
		for i := range values {
			values[i] = m.text(values[i])
		}
	}
}

// masked reads a body through a mask. Bytes that cannot belong to a secret are never
// held back. Writing goes to the service as it is: a switched protocol's other half.
type masked struct {
	io.ReadCloser
	m       *mask
	trailer http.Header
	buf     []byte // of it, out is settled
	out     int
	err     error
}

const maskBuffer = 32 << 10

func (r *masked) Read(p []byte) (int, error) {
	for r.out == 0 && r.err == nil {
		if cap(r.buf)-len(r.buf) < maskBuffer/2 {
			r.buf = append(make([]byte, 0, len(r.buf)+maskBuffer), r.buf...)
		}
		n, err := r.ReadCloser.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		r.err = err
		r.out = r.m.scan(r.buf, err != nil)
		if errors.Is(err, io.EOF) {
			r.m.headers(r.trailer)
		}
	}
	n := copy(p, r.buf[:r.out])
	r.out -= n
	rest := copy(r.buf, r.buf[n:])
	r.buf = r.buf[:rest]
	if r.out == 0 && r.err != nil {
		return n, r.err
	}
	return n, nil
}

func (r *masked) Write(p []byte) (int, error) {
	w, ok := r.ReadCloser.(io.Writer)
	if !ok {
		return 0, errors.New("proxy: the service's side cannot be written to")
	}
	return w.Write(p)
}
