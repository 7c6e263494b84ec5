package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys/credential"
)

// BenchmarkProxiedCall is a small GET over TLS and HTTP/1.1, as most SDKs make it;
// BenchmarkDirectCall is the same without the proxy. Client and upstream count too.
func BenchmarkProxiedCall(b *testing.B) {
	r := newRig(b, cred(credential.Bearer, "", testSecret), small)
	for _, h2 := range []bool{false, true} {
		c := r.client(b, h2)
		benchCalls(b, c, h2)
	}
}

func BenchmarkDirectCall(b *testing.B) {
	r := newRig(b, cred(credential.Bearer, "", testSecret), small)
	for _, h2 := range []bool{false, true} {
		t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.engine.cfg.Roots}, ForceAttemptHTTP2: h2, MaxIdleConnsPerHost: 128,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, r.engine.cfg.Resolve[testHost+":443"])
			}}
		if !h2 {
			t.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		benchCalls(b, &http.Client{Transport: t}, h2)
		t.CloseIdleConnections()
	}
}

func small(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"login":"octocat","id":583231,"type":"User","site_admin":false}`))
}

func benchCalls(b *testing.B, c *http.Client, h2 bool) {
	proto := "h1"
	if h2 {
		proto = "h2"
	}
	for _, clients := range []int{1, 64} {
		b.Run(proto+"/"+map[int]string{1: "1", 64: "64"}[clients], func(b *testing.B) {
			var mu sync.Mutex
			var took []time.Duration
			work := make(chan bool)
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for range work {
						start := time.Now()
						resp, err := c.Get("https://" + testHost + "/user")
						if err != nil {
							b.Error(err)
							continue
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if resp.StatusCode != 200 {
							b.Error(resp.Status)
						}
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
					}
				})
			}
			for b.Loop() {
				work <- true
			}
			close(work)
			wg.Wait()
			slices.Sort(took)
			if len(took) > 0 {
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
				b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "calls/s")
			}
		})
	}
}
