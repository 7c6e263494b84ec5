package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys"
)

const (
	firstByte = time.Minute // clients may open a tunnel ahead of its use
	handshake = 10 * time.Second
)

// connect answers CONNECT: it ends TLS for hosts that a rule names, and leaves the others
// alone.
func (e *engine) connect(w http.ResponseWriter, r *http.Request, l *link) {
	to, err := parseTarget(r.Host)
	if err != nil {
		e.refused(w, l, "", err)
		return
	}
	name, ruled, err := e.route(l, to)
	if err != nil {
		e.refused(w, l, to.host, err)
		return
	}
	if !l.enter(l.tunnels) {
		e.refused(w, l, to.host, errBusy())
		return
	}
	if !ruled {
		defer l.leave(l.tunnels)
		e.blind(w, r, l, to)
		return
	}
	t, err := accept(w)
	if err != nil {
		l.leave(l.tunnels)
		return
	}
	t.link, t.to, t.name = l, to, name
	t.free = sync.OnceFunc(func() {
		l.drop(t)
		l.leave(l.tunnels)
	})
	if !l.keep(t) {
		reset(t)
		return
	}
	if err := e.terminate(t); err != nil {
		_ = t.Close()
		e.log.LogAttrs(context.Background(), slog.LevelInfo, "tunnel", slog.String("agent", l.caller.agent()), slog.String("host", to.host),
			slog.String("verdict", "no TLS: the program does not trust the proxy's certificate, or went away"))
	}
}

// accept says yes to CONNECT and takes the connection over.
func accept(w http.ResponseWriter) (*tunnel, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(firstByte))
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &tunnel{Conn: conn, early: buf.Reader, free: func() {}}, nil
}

// terminate finds out whether TLS or plain HTTP comes and hands the tunnel to the inner
// server.
func (e *engine) terminate(t *tunnel) error {
	head, err := t.early.Peek(1)
	if err != nil {
		return err
	}
	const record = 22 // a TLS handshake
	if head[0] != record {
		_ = t.SetDeadline(time.Time{})
		return e.inner.give(t)
	}
	conn := tls.Server(t, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != "" && strings.ToLower(hello.ServerName) != t.to.host {
				return nil, errMisdirected(t.to.host)
			}
			return e.cfg.CA.leaf(t.to.host)
		},
	})
	ctx, cancel := context.WithTimeout(context.Background(), handshake)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	_ = t.SetDeadline(time.Time{})
	t.secure = true
	return e.inner.give(conn)
}

// inside serves what comes through a tunnel: only for the host that the tunnel goes to.
func (e *engine) inside(w http.ResponseWriter, r *http.Request) {
	t, ok := r.Context().Value(connKey{}).(*tunnel)
	if !ok {
		sendRefusal(w, errRequest("no tunnel"))
		return
	}
	if r.Method == http.MethodConnect || !t.leadsTo(r.Host) || r.URL.Host != "" && !t.leadsTo(r.URL.Host) {
		e.refused(w, t.link, t.to.host, errMisdirected(t.to.host))
		return
	}
	e.forward(w, r, t.link, t.to, t.name, true, t.secure, t)
}

// leadsTo compares with a Host header, in which the scheme's own port may be missing.
func (t *tunnel) leadsTo(host string) bool {
	host, to := strings.ToLower(host), t.to.String()
	own := ":80"
	if t.secure {
		own = ":443"
	}
	bare, found := strings.CutSuffix(to, own)
	return host == to || found && host == bare
}

// blind carries bytes both ways and looks at none.
func (e *engine) blind(w http.ResponseWriter, r *http.Request, l *link, to target) {
	up, err := e.dialer.open(r.Context(), to, false)
	if err != nil {
		e.refused(w, l, to.host, errUpstream(to.host, err))
		return
	}
	t, err := accept(w)
	if err != nil {
		_ = up.Close()
		return
	}
	_ = t.SetDeadline(time.Time{})
	if !l.keep(t) || !l.keep(up) {
		reset(t)
		reset(up)
		return
	}
	e.log.LogAttrs(context.Background(), slog.LevelDebug, "tunnel", slog.String("agent", l.caller.agent()),
		slog.String("host", to.host), slog.String("verdict", "passed"))
	var wg sync.WaitGroup
	wg.Go(func() { pipe(up.Conn, t) })
	pipe(t, up.Conn)
	wg.Wait()
	l.drop(t)
	l.drop(up)
	_ = t.Close()
	_ = up.Close()
}

// pipe copies one direction and passes its end on. When it breaks, both ends go.
func pipe(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if err != nil || closeWrite(to) != nil {
		_ = to.Close()
		_ = from.Close()
	}
}

// tunnel is a client's connection after CONNECT.
type tunnel struct {
	net.Conn
	early  *bufio.Reader // what came with the request
	link   *link
	to     target
	name   agentkeys.Service
	secure bool
	free   func()
}

func (t *tunnel) Read(p []byte) (int, error) {
	if t.early.Buffered() > 0 {
		return t.early.Read(p)
	}
	return t.Conn.Read(p)
}

func (t *tunnel) Close() error {
	defer t.free()
	return t.Conn.Close()
}

// SetLinger and CloseWrite are those of TCP.
func (t *tunnel) SetLinger(seconds int) error { return setLinger(t.Conn, seconds) }

// CloseWrite ends one direction.
func (t *tunnel) CloseWrite() error { return closeWrite(t.Conn) }

// handoff is the listener of the inner server: tunnels are its connections.
type handoff struct {
	ch   chan net.Conn
	done chan struct{}
	stop func()
}

func newHandoff() *handoff {
	h := &handoff{ch: make(chan net.Conn), done: make(chan struct{})}
	h.stop = sync.OnceFunc(func() { close(h.done) })
	return h
}

func (h *handoff) give(c net.Conn) error {
	select {
	case h.ch <- c:
		return nil
	case <-h.done:
		return net.ErrClosed
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.ch:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error {
	h.stop()
	return nil
}

func (h *handoff) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
