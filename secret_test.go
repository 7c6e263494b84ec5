package agentkeys_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"example.org/agentkeys"
)

const canary = "canary-7f3a"

// spellings are the ways in which a formatter or encoder could write the canary.
func spellings() []string {
	b := []byte(canary)
	goSyntax := fmt.Sprintf("%#v", b)
	return []string{
		canary, fmt.Sprintf("%x", b), fmt.Sprintf("%X", b), fmt.Sprintf("% x", b),
		strings.Trim(fmt.Sprint(b), "[]"), goSyntax[len("[]byte{") : len(goSyntax)-1],
		fmt.Sprintf("%o", b[:3]), fmt.Sprintf("%b", b[:3]),
		"Y2FuYXJ5", // base64
	}
}

func mustNotLeak(t *testing.T, how, out string) {
	t.Helper()
	for _, s := range spellings() {
		if strings.Contains(out, s) {
			t.Errorf("%s leaks %q", how, s)
		}
	}
}

type exported struct{ Key agentkeys.Secret }
type hidden struct{ key agentkeys.Secret }
type embedded struct{ agentkeys.Secret }
type deep struct {
	P *exported
	M map[string]agentkeys.Secret
	S []agentkeys.Secret
	A any
	h hidden
}

func secretValues() map[string]any {
	s := agentkeys.NewSecret([]byte(canary))
	return map[string]any{
		"value": s, "pointer": &s, "slice": []agentkeys.Secret{s}, "map": map[string]agentkeys.Secret{"k": s},
		"exported field": exported{s}, "pointer to exported": &exported{s},
		"hidden field": hidden{s}, "pointer to hidden": &hidden{s}, "embedded": embedded{s},
		"deep": deep{&exported{s}, map[string]agentkeys.Secret{"k": s}, []agentkeys.Secret{s}, s, hidden{s}},
	}
}

func TestSecretFormatting(t *testing.T) {
	flags := []string{"", "+", "#", "-", " ", "0", "20", ".3", "+#"}
	for name, value := range secretValues() {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspw" {
			for _, flag := range flags {
				format := "%" + flag + string(verb)
				mustNotLeak(t, name+" "+format, fmt.Sprintf(format, value))
			}
		}
		mustNotLeak(t, name+" Sprint", fmt.Sprint(value)+fmt.Sprintln(value))
		mustNotLeak(t, name+" Errorf", fmt.Errorf("store: %v %w", value, errors.New("x")).Error())
	}
	s := agentkeys.NewSecret([]byte(canary))
	for _, verb := range "vsqxXd" {
		if got := fmt.Sprintf("%"+string(verb), s); got != "[redacted]" {
			t.Errorf("%%%c gives %q", verb, got)
		}
	}
	if got := s.String() + s.GoString(); got != "[redacted][redacted]" {
		t.Errorf("String and GoString give %q", got)
	}
}

func TestSecretEncoders(t *testing.T) {
	for name, value := range secretValues() {
		j, err := json.Marshal(value)
		if err != nil {
			t.Errorf("json %s: %v", name, err)
		}
		mustNotLeak(t, "json "+name, string(j))
		// XML has no maps and gob no functions: an error is as good as a redaction.
		x, _ := xml.Marshal(value)
		mustNotLeak(t, "xml "+name, string(x))
		var g bytes.Buffer
		err = gob.NewEncoder(&g).Encode(value)
		mustNotLeak(t, "gob "+name, g.String()+fmt.Sprint(err))
	}
	j, _ := json.Marshal(exported{agentkeys.NewSecret([]byte(canary))})
	x, _ := xml.Marshal(exported{agentkeys.NewSecret([]byte(canary))})
	if string(j) != `{"Key":"[redacted]"}` || string(x) != `<exported><Key>[redacted]</Key></exported>` {
		t.Errorf("encoded as %s and %s", j, x)
	}
}

func TestSecretSlog(t *testing.T) {
	for name, value := range secretValues() {
		var out bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).With("with", value).Info("m", "key", value, slog.Group("g", "key", value))
		}
		mustNotLeak(t, "slog "+name, out.String())
		if name == "value" && strings.Count(out.String(), "[redacted]") != 6 {
			t.Errorf("slog wrote %s", out.String())
		}
	}
}

func TestSecretPanic(t *testing.T) {
	defer func() { mustNotLeak(t, "panic", fmt.Sprint(recover())) }()
	panic(hidden{agentkeys.NewSecret([]byte(canary))})
}

// The check itself must be able to find a leak.
func TestLeakCheckFinds(t *testing.T) {
	b := []byte(canary)
	for _, out := range []string{canary, fmt.Sprint(b), fmt.Sprintf("%x %X", b, b), fmt.Sprintf("%#v", b), fmt.Sprintf("%+v", struct{ k []byte }{b})} {
		found := false
		for _, s := range spellings() {
			found = found || strings.Contains(out, s)
		}
		if !found {
			t.Errorf("misses %q", out)
		}
	}
}

func TestSecretRevealAndWipe(t *testing.T) {
	b := []byte(canary)
	s := agentkeys.NewSecret(b)
	other := s
	if string(s.Reveal()) != canary || s.Len() != len(canary) {
		t.Error("Reveal does not give the bytes")
	}
	s.Wipe()
	if !bytes.Equal(b, make([]byte, len(b))) || !bytes.Equal(other.Reveal(), b) {
		t.Error("Wipe leaves bytes behind")
	}
	var none agentkeys.Secret
	none.Wipe()
	if none.Reveal() != nil || none.Len() != 0 || fmt.Sprint(none) != "[redacted]" {
		t.Error("the zero Secret is not empty")
	}
}
