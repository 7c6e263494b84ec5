package credential

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
)

// hexBytes are written as hex in the vectors.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vectors struct {
	Credentials []struct {
		Secret hexBytes
		Kind   Kind
		Header string
		Hosts  []HostRule
		Bytes  hexBytes
	}
}

func load(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/credential.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Credentials) != 4 {
		t.Fatalf("vectors: %d credentials", len(v.Credentials))
	}
	return v
}

func TestVectors(t *testing.T) {
	for i, want := range load(t).Credentials {
		c := Credential{agentkeys.NewSecret(bytes.Clone(want.Secret)), want.Kind, want.Header, want.Hosts}
		got, err := c.Append(nil)
		if err != nil || !bytes.Equal(got, want.Bytes) {
			t.Errorf("%d: %x %v", i, got, err)
		}
		parsed, err := Parse(want.Bytes)
		if err != nil || !bytes.Equal(parsed.Secret.Reveal(), want.Secret) || parsed.Kind != want.Kind || parsed.Header != want.Header {
			t.Errorf("%d: parsed %+v %v", i, parsed, err)
		}
		if len(parsed.Hosts)+len(want.Hosts) > 0 && !reflect.DeepEqual(parsed.Hosts, want.Hosts) {
			t.Errorf("%d: hosts %+v", i, parsed.Hosts)
		}
		for n := range want.Bytes {
			if _, err := Parse(want.Bytes[:n]); err == nil {
				t.Fatalf("%d: cut to %d bytes", i, n)
			}
		}
		if _, err := Parse(append(bytes.Clone(want.Bytes), 0)); err == nil {
			t.Errorf("%d: trailing byte", i)
		}
	}
}

func TestParseCopiesTheSecret(t *testing.T) {
	b := bytes.Clone(load(t).Credentials[1].Bytes)
	c, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if string(c.Secret.Reveal()) != "ghp_0123456789" {
		t.Error("clearing the input changed the secret")
	}
}

func good() Credential {
	return Credential{agentkeys.NewSecret([]byte("s")), Token, "X-Key: {secret}", []HostRule{{"api.example.test", 443}}}
}

func TestRefused(t *testing.T) {
	rules := func(n int) []HostRule {
		r := make([]HostRule, n)
		for i := range r {
			r[i] = HostRule{"a.example.test", 443}
		}
		return r
	}
	for name, f := range map[string]func(*Credential){
		"no secret":          func(c *Credential) { c.Secret = agentkeys.Secret{} },
		"secret over 64 KiB": func(c *Credential) { c.Secret = agentkeys.NewSecret(make([]byte, MaxSecret+1)) },
		"kind 0":             func(c *Credential) { c.Kind = 0 },
		"unknown kind":       func(c *Credential) { c.Kind = Other + 1 },
		"line break":         func(c *Credential) { c.Header = "A: b\r\nC: d" },
		"not ASCII":          func(c *Credential) { c.Header = "A: é" },
		"DEL":                func(c *Credential) { c.Header = "A: \x7f" },
		"header over 64 KiB": func(c *Credential) { c.Header = strings.Repeat("x", 1<<16+1) },
		"metadata over 4 KiB": func(c *Credential) {
			c.Header = strings.Repeat("x", MaxMetadata-4)
		},
		"256 rules": func(c *Credential) { c.Hosts = rules(256) },
	} {
		c := good()
		f(&c)
		if b, err := c.Append(nil); err == nil || b != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, pattern := range []string{
		"", ".", "a.", ".a", "a..b", "UPPER.test", "*", "*.", "*.test", "*.*.test", "a.*.test", "*a.test", "a_b.test",
		"-a.test", "a-.test", "a b.test", "a.test:443", "[::1]", "a.test/", strings.Repeat("a", 64) + ".test",
		strings.Repeat("abcdefg.", 32) + "ab",
	} {
		c := good()
		c.Hosts[0].Pattern = pattern
		if _, err := c.Append(nil); err == nil {
			t.Errorf("host rule %q accepted", pattern)
		}
	}
	c := good()
	c.Hosts[0].Port = 0
	if _, err := c.Append(nil); err == nil {
		t.Error("port 0 accepted")
	}
}

func TestLimits(t *testing.T) {
	c := good()
	c.Secret = agentkeys.NewSecret(bytes.Repeat([]byte{7}, MaxSecret))
	c.Hosts = nil
	c.Header = strings.Repeat("x", MaxMetadata-4)
	b, err := c.Append(nil)
	if err != nil || len(b) != MaxSize {
		t.Fatalf("largest credential: %d bytes, %v", len(b), err)
	}
	if _, err := Parse(b); err != nil {
		t.Errorf("largest credential: %v", err)
	}
	if MaxSize != envelope.MaxCredential {
		t.Errorf("an envelope holds %d bytes, a credential has up to %d", envelope.MaxCredential, MaxSize)
	}
}

func TestAllows(t *testing.T) {
	c := good()
	c.Hosts = []HostRule{{"api.example.test", 443}, {"*.shop.test", 8443}}
	for _, test := range []struct {
		host string
		port uint16
		want bool
	}{
		{"api.example.test", 443, true},
		{"API.Example.Test", 443, true},
		{"api.example.test", 80, false},
		{"api.example.test.", 443, false},
		{"evil.test", 443, false},
		{"api.example.test.evil.test", 443, false},
		{"xapi.example.test", 443, false},
		{"a.shop.test", 8443, true},
		{"a.b.shop.test", 8443, false},
		{"shop.test", 8443, false},
		{".shop.test", 8443, false},
		{"*.shop.test", 8443, false},
		{"a@b.shop.test", 8443, false},
		{"a.shop.test", 443, false},
		{"", 443, false},
	} {
		if got := c.Allows(test.host, test.port); got != test.want {
			t.Errorf("%s:%d: %v", test.host, test.port, got)
		}
	}
	if (Credential{}).Allows("api.example.test", 443) {
		t.Error("a credential without rules goes somewhere")
	}
	// A rule that was never checked must not match by accident.
	if (HostRule{"*.test", 443}).Matches("a.test", 443) {
		t.Error("a star over a top level matches")
	}
}

func TestDoesNotPrint(t *testing.T) {
	c := good()
	c.Secret = agentkeys.NewSecret([]byte("KKKK"))
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{fmt.Sprintf("%v %+v %#v %x", c, c, c, c), string(j)} {
		if strings.Contains(out, "KK") || strings.Contains(out, "4b4b") {
			t.Error("prints the secret")
		}
	}
}

// Whatever Parse takes, Append gives back: one credential has one spelling.
func FuzzParse(f *testing.F) {
	for _, c := range load(f).Credentials {
		f.Add([]byte(c.Bytes))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 1, 'x', 6, 0, 0, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		again, err := c.Append(nil)
		if err != nil || !bytes.Equal(again, b) || len(b) > MaxSize {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}

func TestOverlap(t *testing.T) {
	rule := func(s string, port uint16) []HostRule { return []HostRule{{"other.test", 1}, {s, port}} }
	for _, c := range []struct {
		a, b []HostRule
		want bool
	}{
		{rule("a.example.test", 443), rule("a.example.test", 443)[1:], true},
		{rule("a.example.test", 443), rule("a.example.test", 80)[1:], false},
		{rule("*.example.test", 443), rule("a.example.test", 443)[1:], true},
		{rule("a.example.test", 443), rule("*.example.test", 443)[1:], true},
		{rule("*.example.test", 443), rule("*.example.test", 443)[1:], true},
		{rule("*.example.test", 443), rule("a.b.example.test", 443)[1:], false},
		{rule("*.example.test", 443), rule("example.test", 443)[1:], false},
		{rule("*.example.test", 443), rule("*.b.example.test", 443)[1:], false},
		{nil, rule("a.example.test", 443), false},
	} {
		if _, got := Overlap(c.a, c.b); got != c.want {
			t.Errorf("%v and %v: %v", c.a, c.b, got)
		}
	}
}
