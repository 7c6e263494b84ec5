package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
)

// stub is one child in memory, with one credential a service. Its drop cuts what runs.
type stub struct {
	token string
	dead  chan struct{}

	mu      sync.Mutex
	creds   map[agentkeys.Service]credential.Credential
	dropped bool
	lie     bool // picks github for every host
	running map[int]context.CancelFunc
	next    int
	idle    *sync.Cond // on mu
	trace   *httptrace.ClientTrace
}

func (s *stub) pick(host string, port uint16) (name agentkeys.Service, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, c := range s.creds {
		if s.lie || c.Allows(host, port) {
			return n, true, nil
		}
	}
	return "", false, nil
}

func (s *stub) begin(ctx context.Context, name agentkeys.Service) (call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped {
		return call{}, errRevoked()
	}
	if s.trace != nil {
		ctx = httptrace.WithClientTrace(ctx, s.trace)
	}
	ctx, cancel := context.WithCancel(ctx)
	s.next++
	id := s.next
	s.running[id] = cancel
	return call{ctx: ctx, credential: s.creds[name], version: 1, end: func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.running[id]; !ok {
			panic("a call ended twice")
		}
		delete(s.running, id)
		s.idle.Broadcast()
	}}, nil
}

// drop withdraws the credential; when it returns every call has ended.
func (s *stub) drop() {
	s.mu.Lock()
	s.dropped = true
	for _, cancel := range s.running {
		cancel()
	}
	for len(s.running) > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()
}

// allow takes a drop back.
func (s *stub) allow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = false
}

// calls is how many run.
func (s *stub) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running)
}

func (s *stub) hosts() (all []credential.HostRule) {
	for _, c := range s.creds {
		all = append(all, c.Hosts...)
	}
	return all
}

func (s *stub) agent() string         { return "scribe" }
func (s *stub) gone() <-chan struct{} { return s.dead }

// find makes a stub its own only child.
func (s *stub) find(token string) (caller, bool) { return s, token == s.token }

// rig is a proxy in front of one upstream, which the world knows as api.example.test.
type rig struct {
	*stub
	addr   string
	roots  *x509.CertPool // what the child trusts
	engine *engine
	stop   func() // and wait
}

const (
	testHost   = "api.example.test"
	testSecret = "ghp_0123456789abcdefABCDEF/+x"
)

func secretOf(s string) agentkeys.Secret { return agentkeys.NewSecret([]byte(s)) }

func cred(kind credential.Kind, header, secret string, rules ...credential.HostRule) credential.Credential {
	if len(rules) == 0 {
		rules = []credential.HostRule{{Pattern: testHost, Port: 443}, {Pattern: testHost, Port: 80}}
	}
	return credential.Credential{Secret: secretOf(secret), Kind: kind, Header: header, Hosts: rules}
}

// upstreamCA signs for testHost, so that the proxy's own check is a real one.
func upstreamCA(tb testing.TB) (*CA, *x509.CertPool) {
	tb.Helper()
	ca, err := NewCA()
	if err != nil {
		tb.Fatal(err)
	}
	return ca, poolOf(tb, ca, []credential.HostRule{{Pattern: "example.test", Port: 1}})
}

func poolOf(tb testing.TB, ca *CA, rules []credential.HostRule) *x509.CertPool {
	tb.Helper()
	pem, err := ca.Certificate(rules)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		tb.Fatal("no certificate")
	}
	return pool
}

// newRig starts upstream and proxy. The same handler answers TLS at 443 and plain HTTP
// at 80 of testHost.
func newRig(tb testing.TB, c credential.Credential, h http.HandlerFunc, change ...func(*Config)) *rig {
	tb.Helper()
	ca, roots := upstreamCA(tb)
	secure := httptest.NewUnstartedServer(h)
	secure.EnableHTTP2 = true
	secure.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return ca.leaf(hello.ServerName)
	}}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	tb.Cleanup(secure.Close)
	plain := httptest.NewServer(h)
	tb.Cleanup(plain.Close)
	s := &stub{token: "token", dead: make(chan struct{}), creds: map[agentkeys.Service]credential.Credential{"github": c}, running: map[int]context.CancelFunc{}}
	s.idle = sync.NewCond(&s.mu)
	own, err := NewCA()
	if err != nil {
		tb.Fatal(err)
	}
	cfg := Config{CA: own, Roots: roots, Resolve: map[string]string{
		testHost + ":443": secure.Listener.Addr().String(), testHost + ":80": plain.Listener.Addr().String(),
	}}
	for _, f := range change {
		f(&cfg)
	}
	e, err := newEngine(cfg, s)
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.run(ctx, ln) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				tb.Error(err)
			}
		case <-time.After(20 * time.Second):
			tb.Error("the proxy does not stop")
		}
	})
	tb.Cleanup(stop)
	return &rig{stub: s, addr: ln.Addr().String(), roots: poolOf(tb, own, c.Hosts), engine: e, stop: stop}
}

func (r *rig) proxyURL() *url.URL {
	return &url.URL{Scheme: "http", Host: r.addr, User: url.UserPassword("scribe", r.token)}
}

// client is a program of the child.
func (r *rig) client(tb testing.TB, h2 bool) *http.Client {
	t := &http.Transport{Proxy: http.ProxyURL(r.proxyURL()), TLSClientConfig: &tls.Config{RootCAs: r.roots}, ForceAttemptHTTP2: h2, MaxIdleConnsPerHost: 128}
	if !h2 {
		t.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// each runs a test over every way a call may take.
func each(t *testing.T, f func(t *testing.T, h2 bool, base string)) {
	t.Helper()
	for name, way := range map[string]struct {
		h2   bool
		base string
	}{"h1": {false, "https://" + testHost}, "h2": {true, "https://" + testHost}, "plain": {false, "http://" + testHost}} {
		t.Run(name, func(t *testing.T) { f(t, way.h2, way.base) })
	}
}

func holdsSecret(s string) bool { return strings.Contains(s, testSecret) }
