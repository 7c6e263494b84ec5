package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys/credential"
)

// watchHeap gives the highest live heap since it was called.
func watchHeap(t *testing.T) (peak func() uint64) {
	t.Helper()
	done, result := make(chan bool), make(chan uint64)
	go func() {
		var top uint64
		for {
			select {
			case <-done:
				result <- top
				return
			case <-time.After(20 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				top = max(top, m.HeapAlloc)
			}
		}
	}()
	return func() uint64 { close(done); return <-result }
}

func TestAuthentication(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(http.ResponseWriter, *http.Request) { t.Error("called") })
	for _, auth := range []string{"", "Basic", "Basic !", "Bearer token", "Basic c2NyaWJlOndyb25n", "Basic dG9rZW4="} {
		for _, line := range []string{"CONNECT " + testHost + ":443", "GET http://" + testHost + "/"} {
			resp := r.raw(t, line+" HTTP/1.1\r\nHost: "+testHost+"\r\nProxy-Authorization: "+auth+"\r\n\r\n")
			if e := refusalOf(t, resp); e.Code != "proxy_auth_required" || resp.Header.Get("Proxy-Authenticate") == "" {
				t.Errorf("%q: %+v", auth, e)
			}
		}
	}
}

const goodAuth = "Proxy-Authorization: Basic c2NyaWJlOnRva2Vu\r\n"

// raw sends bytes and reads one answer.
func (r *rig) raw(t *testing.T, request string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "GET"})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// tunnel opens one and gives what comes after it.
func (r *rig) tunnel(t *testing.T, to string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", to, to, goodAuth)
	b := make([]byte, 39)
	if _, err := io.ReadFull(c, b); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
		t.Fatalf("%q %v", b, err)
	}
	return c
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(http.ResponseWriter, *http.Request) { t.Error("called") })
	for line, code := range map[string]string{
		"GET /":                           "bad_request",
		"GET https://" + testHost + "/":   "bad_request",
		"CONNECT " + testHost + ":0":      "bad_request",
		"CONNECT " + testHost + ":99999":  "bad_request",
		"CONNECT a~b:443":                 "bad_request",
		"CONNECT 127.0.0.1:22":            "address_refused",
		"CONNECT [::1]:22":                "address_refused",
		"CONNECT 169.254.169.254:80":      "address_refused",
		"GET http://169.254.169.254/meta": "address_refused",
		"GET http://[::ffff:7f00:1]/":     "address_refused",
		"GET http://localhost:1/":         "address_refused",
	} {
		resp := r.raw(t, line+" HTTP/1.1\r\nHost: x\r\n"+goodAuth+"\r\n")
		if e := refusalOf(t, resp); e.Code != code {
			t.Errorf("%s: %+v", line, e)
		}
	}
}

// A tunnel serves the host it was opened for and no other, by whatever name it is asked.
func TestTunnelIsForItsHost(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	for _, test := range []struct {
		request string
		status  int
	}{
		{"GET / HTTP/1.1\r\nHost: " + testHost + "\r\n\r\n", 200},
		{"GET / HTTP/1.1\r\nHost: API.example.test:443\r\n\r\n", 200},
		{"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421},
		{"GET / HTTP/1.1\r\nHost: " + testHost + ":444\r\n\r\n", 421},
		{"GET / HTTP/1.1\r\nHost: " + testHost + ".\r\n\r\n", 421},
		{"GET / HTTP/1.1\r\nHost: " + testHost + "@evil.test\r\n\r\n", 400},
		{"GET https://evil.test/ HTTP/1.1\r\nHost: " + testHost + "\r\n\r\n", 421},
		{"GET / HTTP/1.0\r\n\r\n", 421},
		{"GET / HTTP/1.1\r\nHost: " + testHost + "\r\nHost: evil.test\r\n\r\n", 400},
		{"CONNECT " + testHost + ":443 HTTP/1.1\r\nHost: " + testHost + "\r\n\r\n", 421},
		{"GET / HTTP/1.1\r\nHost: " + testHost + "\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2", 400},
	} {
		c := tls.Client(r.tunnel(t, testHost+":443"), &tls.Config{RootCAs: r.roots, ServerName: testHost})
		if _, err := io.WriteString(c, test.request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%q: %v", test.request, err)
		}
		if resp.StatusCode != test.status && !(test.status == 400 && resp.StatusCode == 200 && strings.Contains(test.request, "chunked")) {
			t.Errorf("%q: %s", test.request, resp.Status)
		}
		if resp.StatusCode == 421 {
			if e := refusalOf(t, resp); e.Code != "host_differs" {
				t.Errorf("%+v", e)
			}
		}
	}
	c := tls.Client(r.tunnel(t, testHost+":443"), &tls.Config{RootCAs: r.roots, ServerName: "evil.test"})
	if err := c.Handshake(); err == nil {
		t.Error("served under another name")
	}
}

// The same over HTTP/2, where the authority names the host.
func TestAuthority(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(http.ResponseWriter, *http.Request) { t.Error("called") })
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://"+testHost+"/", nil)
	req.Host = "evil.test"
	resp, err := r.client(t, true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if e := refusalOf(t, resp); e.Code != "host_differs" || resp.ProtoMajor != 2 {
		t.Errorf("%+v", e)
	}
}

// Without a rule nothing is injected, decrypted or masked, or the host is refused.
func TestHostsWithoutRule(t *testing.T) {
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization")+" "+testSecret)
	}))
	defer other.Close()
	plain := httptest.NewServer(other.Config.Handler)
	defer plain.Close()
	named := func(c *Config) {
		c.Resolve["other.test:443"] = other.Listener.Addr().String()
		c.Resolve["other.test:80"] = plain.Listener.Addr().String()
		c.Resolve["other.test:8080"] = plain.Listener.Addr().String()
	}
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(http.ResponseWriter, *http.Request) {}, named)
	pool := x509.NewCertPool()
	pool.AddCert(other.Certificate())
	c := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(r.proxyURL()), TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}}}
	for _, base := range []string{"https://other.test/", "http://other.test/", "http://other.test:8080/"} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", base, nil)
		req.Header.Set("Authorization", "mine")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "mine "+testSecret {
			t.Errorf("%s: %q", base, b)
		}
	}
	c.CloseIdleConnections()
	strict := newRig(t, cred(credential.Bearer, "", testSecret), func(http.ResponseWriter, *http.Request) {}, named, func(c *Config) { c.Others = Refuse })
	for _, line := range []string{"CONNECT other.test:443", "GET http://other.test/"} {
		if e := refusalOf(t, strict.raw(t, line+" HTTP/1.1\r\nHost: x\r\n"+goodAuth+"\r\n")); e.Code != "host_refused" {
			t.Errorf("%+v", e)
		}
	}
}

// A secret does not go in plain text over a network, unless the owner named port 80.
func TestPlainText(t *testing.T) {
	rule := credential.HostRule{Pattern: testHost, Port: 8443}
	r := newRig(t, cred(credential.Bearer, "", testSecret, rule), func(http.ResponseWriter, *http.Request) { t.Error("called") })
	if e := refusalOf(t, r.raw(t, "GET http://"+testHost+":8443/ HTTP/1.1\r\nHost: x\r\n"+goodAuth+"\r\n")); e.Code != "tls_required" {
		t.Errorf("%+v", e)
	}
	c := r.tunnel(t, testHost+":8443")
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s:8443\r\n\r\n", testHost)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := refusalOf(t, resp); e.Code != "tls_required" {
		t.Errorf("%+v", e)
	}
}

// The rules that came with the value decide, whatever the child's list says.
func TestSealedRulesDecide(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(http.ResponseWriter, *http.Request) { t.Error("called") })
	h := r.engine.callers.(*stub)
	client := r.client(t, true)
	h.mu.Lock()
	h.lie = true
	c := h.creds["github"]
	c.Hosts = []credential.HostRule{{Pattern: "elsewhere.test", Port: 443}}
	h.creds["github"] = c
	h.mu.Unlock()
	resp, err := client.Get("https://" + testHost + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if e := refusalOf(t, resp); e.Code != "host_refused" {
		t.Errorf("%+v", e)
	}
}

func TestUpstreamFails(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	for code, addr := range map[string]string{"upstream_unreachable": closed.Addr().String(), "upstream_untrusted": untrusted.Listener.Addr().String()} {
		r := newRig(t, cred(credential.Query, "key", testSecret), func(http.ResponseWriter, *http.Request) {}, func(c *Config) { c.Resolve[testHost+":443"] = addr })
		resp, err := r.client(t, true).Get("https://" + testHost + "/?q=1")
		if err != nil {
			t.Fatal(err)
		}
		e := refusalOf(t, resp)
		resp.Body.Close()
		if e.Code != code || e.Status != 502 || strings.Contains(e.Message, "ghp") || strings.Contains(e.Message, "?") {
			t.Errorf("%+v", e)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			t.Error("followed")
		}
		http.Redirect(w, r, "https://"+testHost+"/next", http.StatusFound)
	})
	resp, err := r.client(t, true).Get("https://" + testHost + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusFound {
		t.Error(resp.Status)
	}
}

// When a child goes, its tunnels do.
func TestChildGone(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {})
	c := tls.Client(r.tunnel(t, testHost+":443"), &tls.Config{RootCAs: r.roots, ServerName: testHost})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	idle := r.tunnel(t, testHost+":443")
	close(r.dead)
	for _, c := range []net.Conn{c, idle} {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("still open: %v", err)
		}
	}
}

func TestBounds(t *testing.T) {
	hold := make(chan bool)
	var started sync.WaitGroup
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(http.ResponseWriter, *http.Request) {
		started.Done()
		<-hold
	})
	var once sync.Once
	release := func() { once.Do(func() { close(hold) }) }
	defer release()
	l, ok := r.engine.link(r.stub)
	if !ok {
		t.Fatal("no link")
	}
	for range maxCalls - 1 {
		l.calls <- struct{}{}
	}
	started.Add(1)
	c := r.client(t, true)
	done := make(chan bool)
	go func() {
		defer close(done)
		if resp, err := c.Get("https://" + testHost + "/"); err == nil {
			resp.Body.Close()
		}
	}()
	started.Wait()
	resp, err := c.Get("https://" + testHost + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if e := refusalOf(t, resp); e.Code != "too_many" || !e.Retry {
		t.Errorf("%+v", e)
	}
	for range maxTunnels - len(l.tunnels) {
		l.tunnels <- struct{}{}
	}
	if e := refusalOf(t, r.raw(t, "CONNECT "+testHost+":443 HTTP/1.1\r\nHost: x\r\n"+goodAuth+"\r\n")); e.Code != "too_many" {
		t.Errorf("%+v", e)
	}
	release()
	<-done
	big := "GET http://" + testHost + "/ HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 2*maxHeader) + "\r\n" + goodAuth + "\r\n"
	if resp := r.raw(t, big); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(resp.Status)
	}
	for range maxCalls - 1 {
		<-l.calls
	}
}

// Nothing of a request is logged but host, status, agent, service and verdict.
func TestLog(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := newRig(t, cred(credential.Query, "key", testSecret), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort-path" {
			panic(http.ErrAbortHandler)
		}
	}, func(c *Config) { c.Log = logger })
	for _, path := range []string{"/secret-path", "/abort-path"} {
		each(t, func(t *testing.T, h2 bool, base string) {
			req, _ := http.NewRequestWithContext(t.Context(), "POST", base+path+"?query-value=1", strings.NewReader("body-value"))
			req.Header.Set("X-Header", "header-value")
			if resp, err := r.client(t, h2).Do(req); err == nil {
				resp.Body.Close()
			}
		})
	}
	r.raw(t, "GET http://evil value/ HTTP/1.1\r\n"+goodAuth+"\r\n")
	mu.Lock()
	defer mu.Unlock()
	s := out.String()
	for _, never := range []string{"-path", "-value", "ghp", url.QueryEscape(testSecret), "token"} {
		if strings.Contains(s, never) {
			t.Errorf("the log holds %q:\n%s", never, s)
		}
	}
	if !strings.Contains(s, "agent=scribe host="+testHost+" status=200 verdict=\"injected github\"") {
		t.Errorf("the log tells nothing:\n%s", s)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
