package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"example.org/agentkeys/credential"
)

// metered counts what is written upstream after a drop was confirmed, by connections
// that a call was given: handshakes of others hold nothing.
type metered struct {
	*net.TCPConn
	carries   atomic.Bool
	confirmed *atomic.Bool
	late      *atomic.Int64
}

func (m *metered) Write(b []byte) (int, error) {
	n, err := m.TCPConn.Write(b)
	if n > 0 && m.carries.Load() && m.confirmed.Load() {
		m.late.Add(int64(n))
	}
	return n, err
}

func meterWrites(r *rig) (confirmed *atomic.Bool, late *atomic.Int64) {
	confirmed, late = &atomic.Bool{}, &atomic.Int64{}
	r.engine.dialer.dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
		if err != nil {
			return nil, err
		}
		return &metered{TCPConn: c.(*net.TCPConn), confirmed: confirmed, late: late}, nil
	}
	r.trace = &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		c := info.Conn
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		c.(*upstream).Conn.(*metered).carries.Store(true)
	}}
	return confirmed, late
}

// After a drop is confirmed not one byte goes upstream, whenever it comes.
func TestNothingAfterDrop(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for range 3 {
			_, _ = io.WriteString(w, "data\n")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
	})
	confirmed, late := meterWrites(r)
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	each(t, func(t *testing.T, h2 bool, base string) {
		c := r.client(t, h2)
		c.Timeout = 10 * time.Second
		var calls, cut atomic.Int64
		for range rounds {
			confirmed.Store(false)
			r.allow()
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 50 {
						resp, err := c.Post(base+"/", "text/plain", io.LimitReader(slow{}, 20_000))
						calls.Add(1)
						if err != nil {
							cut.Add(1)
							return
						}
						_, err = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if err != nil || resp.StatusCode != 200 {
							cut.Add(1)
							return
						}
					}
				})
			}
			time.Sleep(time.Duration(rand.IntN(30_000)) * time.Microsecond)
			start := time.Now()
			r.drop()
			confirmed.Store(true)
			if d := time.Since(start); d > lastWord+cutGrace {
				t.Errorf("a drop took %v", d)
			}
			wg.Wait()
		}
		t.Logf("%d calls, %d cut", calls.Load(), cut.Load())
		if cut.Load() == 0 {
			t.Error("nothing was cut, so nothing was tested")
		}
		if late.Load() != 0 {
			t.Errorf("%d bytes after the drop was confirmed", late.Load())
		}
	})
}

// slow gives a little at a time.
type slow struct{}

func (slow) Read(p []byte) (int, error) {
	time.Sleep(50 * time.Microsecond)
	n := min(len(p), 4000)
	clear(p[:n])
	return n, nil
}

// A stream that runs is cut, so that the client sees that it is not whole; also when the
// client does not read, and when it only sends.
func TestDropCutsStreams(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
	}
	r := newRig(t, cred(credential.Bearer, "", testSecret), endless)
	confirmed, late := meterWrites(r)
	drop := func(t *testing.T) {
		t.Helper()
		time.Sleep(200 * time.Millisecond) // until the stream stands, or stalls
		start := time.Now()
		r.drop()
		confirmed.Store(true)
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
	}
	each(t, func(t *testing.T, h2 bool, base string) {
		for _, reads := range []bool{true, false} {
			confirmed.Store(false)
			r.allow()
			resp, err := r.client(t, h2).Get(base + "/")
			if err != nil {
				t.Fatal(err)
			}
			result := make(chan error, 1)
			read := func() { _, err := io.Copy(io.Discard, resp.Body); result <- err }
			if reads {
				go read()
			}
			drop(t)
			if !reads {
				go read()
			}
			select {
			case err := <-result:
				if err == nil {
					t.Error("a cut stream looked whole")
				}
			case <-time.After(5 * time.Second):
				t.Error("the stream lives on")
			}
			resp.Body.Close()
		}
		confirmed.Store(false)
		r.allow()
		pr, pw := io.Pipe()
		answer := make(chan string, 1)
		go func() {
			resp, err := r.client(t, h2).Post(base+"/", "text/plain", pr)
			if err != nil {
				answer <- "cut"
				return
			}
			defer resp.Body.Close()
			answer <- resp.Header.Get(RefusalHeader)
		}()
		_, _ = pw.Write(make([]byte, 1<<10))
		drop(t)
		_ = pw.CloseWithError(errors.New("enough"))
		if got := <-answer; got != "revoked" && got != "cut" {
			t.Errorf("an upload that was cut got %q", got)
		}
	})
	if late.Load() != 0 {
		t.Errorf("%d bytes after the drop was confirmed", late.Load())
	}
}

// A call that waits for its answer is told why it ends.
func TestDropIsTold(t *testing.T) {
	wait := make(chan bool)
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(_ http.ResponseWriter, r *http.Request) {
		wait <- true
		<-r.Context().Done()
	})
	each(t, func(t *testing.T, h2 bool, base string) {
		r.allow()
		go func() {
			<-wait
			r.drop()
		}()
		resp, err := r.client(t, h2).Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if e := refusalOf(t, resp); e.Code != "revoked" || e.Retry {
			t.Errorf("%+v", e)
		}
		again, err := r.client(t, h2).Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer again.Body.Close()
		if e := refusalOf(t, again); e.Code != "revoked" {
			t.Errorf("%+v", e)
		}
	})
}

func TestDropCutsWebSockets(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for c.Write(r.Context(), websocket.MessageText, make([]byte, 1<<10)) == nil {
		}
	})
	for _, reads := range []bool{true, false} {
		r.allow()
		c, _, err := websocket.Dial(t.Context(), "https://"+testHost+"/", &websocket.DialOptions{HTTPClient: r.client(t, false)})
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		read := func() {
			for {
				if _, _, err := c.Read(t.Context()); err != nil {
					failed <- err
					return
				}
			}
		}
		if reads {
			go read()
		}
		time.Sleep(200 * time.Millisecond)
		start := time.Now()
		r.drop()
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %v", d)
		}
		if !reads {
			go read()
		}
		select {
		case <-failed:
		case <-time.After(5 * time.Second):
			t.Error("still open")
		}
		_ = c.CloseNow()
	}
}

// A client that leaves ends its call, and the others on its connection go on.
func TestClientLeaves(t *testing.T) {
	entered := make(chan bool, 1)
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			entered <- true
			<-r.Context().Done()
			return
		}
		for i := range 20 {
			fmt.Fprintln(w, i)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	c := r.client(t, true)
	resp, err := c.Get("https://" + testHost + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	req, _ := http.NewRequestWithContext(ctx, "GET", "https://"+testHost+"/wait", nil)
	if _, err := c.Do(req); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasSuffix(string(b), "19\n") {
		t.Errorf("the other stream: %q %v", b, err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for r.calls() > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the call runs on")
		}
		time.Sleep(time.Millisecond)
	}
}

// Closing a stop: what runs is given a moment, then cut; run returns.
func TestStop(t *testing.T) {
	r := newRig(t, cred(credential.Bearer, "", testSecret), func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	c := tls.Client(r.tunnel(t, testHost+":443"), &tls.Config{RootCAs: r.roots, ServerName: testHost})
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", testHost)
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r.stop()
	if d := time.Since(start); d > 2*stopWait+2*time.Second {
		t.Errorf("took %v", d)
	}
	if n := r.calls(); n != 0 {
		t.Errorf("%d calls run on", n)
	}
}
