package adversary

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// texts decodes runs of hex and base64 that are long enough for a key.
func texts(s source) (out []source) {
	run := func(alphabet func(byte) bool, least int, decode func([]byte)) {
		for at := 0; at < len(s.bytes); {
			if !alphabet(s.bytes[at]) {
				at++
				continue
			}
			end := at
			for end < len(s.bytes) && alphabet(s.bytes[end]) {
				end++
			}
			if end-at >= least {
				decode(s.bytes[at:end])
			}
			at = end
		}
	}
	add := func(kind string, b []byte) {
		d := s.depth
		if len(b) <= small && d == aligned {
			d = everything
		}
		out = append(out, source{fmt.Sprintf("%s (%s)", s.name, kind), b, d})
	}
	run(isHex, 64, func(text []byte) {
		for odd := range min(2, len(text)-63) {
			part := text[odd : len(text)-(len(text)-odd)%2]
			if b, err := hex.DecodeString(string(part)); err == nil {
				add("hex", b)
			}
		}
	})
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		extra := "+/"
		if enc == base64.RawURLEncoding {
			extra = "-_"
		}
		run(func(c byte) bool { return isAlnum(c) || c == extra[0] || c == extra[1] }, 43, func(text []byte) {
			b, err := enc.DecodeString(string(text))
			if err != nil { // what follows belongs to something else
				b, err = enc.DecodeString(string(text[:len(text)/4*4]))
			}
			if err == nil {
				add("base64", b)
			}
		})
	}
	return out
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
