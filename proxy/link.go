package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxIdle      = 64 // upstream connections kept, of one child to one host
	maxUpstreams = 256
)

// link is what the engine keeps for one child: its tunnels, and connections upstream that
// no other child uses.
type link struct {
	caller    caller
	transport *http.Transport
	tunnels   chan struct{}
	calls     chan struct{}

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

// link gives the child's, made at its first request. It goes when the child goes.
func (e *engine) link(c caller) (*link, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l, ok := e.links[c]; ok {
		return l, true
	}
	select {
	case <-c.gone():
		return nil, false
	default:
	}
	if e.stopped {
		return nil, false
	}
	l := &link{caller: c, tunnels: make(chan struct{}, maxTunnels), calls: make(chan struct{}, maxCalls), conns: map[net.Conn]bool{}}
	l.transport = e.transport(l)
	e.links[c] = l
	e.wg.Go(func() {
		select {
		case <-c.gone():
		case <-e.halt:
		}
		e.forget(l)
	})
	return l, true
}

func (e *engine) forget(l *link) {
	e.mu.Lock()
	delete(e.links, l.caller)
	e.mu.Unlock()
	l.close()
	// When every place is taken no handler of the child runs, and none will.
	for range cap(l.calls) {
		l.calls <- struct{}{}
	}
}

func (e *engine) transport(l *link) *http.Transport {
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		to, err := parseTarget(addr)
		if err != nil {
			return nil, err
		}
		_, ruled, err := l.caller.pick(to.host, to.port)
		if err != nil {
			return nil, err
		}
		return e.dialer.open(ctx, to, ruled)
	}
	return &http.Transport{
		DialContext: dial, ForceAttemptHTTP2: true, DisableCompression: true,
		TLSClientConfig:     &tls.Config{RootCAs: e.cfg.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: handshake, ResponseHeaderTimeout: answerWait, ExpectContinueTimeout: time.Second,
		MaxIdleConns: 4 * maxIdle, MaxIdleConnsPerHost: maxIdle, MaxConnsPerHost: maxUpstreams,
		IdleConnTimeout: upstreamTTL, MaxResponseHeaderBytes: maxAnswer,
		WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10,
		HTTP2: &http.HTTP2Config{SendPingTimeout: headerWait, PingTimeout: headerWait / 2},
	}
}

func (l *link) enter(slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l *link) leave(slots chan struct{}) { <-slots }

// keep takes a connection that closes with the child.
func (l *link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.conns[c] = true
	}
	return !l.closed
}

func (l *link) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	conns := l.conns
	l.conns = map[net.Conn]bool{}
	l.mu.Unlock()
	for c := range conns {
		reset(c)
	}
	l.transport.CloseIdleConnections()
}
