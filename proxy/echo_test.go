package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"example.org/agentkeys/credential"
)

// An upstream that tells the secret in every place an answer has.
func TestEchoes(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString([]byte(testSecret))
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.Header().Set("Link", got)
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Location", "/?a="+url.QueryEscape(got))
		w.Header().Set("Trailer", "X-Announced")
		w.Header().Set(RefusalHeader, "forged")
		w.WriteHeader(http.StatusTeapot)
		for _, c := range []byte(got) { // one byte a flush
			_, _ = w.Write([]byte{c})
			_ = http.NewResponseController(w).Flush()
		}
		fmt.Fprintf(w, " %s %q", b64, got)
		w.Header().Set("X-Announced", got)
		w.Header().Set(http.TrailerPrefix+"X-Late", "v "+got)
	})
	each(t, func(t *testing.T, h2 bool, base string) {
		var early string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			early += h.Get("Link")
			return nil
		}})
		req, _ := http.NewRequestWithContext(ctx, "GET", base+"/", nil)
		resp, err := r.client(t, h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		cover := strings.Repeat("*", len(testSecret))
		if want := cover + " " + strings.Repeat("*", len(strings.TrimRight(b64, "="))) + strings.Repeat("=", strings.Count(b64, "=")) + ` "` + cover + `"`; string(body) != want {
			t.Errorf("body %q, want %q", body, want)
		}
		if early != cover || resp.Header.Get("Location") != "/?a="+strings.Repeat("*", len(url.QueryEscape(testSecret))) {
			t.Errorf("head %q %q", early, resp.Header)
		}
		if resp.Trailer.Get("X-Announced") != cover || resp.Trailer.Get("X-Late") != "v "+cover {
			t.Errorf("trailer %q", resp.Trailer)
		}
		if resp.StatusCode != http.StatusTeapot || resp.Header.Get(RefusalHeader) != "" || holdsSecret(fmt.Sprint(resp.Header, resp.Trailer)) {
			t.Errorf("%s %v", resp.Status, resp.Header)
		}
	})
}

func TestEncodings(t *testing.T) {
	zip := func(s string) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(s))
		_ = w.Close()
		return b.Bytes()
	}
	for _, test := range []struct {
		coding string
		kind   credential.Kind
		method string
		body   []byte
		want   string // or the refusal's code
	}{
		{"gzip", credential.Bearer, "GET", zip("x" + testSecret + "y"), "x" + strings.Repeat("*", len(testSecret)) + "y"},
		{"identity", credential.Bearer, "GET", []byte(testSecret), strings.Repeat("*", len(testSecret))},
		{"br", credential.Bearer, "GET", []byte("opaque"), "encoding_refused"},
		{"gzip, br", credential.Bearer, "GET", []byte("opaque"), "encoding_refused"},
		{"br", credential.Bearer, "HEAD", nil, ""},
	} {
		r := newRig(t, cred(test.kind, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("asked for %q", got)
			}
			w.Header().Set("Content-Encoding", test.coding)
			_, _ = w.Write(test.body)
		})
		req, _ := http.NewRequestWithContext(t.Context(), test.method, "https://"+testHost+"/", nil)
		req.Header.Set("Accept-Encoding", "gzip, br")
		resp, err := r.client(t, true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if test.want == "encoding_refused" {
			if e := refusalOf(t, resp); e.Code != test.want {
				t.Errorf("%+v", e)
			}
		} else if b, err := io.ReadAll(resp.Body); err != nil || string(b) != test.want {
			t.Errorf("%s %s: %q %v", test.coding, test.method, b, err)
		}
		resp.Body.Close()
	}
}

// Events arrive one by one, each before the next is sent.
func TestServerSentEvents(t *testing.T) {
	next := make(chan bool)
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d %s\n\n", i, r.Header.Get("Authorization"))
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	each(t, func(t *testing.T, h2 bool, base string) {
		resp, err := r.client(t, h2).Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		s := bufio.NewScanner(resp.Body)
		for i := range 3 {
			if !s.Scan() || s.Text() != fmt.Sprintf("data: %d Bearer %s", i, strings.Repeat("*", len(testSecret))) {
				t.Fatalf("event %d: %q", i, s.Text())
			}
			s.Scan()
			next <- true
		}
	})
}

// Both directions at once: each line is answered before the next is sent.
func TestBothDirections(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.WriteHeader(200)
		_ = rc.Flush()
		for s := bufio.NewScanner(r.Body); s.Scan(); {
			fmt.Fprintln(w, "got", s.Text())
			_ = rc.Flush()
		}
		fmt.Fprintln(w, "trailer", r.Trailer.Get("X-Sum"))
	})
	t.Run("h2", func(t *testing.T) {
		pr, pw := io.Pipe()
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+testHost+"/", pr)
		req.Trailer = http.Header{"X-Sum": nil}
		resp, err := r.client(t, true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		s := bufio.NewScanner(resp.Body)
		for i := range 3 {
			fmt.Fprintln(pw, i)
			if !s.Scan() || s.Text() != fmt.Sprint("got ", i) {
				t.Fatalf("%q", s.Text())
			}
		}
		req.Trailer.Set("X-Sum", "42")
		_ = pw.Close()
		if !s.Scan() || s.Text() != "trailer 42" {
			t.Fatalf("%q", s.Text())
		}
	})
}

func TestWebSocket(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, append(append(b, ' '), got...)); err != nil {
				return
			}
			// A frame that ends like the secret begins must not wait for the next one.
			if err := c.Write(r.Context(), kind, []byte("ends in ghp")); err != nil {
				return
			}
		}
	})
	for _, base := range []string{"https://", "http://"} {
		c, resp, err := websocket.Dial(t.Context(), base+testHost+"/", &websocket.DialOptions{
			HTTPClient: r.client(t, false), CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("Sec-Websocket-Extensions") != "" {
			t.Error("compression was agreed upon")
		}
		for i := range 3 {
			msg := fmt.Sprintf("message %d", i)
			if err := c.Write(t.Context(), websocket.MessageText, []byte(msg)); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{msg + " Bearer " + strings.Repeat("*", len(testSecret)), "ends in ghp"} {
				if _, b, err := c.Read(t.Context()); err != nil || string(b) != want {
					t.Fatalf("%q %v", b, err)
				}
			}
		}
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	}
}

// A large body goes through in both directions without being kept. AGENTKEYS_BODY_MIB
// makes it larger.
func TestLargeBodies(t *testing.T) {
	size := int64(64 << 20)
	if mib, err := strconv.Atoi(os.Getenv("AGENTKEYS_BODY_MIB")); err == nil {
		size = int64(mib) << 20
	}
	if testing.Short() {
		size = 8 << 20
	}
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	peak := watchHeap(t)
	each(t, func(t *testing.T, h2 bool, base string) {
		start := time.Now()
		req, _ := http.NewRequestWithContext(t.Context(), "POST", base+"/", io.LimitReader(zeros{}, size))
		resp, err := r.client(t, h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil || n != size {
			t.Fatalf("%d of %d: %v", n, size, err)
		}
		t.Logf("%d MiB in %v", size>>20, time.Since(start))
	})
	if p := peak(); p > 64<<20 {
		t.Errorf("heap grew to %d MiB", p>>20)
	}
}
