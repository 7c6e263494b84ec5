package pkcs11anchor

import (
	"strings"
	"testing"
)

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	pin := func() (string, error) { return "1234", nil }
	for name, cfg := range map[string]Config{
		"library":   {Token: "t", PIN: pin, Dir: "d"},
		"token":     {Library: "l", PIN: pin, Dir: "d"},
		"pin":       {Library: "l", Token: "t", Dir: "d"},
		"directory": {Library: "l", Token: "t", PIN: pin},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("without %s: %v", name, err)
		}
	}
	a := &Anchor{}
	for _, word := range []string{"copied token directory", "backup", "PIN"} {
		if a.Kind() != "pkcs11" || !strings.Contains(a.Limit(), word) {
			t.Errorf("kind %q; limit does not speak of %q: %s", a.Kind(), word, a.Limit())
		}
	}
}
