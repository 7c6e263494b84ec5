package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"example.org/agentkeys/api"
)

func TestMayDial(t *testing.T) {
	const never, rule, local, always = 0, 1, 2, 3
	for addr, want := range map[string]int{
		"93.184.216.34": always, "2606:2800:220:1::1": always, "::ffff:93.184.216.34": always, "64:ff9b::5db8:d822": always,
		"127.0.0.1": local, "127.8.8.8": local, "::1": local, "::ffff:127.0.0.1": local, "64:ff9b::7f00:1": local,
		"10.1.2.3": rule, "172.16.0.1": rule, "192.168.1.1": rule, "fd12:3456::1": rule, "100.64.0.1": rule, "198.18.0.1": rule,
		"::ffff:10.0.0.1": rule, "64:ff9b::a00:1": rule,
		"169.254.169.254": never, "169.254.1.1": never, "fd00:ec2::254": never, "100.100.100.200": never, "168.63.129.16": never,
		"::ffff:169.254.169.254": never, "64:ff9b::a9fe:a9fe": never, "::ffff:100.100.100.200": never, "192.0.0.192": never,
		"fe80::1": never, "fe80::1%lo": never, "0.0.0.0": never, "0.1.2.3": never, "::": never, "::127.0.0.1": never, "224.0.0.1": never, "ff02::1": never,
		"255.255.255.255": never, "240.0.0.1": never, "2002:7f00:1::": never, "2001::1": never, "64:ff9b:1::7f00:1": never, "fec0::1": never, "fd20:ce::254": never,
	} {
		a := netip.MustParseAddr(addr)
		free, ruled, here := mayDial(a, false, false), mayDial(a, true, false), mayDial(a, true, true)
		if free != (want == always) || ruled != (want == always || want == rule) || here != (want != never) {
			t.Errorf("%s: free %v, by rule %v, local %v", addr, free, ruled, here)
		}
	}
}

// fakeNet is a resolver and the dials made.
type fakeNet struct {
	answers [][]netip.Addr
	dialled []string
}

func (f *fakeNet) dialer() *dialer {
	return &dialer{named: map[string]netip.AddrPort{"named.test:443": netip.MustParseAddrPort("127.0.0.1:9")},
		lookup: func(context.Context, string) ([]netip.Addr, error) {
			if len(f.answers) == 0 {
				return nil, errors.New("looked up again")
			}
			a := f.answers[0]
			f.answers = f.answers[1:]
			return a, nil
		},
		dial: func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
			f.dialled = append(f.dialled, to.String())
			if to.Addr() == netip.MustParseAddr("93.184.216.1") {
				return nil, errors.New("down")
			}
			c, _ := net.Pipe()
			return c, nil
		}}
}

func addrs(list ...string) (a []netip.Addr) {
	for _, s := range list {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

// A name that means something else at the second look gains nothing: there is none.
func TestDialsWhatItChecked(t *testing.T) {
	f := &fakeNet{answers: [][]netip.Addr{addrs("93.184.216.1", "93.184.216.34"), addrs("127.0.0.1")}}
	c, err := f.dialer().open(t.Context(), target{"evil.test", 443}, false)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if len(f.dialled) != 2 || f.dialled[1] != "93.184.216.34:443" || len(f.answers) != 1 {
		t.Errorf("dialled %v, %d answers left", f.dialled, len(f.answers))
	}
}

func TestDialRefuses(t *testing.T) {
	for _, test := range []struct {
		to     target
		ruled  bool
		answer []netip.Addr
		ok     bool
	}{
		{target{"evil.test", 443}, true, addrs("127.0.0.1"), false},
		{target{"evil.test", 443}, true, addrs("93.184.216.34", "127.0.0.1"), false},
		{target{"evil.test", 443}, false, addrs("10.0.0.1"), false},
		{target{"gitlab.corp", 443}, true, addrs("10.0.0.1"), true},
		{target{"localhost", 80}, false, addrs("127.0.0.1"), false},
		{target{"localhost", 80}, true, addrs("127.0.0.1"), true},
		{target{"127.0.0.1", 80}, true, nil, true},
		{target{"127.0.0.1", 80}, false, nil, false},
		{target{"::ffff:169.254.169.254", 80}, true, nil, false},
		{target{"named.test", 443}, false, nil, true},
		{target{"named.test", 444}, false, addrs("127.0.0.1"), false},
	} {
		f := &fakeNet{answers: [][]netip.Addr{test.answer}}
		c, err := f.dialer().open(t.Context(), test.to, test.ruled)
		if test.ok {
			if err != nil {
				t.Errorf("%v: %v", test.to, err)
				continue
			}
			c.Close()
			continue
		}
		if api.CodeOf(err) != "address_refused" || len(f.dialled) != 0 {
			t.Errorf("%v: %v, dialled %v", test.to, err, f.dialled)
		}
	}
}

func TestResolveIsChecked(t *testing.T) {
	for from, to := range map[string]string{"a.test": "127.0.0.1:1", "a.test:443": "localhost:1", "a.test:1": "169.254.169.254:80", "a.test:0": "127.0.0.1:1"} {
		if _, err := newDialer(map[string]string{from: to}); err == nil {
			t.Errorf("%s=%s", from, to)
		}
	}
}
