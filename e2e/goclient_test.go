package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test program be a client that run starts.
func TestMain(m *testing.M) {
	url := os.Getenv("AGENTKEYS_E2E_URL")
	var err error
	switch os.Getenv("AGENTKEYS_E2E_CLIENT") {
	case "get":
		err = getOnce(url)
	case "websocket":
		err = talk(url)
	default:
		testscript.Main(m, map[string]func(){"shape": shape})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// goClient is http.DefaultClient with the environment's bundle on every system.
func goClient() (*http.Client, error) {
	b, err := os.ReadFile(os.Getenv("SSL_CERT_FILE"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b)
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}, nil
}

func getOnce(url string) error {
	c, err := goClient()
	if err != nil {
		return err
	}
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	fmt.Println(r.StatusCode, r.Proto, string(b), r.Header)
	return err
}

func talk(url string) error {
	c, err := goClient()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: c})
	if err != nil {
		return err
	}
	defer func() { _ = ws.CloseNow() }()
	var said []string
	for _, word := range []string{"one", "two"} {
		if err := ws.Write(ctx, websocket.MessageText, []byte(word)); err != nil {
			return err
		}
		_, b, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		said = append(said, string(b))
	}
	fmt.Println(strings.Join(said, ", "))
	return nil
}

func handler(paths map[string]any) http.Handler {
	mux := http.NewServeMux()
	for path, h := range paths {
		mux.HandleFunc(path, h.(func(http.ResponseWriter, *http.Request)))
	}
	return mux
}

func queryIs(name, key string) func(*http.Request) bool {
	return func(r *http.Request) bool { v := r.URL.Query()[name]; return len(v) == 1 && v[0] == key }
}

func headerIs(name, key string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		v := r.Header[http.CanonicalHeaderKey(name)]
		return len(v) == 1 && v[0] == key
	}
}

// callerIdentity is the answer of STS to who asks who it is.
func callerIdentity(w http.ResponseWriter, _ *http.Request) {
	type result struct {
		XMLName xml.Name `xml:"GetCallerIdentityResponse"`
		Account string   `xml:"GetCallerIdentityResult>Account"`
		Arn     string   `xml:"GetCallerIdentityResult>Arn"`
		UserID  string   `xml:"GetCallerIdentityResult>UserId"`
	}
	w.Header().Set("Content-Type", "text/xml")
	_ = xml.NewEncoder(w).Encode(result{Account: "123456789012", Arn: "arn:aws:iam::123456789012:user/u", UserID: "u"})
}

// bucket keeps objects by path: as much of S3 as a copy in both directions needs.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
}

func newBucket() *bucket { return &bucket{objects: map[string][]byte{}} }

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Method == http.MethodPut {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b.objects[r.URL.Path] = body
		w.Header().Set("ETag", `"1"`)
		return
	}
	body, ok := b.objects[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"1"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Last-Modified", "Wed, 25 Nov 2026 00:00:00 GMT")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(body)))
}
