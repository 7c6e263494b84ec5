package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dialTimeout = 10 * time.Second
	maxAddrs    = 8 // of one name
	maxFlush    = 64 * time.Millisecond
)

// dialer opens connections to the outside. A name is resolved once, every address it has
// is checked, and exactly a checked address is dialled, so a name that changes its mind
// gains nothing.
type dialer struct {
	named  map[string]netip.AddrPort // "host:port", by the owner
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	dial   func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

func newDialer(resolve map[string]string) (*dialer, error) {
	d := &dialer{
		named: map[string]netip.AddrPort{},
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, "tcp", to.String())
		},
	}
	for from, to := range resolve {
		t, err := parseTarget(from)
		if err != nil {
			return nil, errors.New("proxy: resolve wants host:port=address:port, not " + from)
		}
		addr, err := netip.ParseAddrPort(to)
		if err != nil || isMetadata(addr.Addr().Unmap()) {
			return nil, errors.New("proxy: resolve wants host:port=address:port, not to " + to)
		}
		d.named[t.String()] = addr
	}
	return d, nil
}

// open dials a host. ruled says that a host rule of the owner names it.
func (d *dialer) open(ctx context.Context, t target, ruled bool) (*upstream, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := d.addresses(ctx, t, ruled)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		conn, dialErr := d.dial(ctx, a)
		if dialErr == nil {
			return &upstream{Conn: conn}, nil
		}
		err = dialErr
	}
	return nil, err
}

func (d *dialer) addresses(ctx context.Context, t target, ruled bool) ([]netip.AddrPort, error) {
	if to, ok := d.named[t.String()]; ok {
		return []netip.AddrPort{to}, nil
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(t.host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = d.lookup(ctx, t.host); err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no address", Name: t.host, IsNotFound: true}
	}
	out := make([]netip.AddrPort, 0, len(addrs))
	for _, a := range addrs {
		// One bad address spoils the name: a mixture is how rebinding starts.
		if !mayDial(a, ruled, ruled && t.isLocal()) {
			return nil, denied(http.StatusForbidden, "address_refused", t.host+" leads to an address inside this machine or its network",
				"Ask the owner for a host rule, or to name it: agentkeys proxy start --resolve "+t.String()+"=ADDRESS:PORT. Do not retry", false)
		}
		out = append(out, netip.AddrPortFrom(a.Unmap(), t.port))
	}
	return out[:min(len(out), maxAddrs)], nil
}

// onThisMachine tells hosts of the owner whose bytes never reach a network.
func (d *dialer) onThisMachine(t target) bool {
	if to, ok := d.named[t.String()]; ok {
		return to.Addr().Unmap().IsLoopback()
	}
	return t.isLocal()
}

// mayDial is the guard. ruled: a host rule names the host; local: it names this machine
// in so many words. Metadata services, link-local and everything that is no unicast
// address are refused always.
//
// A private address is reached through a rule only. Without a rule the agent chooses the
// name, and a name of its own may lead anywhere in the owner's network; with a rule the
// owner has chosen it, and self-hosted services are what private addresses are for.
func mayDial(a netip.Addr, ruled, local bool) bool {
	a, ok := plain(a)
	switch {
	case !ok, isMetadata(a), !a.IsGlobalUnicast() && !a.IsLoopback(), within(a, reserved()):
		return false
	case a.IsLoopback():
		return local
	case a.IsPrivate(), within(a, shared()):
		return ruled
	}
	return a.Is4() || netip.MustParsePrefix("2000::/3").Contains(a)
}

// plain takes the IPv4 address out of the forms that carry one: v4-mapped and NAT64
// (RFC 6052). It is that address which decides.
func plain(a netip.Addr) (netip.Addr, bool) {
	if !a.IsValid() || a.Zone() != "" {
		return a, false
	}
	a = a.Unmap()
	if netip.MustParsePrefix("64:ff9b::/96").Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:])), true
	}
	return a, true
}

// isMetadata knows where clouds hand out a machine's own credentials.
func isMetadata(a netip.Addr) bool {
	switch a.String() {
	case "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254":
		return true
	}
	return false
}

// reserved lists what global unicast does not mean: this network, protocol assignments,
// 6to4 relays and class E; Teredo, documentation and 6to4.
func reserved() []string {
	return []string{"0.0.0.0/8", "192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4", "2001::/32", "2001:db8::/32", "2002::/16"}
}

// shared lists what is as private as RFC 1918: carrier NAT and benchmarking networks.
func shared() []string { return []string{"100.64.0.0/10", "198.18.0.0/15"} }

func within(a netip.Addr, prefixes []string) bool {
	for _, p := range prefixes {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return false
}

// target is where a call wants to go.
type target struct {
	host string // lower case, no brackets
	port uint16
}

func parseTarget(hostport string) (target, error) {
	host, p, err := net.SplitHostPort(hostport)
	if err != nil {
		return target{}, errRequest("want host:port")
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil || port == 0 || !isHost(host) {
		return target{}, errRequest("want host:port")
	}
	return target{strings.ToLower(host), uint16(port)}, nil
}

func (t target) String() string { return net.JoinHostPort(t.host, strconv.Itoa(int(t.port))) }

func (t target) isLocal() bool {
	a, err := netip.ParseAddr(t.host)
	return t.host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

func isHost(s string) bool {
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '-' && c != '.' && c != '_' && c != ':' {
			return false
		}
	}
	return s != "" && len(s) <= 253
}

// upstream is a connection that can be ended so that nothing follows.
type upstream struct {
	net.Conn
	writing sync.Mutex
}

func (u *upstream) Write(b []byte) (int, error) {
	u.writing.Lock()
	defer u.writing.Unlock()
	return u.Conn.Write(b)
}

// abort resets the connection: what the kernel has not sent is thrown away, and when
// abort returns no write is under way.
func (u *upstream) abort() {
	reset(u.Conn)
	u.writing.Lock() // waits for a write that closing woke
	defer u.writing.Unlock()
}

// flushed tells whether the other side has all that was written, for which it waits a
// little: acknowledgements may be delayed.
func (u *upstream) flushed() bool {
	tcp, ok := u.Conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	left := 1
	for wait := time.Millisecond; wait <= maxFlush; wait *= 2 {
		if raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }) != nil || err != nil {
			return false
		}
		if left == 0 {
			return true
		}
		time.Sleep(wait)
	}
	return false
}

// reset closes a connection with RST, so a cut never looks like an end.
func reset(c net.Conn) {
	_ = setLinger(c, 0)
	_ = c.Close()
}

func setLinger(c net.Conn, seconds int) error {
	if l, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		return l.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}

func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}
