package agentkeys_test

import (
	"strings"
	"testing"

	"example.org/agentkeys"
)

func TestParseWallet(t *testing.T) {
	const text = "0x00112233445566778899aabbccddeeff00112233"
	w, err := agentkeys.ParseWallet(text)
	if err != nil || w.String() != text || w[1] != 0x11 || w.IsZero() {
		t.Errorf("%s %v", w, err)
	}
	if !(agentkeys.Wallet{}).IsZero() {
		t.Error("the zero wallet is not zero")
	}
	for _, bad := range []string{
		"", "0x", text[2:], strings.ToUpper(text), "0X" + text[2:], text + "0", text[:41], " " + text, text + "\n",
		"0x" + strings.Repeat("A", 40), "0x" + strings.Repeat("g", 40), "0x" + strings.Repeat("é", 20), "0x0x" + text[4:],
	} {
		if w, err := agentkeys.ParseWallet(bad); err == nil || !w.IsZero() {
			t.Errorf("%q: %s %v", bad, w, err)
		}
	}
}

// hexIDs are the identifiers written as bare hex: size in bytes, and a parser that
// gives the text back.
func hexIDs() map[string]struct {
	size  int
	parse func(string) (string, error)
} {
	type row = struct {
		size  int
		parse func(string) (string, error)
	}
	return map[string]row{
		"vault id":    {32, func(s string) (string, error) { v, err := agentkeys.ParseVaultID(s); return v.String(), err }},
		"service id":  {32, func(s string) (string, error) { v, err := agentkeys.ParseServiceID(s); return v.String(), err }},
		"blob id":     {16, func(s string) (string, error) { v, err := agentkeys.ParseBlobID(s); return v.String(), err }},
		"hash":        {32, func(s string) (string, error) { v, err := agentkeys.ParseHash(s); return v.String(), err }},
		"process key": {32, func(s string) (string, error) { v, err := agentkeys.ParseProcessKey(s); return v.String(), err }},
	}
}

func TestHexIDs(t *testing.T) {
	for name, id := range hexIDs() {
		text := strings.Repeat("0f", id.size-1) + "a9"
		if got, err := id.parse(text); err != nil || got != text {
			t.Errorf("%s: %s %v", name, got, err)
		}
		for _, bad := range []string{
			"", text[1:], text + "0", text + "00", strings.ToUpper(text), "0x" + text[2:], strings.Repeat("g", 2*id.size),
			text[:len(text)-1] + " ", strings.Repeat("é", id.size),
		} {
			if _, err := id.parse(bad); err == nil {
				t.Errorf("%s: %q accepted", name, bad)
			}
		}
	}
}

func TestParseEpoch(t *testing.T) {
	for text, want := range map[string]agentkeys.Epoch{"0000000001": 1, "0000000123": 123, "4294967295": 1<<32 - 1} {
		if got, err := agentkeys.ParseEpoch(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %d %v", text, got, err)
		}
	}
	for _, bad := range []string{
		"", "1", "0000000000", "4294967296", "9999999999", "00000000001", "000000001", "+000000001", "-000000001",
		"000000000a", "          ", "0x00000001", "٠٠٠٠٠", "1_00000000",
	} {
		if got, err := agentkeys.ParseEpoch(bad); err == nil {
			t.Errorf("%q: %d", bad, got)
		}
	}
}

func TestStringsOfKeys(t *testing.T) {
	if got := (agentkeys.DEKID{0xab}).String(); got != "ab"+strings.Repeat("00", 31) {
		t.Error(got)
	}
	if got := (agentkeys.JobID{0xab}).String(); got != "ab"+strings.Repeat("00", 15) {
		t.Error(got)
	}
}

func FuzzParseIDs(f *testing.F) {
	f.Add("0x00112233445566778899aabbccddeeff00112233")
	f.Add(strings.Repeat("0f", 32))
	f.Add("0000000001")
	f.Fuzz(func(t *testing.T, s string) {
		if w, err := agentkeys.ParseWallet(s); err == nil && w.String() != s {
			t.Errorf("wallet %q", s)
		}
		if e, err := agentkeys.ParseEpoch(s); err == nil && (e.String() != s || e == 0) {
			t.Errorf("epoch %q", s)
		}
		for name, id := range hexIDs() {
			if got, err := id.parse(s); err == nil && got != s {
				t.Errorf("%s %q", name, s)
			}
		}
	})
}
