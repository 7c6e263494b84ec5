package proxy

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"

	"example.org/agentkeys/credential"
)

const (
	minPart  = 6 // a password shorter than this is masked only together with its user
	maxEager = 3
	maskRead = 32 << 10
)

// escapes lists how a byte may be spelled besides itself: percent, JSON, HTML. They are
// lower case and compared without case.
type escapes [256][]string

func newEscapes() *escapes {
	var e escapes
	for c := range 256 {
		e[c] = []string{
			fmt.Sprintf("%%%02x", c), fmt.Sprintf(`\u%04x`, c), fmt.Sprintf("&#%d;", c), fmt.Sprintf("&#x%x;", c),
		}
	}
	for c, s := range map[byte][]string{
		'"': {`\"`, "&quot;"}, '\\': {`\\`}, '/': {`\/`}, '&': {"&amp;"}, '<': {"&lt;"}, '>': {"&gt;"},
		'\'': {"&#039;", "&apos;", `\'`}, ' ': {"+"},
	} {
		e[c] = append(e[c], s...)
	}
	return &e
}

// mask finds a secret in what comes back and covers it, length kept. A secret is found
// raw, as base64 (standard and URL alphabet), and with any of its bytes escaped for
// URLs, JSON or HTML, in any mixture. It is not found encrypted, compressed, split over
// frames, or reversed: an upstream that wants to tell it can.
type mask struct {
	escapes *escapes
	forms   [][]byte
	start   [256]bool
	cover   byte
	eager   int // bytes of a possible start that framed protocols get at once
}

// maskOf is what to look for in the answer to a call.
func maskOf(e *escapes, c credential.Credential) *mask {
	secret := c.Secret.Reveal()
	switch c.Kind {
	case credential.Basic:
		if _, password, ok := bytes.Cut(secret, []byte(":")); ok && len(password) >= minPart {
			return newMask(e, secret, password)
		}
	case credential.SigV4:
		// The access key id is no secret, and error answers of AWS show it.
		if _, keys, ok := bytes.Cut(secret, []byte("\n")); ok {
			key, token, _ := bytes.Cut(keys, []byte("\n"))
			return newMask(e, key, token)
		}
	}
	return newMask(e, secret)
}

func newMask(e *escapes, secrets ...[]byte) *mask {
	m := &mask{escapes: e, eager: maxEager}
	for _, s := range secrets {
		if len(s) == 0 {
			continue
		}
		m.eager = min(m.eager, len(s)/8)
		m.add(bytes.Clone(s))
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			b := make([]byte, enc.EncodedLen(len(s)))
			enc.Encode(b, s)
			m.add(b)
		}
	}
	for _, c := range []byte(`%\&`) {
		m.start[c] = true
	}
	m.choose()
	return m
}

func (m *mask) add(form []byte) {
	if slices.ContainsFunc(m.forms, func(f []byte) bool { return bytes.Equal(f, form) }) {
		clear(form)
		return
	}
	m.forms = append(m.forms, form)
	m.start[form[0]] = true
	if form[0] == ' ' {
		m.start['+'] = true
	}
}

// choose takes a byte that no form and no escape holds: a covered place is then never
// part of an occurrence. A zero byte is in no secret that is put on the wire.
func (m *mask) choose() {
	for _, c := range []byte("*-_.~!=:,@^|$()?[]{}zZyYwWkKjJhHvVrRiInN") {
		if !slices.ContainsFunc(m.forms, func(f []byte) bool { return bytes.IndexByte(f, c) >= 0 }) {
			m.cover = c
			return
		}
	}
}

// wipe forgets the forms. The mask finds nothing afterwards.
func (m *mask) wipe() {
	for _, f := range m.forms {
		clear(f)
	}
	m.forms = nil
}

// apply covers every form in b. It returns how many bytes at the start are decided; the
// others may still become a match, and none is left undecided at the end.
func (m *mask) apply(b []byte, end bool) (decided int) {
	for i := 0; i < len(b); {
		if !m.start[b[i]] {
			i++
			continue
		}
		n, more := m.match(b[i:])
		switch {
		case more && !end:
			return i
		case n > 0:
			for j := range n {
				b[i+j] = m.cover
			}
			i += n
		default:
			i++
		}
	}
	return len(b)
}

// match gives the longest form that b starts with. more says that b is too short to know.
func (m *mask) match(b []byte) (n int, more bool) {
	for _, f := range m.forms {
		k, short := m.matchForm(b, f)
		n, more = max(n, k), more || short
	}
	return n, more
}

// matchForm follows every spelling at once: at holds the places in b that may come next.
func (m *mask) matchForm(b, form []byte) (n int, more bool) {
	var first, second [4]int
	at, next := append(first[:0], 0), second[:0]
	for _, c := range form {
		next = next[:0]
		for _, i := range at {
			if i == len(b) {
				more = true
				continue
			}
			if b[i] == c {
				next = insert(next, i+1)
			}
			if b[i] != '%' && b[i] != '\\' && b[i] != '&' && b[i] != '+' {
				continue
			}
			for _, e := range m.escapes[c] {
				k := common(b[i:], e)
				if k == len(e) {
					next = insert(next, i+k)
				} else if i+k == len(b) {
					more = true
				}
			}
		}
		if len(next) == 0 {
			return 0, more
		}
		at, next = next, at
	}
	return slices.Max(at), more
}

func insert(s []int, v int) []int {
	if slices.Contains(s, v) {
		return s
	}
	return append(s, v)
}

// common is how many bytes of b and of the escape e agree, without case.
func common(b []byte, e string) int {
	n := min(len(b), len(e))
	for i := range n {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != e[i] {
			return i
		}
	}
	return n
}

// header covers values. A name that holds the secret goes altogether: names are compared
// without case, as they travel.
func (m *mask) header(h http.Header) {
	for name, values := range h {
		for _, f := range m.forms {
			if containsFold(name, f) {
				delete(h, name)
			}
		}
		for i, v := range values {
			b := []byte(v)
			m.apply(b, true)
			if v != string(b) {
				values[i] = string(b)
			}
		}
	}
}

func containsFold(name string, form []byte) bool {
	for i := 0; i+len(form) <= len(name); i++ {
		if bytes.EqualFold([]byte(name[i:i+len(form)]), form) {
			return true
		}
	}
	return false
}

// maskReader covers a stream. It holds back only bytes that may be the start of a form;
// with eager, up to that many of them go out at once and only the rest of a form is
// covered, so that a frame is never left without its last byte.
type maskReader struct {
	src   io.Reader
	mask  *mask
	eager int
	atEnd func() // when src has come to its end

	buf  []byte
	out  []byte // decided, in buf
	rest []byte // undecided, in buf after out
	sent int    // bytes of rest that are out already
	err  error
}

func (r *maskReader) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// fill reads once and decides what it can.
func (r *maskReader) fill() {
	if need := 2*len(r.rest) + maskRead; len(r.buf) < need {
		r.buf = make([]byte, need)
	}
	held := copy(r.buf, r.rest)
	n, err := r.src.Read(r.buf[held:])
	b := r.buf[:held+n]
	decided := r.mask.apply(b, err != nil)
	ahead := max(min(r.eager, len(b)-decided), r.sent-decided)
	r.out = b[r.sent : decided+ahead]
	r.rest, r.sent = b[decided:], ahead
	if err != nil {
		r.err, r.rest, r.sent = err, nil, 0
		if err == io.EOF && r.atEnd != nil {
			r.atEnd()
		}
	}
}
