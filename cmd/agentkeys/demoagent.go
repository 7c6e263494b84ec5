package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// demoAgent is the agent of the demo: it knows a service's address and the environment
// that run gave it, nothing else. It calls the service until its standard input ends.
type demoAgent struct {
	Granted   atomic.Int64
	Refused   atomic.Int64
	Ticks     atomic.Int64 // lines of the stream
	StreamCut atomic.Bool
}

// callsPerSecond of all its workers together.
const (
	callsPerSecond = 200
	callWorkers    = 8
)

func demoAgentCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "demo-agent URL", Hidden: true, Short: "The agent of the demo", Args: exactly(1, "one URL"), Example: "  agentkeys demo-agent https://api.github.test",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := environmentClient()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			var d demoAgent
			var wg sync.WaitGroup
			wg.Go(func() { d.follow(ctx, client, args[0]+"/stream") })
			for range callWorkers {
				wg.Go(func() { d.call(ctx, client, args[0]+"/user") })
			}
			_, _ = io.Copy(io.Discard, a.stdin)
			cancel()
			wg.Wait()
			return json.NewEncoder(a.out).Encode(map[string]any{"granted": d.Granted.Load(), "refused": d.Refused.Load(),
				"ticks": d.Ticks.Load(), "stream_cut": d.StreamCut.Load()})
		}}
}

// environmentClient goes where the proxy variables say and trusts what SSL_CERT_FILE
// names, on every system.
func environmentClient() (*http.Client, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: callWorkers + 1, ForceAttemptHTTP2: true}
	if path := os.Getenv("SSL_CERT_FILE"); path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("demo: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, errors.New("demo: SSL_CERT_FILE holds no certificate")
		}
		t.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &http.Client{Transport: t}, nil
}

// call makes its part of the calls.
func (d *demoAgent) call(ctx context.Context, c *http.Client, url string) {
	tick := time.NewTicker(callWorkers * time.Second / callsPerSecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if d.get(ctx, c, url) {
			d.Granted.Add(1)
		} else if ctx.Err() == nil {
			d.Refused.Add(1)
		}
	}
}

func (d *demoAgent) get(ctx context.Context, c *http.Client, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := c.Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// follow reads one stream to its end and says whether it was cut.
func (d *demoAgent) follow(ctx context.Context, c *http.Client, url string) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	resp, err := c.Do(r)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if lines.Text() != "" {
			d.Ticks.Add(1)
		}
	}
	if resp.StatusCode == http.StatusOK && ctx.Err() == nil {
		d.StreamCut.Store(true)
	}
}
