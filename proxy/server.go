package proxy

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys"
)

// Bounds of the traffic side.
const (
	maxConns    = 2048 // connections, of all children
	maxTunnels  = 256  // of one child
	maxCalls    = 512  // of one child, running at once
	maxHeader   = 64 << 10
	maxAnswer   = 256 << 10 // header of an upstream
	headerWait  = 30 * time.Second
	idleWait    = 3 * time.Minute
	answerWait  = 15 * time.Minute // for the head of an answer: slow models think long
	stopWait    = 3 * time.Second
	upstreamTTL = 30 * time.Second // of an idle connection: shorter than servers keep theirs
)

// engine carries the traffic of children.
type engine struct {
	cfg     Config
	callers callers
	dialer  *dialer
	escapes *escapes
	buffers *buffers
	silent  *log.Logger // of net/http, whose messages may hold header values
	log     *slog.Logger
	inner   *handoff
	slots   chan struct{}
	hashing chan struct{}

	mu      sync.Mutex
	links   map[caller]*link
	stopped bool
	halt    chan struct{} // closed at the end
	wg      sync.WaitGroup
}

func newEngine(cfg Config, c callers) (*engine, error) {
	d, err := newDialer(cfg.Resolve)
	if err != nil {
		return nil, err
	}
	if cfg.CA == nil {
		return nil, errors.New("proxy: no CA")
	}
	l := cfg.Log
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return &engine{
		cfg: cfg, callers: c, dialer: d, escapes: newEscapes(), buffers: &buffers{}, silent: log.New(io.Discard, "", 0),
		log: l, inner: newHandoff(), slots: make(chan struct{}, maxConns), hashing: make(chan struct{}, maxHashing), links: map[caller]*link{}, halt: make(chan struct{}),
	}, nil
}

// buffers lends the space in which bodies are copied.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[maskRead]byte); ok {
		return p[:]
	}
	return make([]byte, maskRead)
}

func (b *buffers) Put(p []byte) { b.pool.Put((*[maskRead]byte)(p)) }

// run serves the listener until ctx ends, then gives calls a moment and cuts the rest.
func (e *engine) run(ctx context.Context, traffic net.Listener) error {
	outer := e.server(e.outside)
	outer.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	inside := e.server(e.inside)
	inside.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		return context.WithValue(ctx, connKey{}, c)
	}
	failed := make(chan error, 2)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- outer.Serve(&limited{traffic, e.slots}) })
	serving.Go(func() { failed <- inside.Serve(e.inner) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	_ = outer.Shutdown(stop)
	_ = inside.Shutdown(stop)
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	close(e.halt)
	_ = outer.Close()
	_ = inside.Close()
	serving.Wait()
	e.wg.Wait()
	return err
}

func (e *engine) server(h http.HandlerFunc) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerWait, IdleTimeout: idleWait, MaxHeaderBytes: maxHeader, ErrorLog: e.silent,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 250, SendPingTimeout: time.Minute, PingTimeout: headerWait},
	}
}

type connKey struct{}

// outside serves the proxy's own port: CONNECT, and requests in absolute form.
func (e *engine) outside(w http.ResponseWriter, r *http.Request) {
	l, ok := e.authenticate(r)
	if !ok {
		e.refused(w, nil, "", errAuth())
		return
	}
	if r.Method == http.MethodConnect {
		e.connect(w, r, l)
		return
	}
	if r.URL.Scheme != "http" || r.URL.Host == "" {
		e.refused(w, l, "", errRequest("a proxy takes CONNECT, or http:// in absolute form"))
		return
	}
	hostport := r.URL.Host
	if r.URL.Port() == "" {
		hostport = net.JoinHostPort(r.URL.Hostname(), "80")
	}
	to, err := parseTarget(hostport)
	if err != nil {
		e.refused(w, l, "", err)
		return
	}
	name, ruled, err := e.route(l, to)
	if err != nil {
		e.refused(w, l, to.host, err)
		return
	}
	client, _ := r.Context().Value(connKey{}).(net.Conn)
	e.forward(w, r, l, to, name, ruled, false, client)
}

// authenticate finds the child by Proxy-Authorization, of which the password counts.
func (e *engine) authenticate(r *http.Request) (*link, bool) {
	v := r.Header.Values("Proxy-Authorization")
	if len(v) != 1 {
		return nil, false
	}
	kind, b64, _ := strings.Cut(v[0], " ")
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(b64))
	_, token, ok := strings.Cut(string(b), ":")
	if err != nil || !ok || !strings.EqualFold(kind, "Basic") {
		return nil, false
	}
	c, ok := e.callers.find(token)
	if !ok {
		return nil, false
	}
	return e.link(c)
}

// route says what happens to a host.
func (e *engine) route(l *link, to target) (name agentkeys.Service, ruled bool, err error) {
	name, ruled, err = l.caller.pick(to.host, to.port)
	if err == nil && !ruled && e.cfg.Others == Refuse {
		err = errHost(to.host)
	}
	return name, ruled, err
}

// forward carries one request, with the credential when a rule names its host.
func (e *engine) forward(w http.ResponseWriter, r *http.Request, l *link, to target, name agentkeys.Service, ruled, secure bool, client net.Conn) {
	if !l.enter(l.calls) {
		e.refused(w, l, to.host, errBusy())
		return
	}
	defer l.leave(l.calls)
	if _, tunnelled := client.(*tunnel); !tunnelled {
		if !l.keep(client) {
			panic(http.ErrAbortHandler)
		}
		defer l.drop(client)
	}
	x := &exchange{e: e, l: l, to: to, tls: secure, w: w, in: r, client: client}
	if !ruled {
		defer x.log("passed")
		x.carry(call{}, false)
		return
	}
	if !secure && to.port != 80 && !e.dialer.onThisMachine(to) {
		e.refused(w, l, to.host, errPlain(to.host))
		return
	}
	rec, err := l.caller.begin(r.Context(), name)
	if err != nil {
		e.refused(w, l, to.host, err)
		return
	}
	if !rec.credential.Allows(to.host, to.port) { // the rules that were sealed with the value decide
		rec.end()
		e.refused(w, l, to.host, errHost(to.host))
		return
	}
	defer x.log("injected " + string(name))
	x.carry(rec, true)
}

func (e *engine) refused(w http.ResponseWriter, l *link, host string, err error) {
	r := sendRefusal(w, err)
	agent := ""
	if l != nil {
		agent = l.caller.agent()
	}
	e.log.LogAttrs(context.Background(), slog.LevelInfo, "refused", slog.String("agent", agent),
		slog.String("host", host), slog.Int("status", r.Status), slog.String("verdict", r.Code))
}

// limited bounds how many connections are open.
type limited struct {
	net.Listener
	slots chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &accepted{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

// accepted is a client's connection; closing it makes room for another.
type accepted struct {
	net.Conn
	free func()
}

func (c *accepted) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// SetLinger is that of TCP.
func (c *accepted) SetLinger(seconds int) error { return setLinger(c.Conn, seconds) }

// CloseWrite ends one direction.
func (c *accepted) CloseWrite() error { return closeWrite(c.Conn) }
