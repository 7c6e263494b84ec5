package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The services of the play, under names that resolve nowhere.
const (
	githubHost  = "api.github.test"
	openaiHost  = "api.openai.test"
	billingHost = "api.billing.test"
	evilHost    = "evil.test"
)

// upstream is the services that the agents call: a real TLS server on loopback with
// certificates of an authority of its own. It keeps what it was shown.
type upstream struct {
	server *http.Server
	addr   string // host:port
	roots  []byte // PEM

	mu      sync.Mutex
	want    map[string]string // the key that a service accepts, by host
	shown   map[string]string // newest Authorization, by host
	evil    strings.Builder   // everything that evil.test was sent
	granted []time.Time       // when calls with a right key came in
	streams int               // open
	cut     int               // streams that ended before their time
}

// startUpstream serves until ctx ends; the caller waits with [upstream.stop].
func startUpstream(ctx context.Context) (*upstream, error) {
	u := &upstream{want: map[string]string{}, shown: map[string]string{}}
	cert, roots, err := upstreamCertificate()
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("demo: upstream: %w", err)
	}
	u.addr, u.roots = l.Addr().String(), roots
	mux := http.NewServeMux()
	mux.HandleFunc(evilHost+"/", u.collect)
	mux.HandleFunc("/stream", u.stream)
	mux.HandleFunc("/", u.call)
	u.server = &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
	go func() { _ = u.server.ServeTLS(l, "", "") }() // ends with stop
	return u, nil
}

func (u *upstream) stop() { _ = u.server.Close() }

// upstreamCertificate is one certificate for all services, by a fresh authority.
func upstreamCertificate() (c tls.Certificate, roots []byte, err error) {
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return c, nil, err
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "demo upstream authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{githubHost, openaiHost, billingHost, evilHost},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}
	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	der, err2 := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err := errors.Join(err1, err2); err != nil {
		return c, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}

// accepts says whether a call shows the key of its service, and keeps what it shows.
func (u *upstream) accepts(r *http.Request) bool {
	host, _, _ := strings.Cut(r.Host, ":")
	u.mu.Lock()
	defer u.mu.Unlock()
	got := r.Header.Get("Authorization")
	u.shown[host] = got
	if want := u.want[host]; want == "" || got != "Bearer "+want {
		return false
	}
	u.granted = append(u.granted, time.Now())
	return true
}

func (u *upstream) call(w http.ResponseWriter, r *http.Request) {
	if !u.accepts(r) {
		http.Error(w, `{"message":"bad credentials"}`, http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"login":"octo","you_sent":%q}`+"\n", r.Header.Get("Authorization"))
}

// stream sends a line every 50 ms for a minute.
func (u *upstream) stream(w http.ResponseWriter, r *http.Request) {
	if !u.accepts(r) {
		http.Error(w, "bad credentials", http.StatusUnauthorized)
		return
	}
	u.count(1, 0)
	whole := false
	defer func() {
		if whole {
			u.count(-1, 0)
		} else {
			u.count(-1, 1)
		}
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	for range 1200 {
		if _, err := io.WriteString(w, "data: tick\n\n"); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	whole = true
}

func (u *upstream) count(open, cut int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.streams += open
	u.cut += cut
}

// collect is what a thief's server does: it keeps everything.
func (u *upstream) collect(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(&u.evil, "%s %s %v %s\n", r.Method, r.URL, r.Header, body)
	w.WriteHeader(http.StatusNoContent)
}

// accept sets the key that a service accepts from now on.
func (u *upstream) accept(host, key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.want[host] = key
}

// dialTo dials one address whatever the name.
func dialTo(addr string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
}

// saw gives the newest Authorization at a host, without most of its key.
func (u *upstream) saw(host string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.shown[host]
	if len(s) < 20 {
		return s
	}
	return s[:11] + "..." + s[len(s)-4:]
}

// grantedAfter counts the calls with a right key that came in after t, and before.
func (u *upstream) grantedAfter(t time.Time) (after, before int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, at := range u.granted {
		if at.After(t) {
			after++
		} else {
			before++
		}
	}
	return after, before
}

// collected is what evil.test has.
func (u *upstream) collected() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.evil.String()
}

func (u *upstream) streamsCut() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cut
}

// until waits for something, which is asked under the lock.
func (u *upstream) until(ctx context.Context, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		u.mu.Lock()
		done := so()
		u.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
