package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"
)

// upstream is the services that agents call, each under a name of its own, with real
// TLS by an authority that only the proxy is told of. A service answers 401 to whoever
// does not show its key.
type upstream struct {
	addr, pem string // host:port; file with the authority's certificate
	mux       *http.ServeMux

	mu      sync.Mutex
	granted map[string]int // calls with the right key, by host
	refused map[string]int
}

// serve registers a service and what it takes for its key.
func (u *upstream) serve(host string, ok func(*http.Request) bool, h http.Handler) {
	u.mux.HandleFunc(host+"/", func(w http.ResponseWriter, r *http.Request) {
		good := ok(r)
		u.mu.Lock()
		if good {
			u.granted[host]++
		} else {
			u.refused[host]++
		}
		u.mu.Unlock()
		if !good {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, `{"error":"bad credentials"}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (u *upstream) count(host string) (granted, refused int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.granted[host], u.refused[host]
}

// newUpstream listens until the test ends. Its certificate is for *.test.
func newUpstream(t *testing.T, hosts ...string) *upstream {
	t.Helper()
	u := &upstream{mux: http.NewServeMux(), granted: map[string]int{}, refused: map[string]int{}, pem: filepath.Join(t.TempDir(), "upstream.pem")}
	cert, ca := certificates(t, hosts)
	if err := os.WriteFile(u.pem, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.addr = l.Addr().String()
	s := &http.Server{Handler: u.mux, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.ServeTLS(l, "", "") })
	t.Cleanup(func() { _ = s.Close(); wg.Wait() })
	return u
}

func certificates(t *testing.T, hosts []string) (tls.Certificate, []byte) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, leafKey, now := key(), key(), time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "upstream authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: hosts, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leafKey}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
}

func bearerIs(key string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+key }
}

func basicIs(user, password string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		u, p, ok := r.BasicAuth()
		return ok && u == user && p == password
	}
}

// echo says what it was asked and gives back what it was sent, the key included.
func echo(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-You-Sent", r.Header.Get("Authorization"))
	_ = json.NewEncoder(w).Encode(map[string]any{"proto": r.Proto, "bytes": n, "you_sent": r.Header.Get("Authorization"), "query": r.URL.RawQuery})
}

// gitServer serves bare repositories in dir by git's own program.
func gitServer(t *testing.T, dir string) http.Handler {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skipf("git: %v", err)
	}
	return &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Root: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=agent"}}
}

// chat answers as OpenAI's chat completions do, word by word when a stream is asked for.
func chat(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Stream bool `json:"stream"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	words := []string{"used ", "not ", "held"}
	if !in.Stream {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":%q}}]}`, strings.Join(words, ""))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, word := range words {
		fmt.Fprintf(w, "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", word)
		_ = http.NewResponseController(w).Flush()
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// words sends back each message of a web socket.
func words(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, append([]byte("echo "), b...)) != nil {
			return
		}
	}
}

// signedBy recomputes an AWS signature (SigV4) with the real key. The body is held
// against the hash that was signed.
func signedBy(id, secret string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		auth := r.Header.Get("Authorization")
		_, scope, _ := strings.Cut(auth, "Credential="+id+"/")
		parts := strings.Split(strings.SplitN(scope, ",", 2)[0], "/") // date, region, service, aws4_request
		_, signed, _ := strings.Cut(auth, "SignedHeaders=")
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if len(parts) != 4 || err != nil {
			return false
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return false
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		hash := r.Header.Get("X-Amz-Content-Sha256")
		sum := sha256.Sum256(body)
		if hash == "" {
			hash = hex.EncodeToString(sum[:])
		} else if len(hash) == 64 && hash != hex.EncodeToString(sum[:]) {
			return false
		}
		again, err := http.NewRequestWithContext(context.Background(), r.Method, "https://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
		if err != nil {
			return false
		}
		for _, name := range strings.Split(strings.SplitN(signed, ",", 2)[0], ";") {
			if name != "host" && name != "content-length" {
				again.Header[http.CanonicalHeaderKey(name)] = r.Header[http.CanonicalHeaderKey(name)]
			}
		}
		again.ContentLength = 0
		if strings.Contains(signed, "content-length") {
			again.ContentLength = r.ContentLength
		}
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = parts[2] == "s3" })
		err = signer.SignHTTP(context.Background(), aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, again, hash, parts[2], parts[1], at)
		return err == nil && again.Header.Get("Authorization") == auth
	}
}
