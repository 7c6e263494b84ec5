package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"example.org/agentkeys/api"
)

// dialer reaches services. It checks every address that a name resolves to and dials
// exactly what it checked, so that a name cannot mean one thing to the check and
// another to the connection.
type dialer struct {
	resolve map[string]string // "host:port" to "address:port", by the owner
	lookup  func(context.Context, string) ([]netip.Addr, error)
}

func newDialer(resolve map[string]string) *dialer {
	return &dialer{resolve: resolve, lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}}
}

const dialTimeout = 15 * time.Second

// dial connects to host:port. Loopback is reached only where the owner named it: by a
// Resolve entry, or by a host rule for that very address or for localhost, which is
// what named says.
func (d *dialer) dial(ctx context.Context, hostport string, named bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var n net.Dialer
	if to, ok := d.resolve[strings.ToLower(hostport)]; ok {
		return n.DialContext(ctx, "tcp", to)
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, denied(http.StatusBadRequest, "bad_request", "want host:port", "", false)
	}
	addrs, err := d.addresses(ctx, host)
	if err != nil {
		return nil, denied(http.StatusBadGateway, "upstream_unreachable", "no address is known for "+host, "Check the name, then try again", true)
	}
	allowLoopback := named && (isAddress(host) || strings.EqualFold(host, "localhost"))
	for _, a := range addrs {
		if why := forbidden(a, allowLoopback); why != "" {
			return nil, denied(http.StatusForbidden, "address_refused", fmt.Sprintf("%s is at a %s, which the proxy does not call", host, why),
				"Ask the owner to name it: agentkeys proxy start --resolve "+hostport+"=ADDRESS:PORT. Do not retry", false)
		}
	}
	var failed error
	for _, a := range addrs {
		conn, err := n.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	return nil, unreachable(host, failed)
}

// unreachable tells of a service that does not answer, without what it said.
func unreachable(host string, err error) error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	return denied(http.StatusBadGateway, "upstream_unreachable", host+" does not answer", "Try again later", true)
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func (d *dialer) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := d.lookup(ctx, host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	return addrs, err
}

// metadata are addresses at which clouds hand out their machines' credentials, beside
// those of link-local.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"), netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("192.0.0.192"),
}

// forbidden says why an address is not called, "" if it may be. Private networks may: a
// child reaches them without the proxy as well.
func forbidden(a netip.Addr, loopback bool) string {
	a = inner(a.WithZone(""))
	switch {
	case a.IsLoopback() && !loopback:
		return "loopback address"
	case a.IsLinkLocalUnicast():
		return "link-local address"
	case a.IsMulticast(), a.IsUnspecified(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}), a.Is4() && a.As4()[0] == 0:
		return "special address"
	}
	for _, m := range metadata {
		if a == m {
			return "cloud metadata address"
		}
	}
	return ""
}

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")
)

// inner gives the IPv4 address that an IPv6 one stands for, if it does.
func inner(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.Is6() {
		return a
	}
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixTo4.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case [12]byte(b[:12]) == [12]byte{} && a != netip.IPv6Loopback() && a != netip.IPv6Unspecified(): // v4-compatible
		return netip.AddrFrom4([4]byte(b[12:16]))
	}
	return a
}
