package credential

import (
	"errors"
	"strings"
)

var errHost = errors.New(`host rule: want a lower-case host name or "*." and a name of two labels or more, and a port`)

// HostRule is one place a secret may go: a host name, or "*." and a name, where the
// star stands for exactly one label; and a port from 1.
type HostRule struct {
	Pattern string
	Port    uint16
}

// Matches compares without regard to ASCII case. A host with a trailing dot or a
// port in it matches nothing.
func (h HostRule) Matches(host string, port uint16) bool {
	if h.check() != nil || port != h.Port {
		return false
	}
	host = strings.ToLower(host)
	parent, wild := strings.CutPrefix(h.Pattern, "*.")
	if !wild {
		return host == h.Pattern
	}
	label, rest, _ := strings.Cut(host, ".")
	return isLabel(label) && rest == parent
}

func (h HostRule) check() error {
	name, wild := strings.CutPrefix(h.Pattern, "*.")
	if h.Port == 0 || len(h.Pattern) > 253 || wild && !strings.Contains(name, ".") {
		return errHost
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(label) {
			return errHost
		}
	}
	return nil
}

// isLabel is the host name label of RFC 1123: 1 to 63 of a-z, 0-9 and inner
// hyphens.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Overlap finds a place that both lists name, and gives the rule of the first.
func Overlap(a, b []HostRule) (HostRule, bool) {
	for _, x := range a {
		for _, y := range b {
			if x.Port == y.Port && (x == y || x.Matches(y.Pattern, y.Port) || y.Matches(x.Pattern, x.Port)) {
				return x, true
			}
		}
	}
	return HostRule{}, false
}
