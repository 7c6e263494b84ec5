package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/proxy"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

// benchUsed is a measurement of proxied calls beside direct ones, in one run: client,
// service and proxy share the machine.
type benchUsed struct {
	benchResult
	Direct       benchResult `json:"direct"`
	Overhead     float64     `json:"overhead_p50_ms"`
	Acknowledged float64     `json:"revocation_acknowledged_ms"` // under the same load
	After        int         `json:"granted_after"`              // calls that came in at the service after that
}

func benchUse(a *app) *cobra.Command {
	var clients int
	var duration time.Duration
	c := &cobra.Command{Use: "use", Short: "Measure proxied calls beside direct ones", Args: exactly(0, "no arguments"),
		Long:    "Starts a TLS service and a proxy of its own, calls the service directly and then through the proxy under agent\nbench's grant, and revokes that agent while the calls go on.",
		Example: "  agentkeys bench use --clients 64 --duration 10s --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.benchUse(cmd.Context(), clients, duration)
			if err != nil {
				return err
			}
			return a.data(r, func(w io.Writer) {
				fmt.Fprintf(w, "direct, %d clients: %.0f/s, p50 %.2f ms\n", r.Clients, r.Direct.PerSecond, r.Direct.P50)
				fmt.Fprintf(w, "use, %d clients, %s: %.0f/s, p50 %.2f ms (%.2f over direct), p99 %.2f ms, errors %d\n", r.Clients, r.Pace, r.PerSecond, r.P50, r.Overhead, r.P99, r.Errors)
				fmt.Fprintf(w, "revoked under that load: acknowledged after %.0f ms, granted after %d\n", r.Acknowledged, r.After)
				for _, n := range sortedKeys(r.Processes) {
					fmt.Fprintf(w, "  %-20s %.2f ms CPU a request, %.0f MiB\n", n, r.Processes[n].CPU, r.Processes[n].RSS)
				}
			})
		}}
	c.Flags().IntVar(&clients, "clients", 64, "clients at once")
	c.Flags().DurationVar(&duration, "duration", 10*time.Second, "how long, for each half")
	return c
}

const benchService, benchAgent, benchHost = "bench-use", "bench", githubHost

func (a *app) benchUse(ctx context.Context, clients int, duration time.Duration) (r benchUsed, err error) {
	if clients < 1 || clients > 256 || duration <= 0 {
		return r, usageError{errors.New("bench use: want 1 to 256 clients and a duration")}
	}
	up, err := startUpstream(ctx)
	if err != nil {
		return r, err
	}
	defer up.stop()
	value := token("ghp_")
	up.accept(benchHost, value)
	control, out, err := a.benchChild(ctx, up, value)
	if err != nil {
		return r, err
	}
	defer a.endBenchProxy(control)
	p, err := a.loadProfile()
	if err != nil {
		return r, err
	}
	direct := callers(clients, up.roots, nil, up.addr, value)
	r.Direct = load(ctx, clients, duration, direct)
	via, err := url.Parse(out.URL)
	if err != nil {
		return r, err
	}
	stack := stackProcesses(p.Dev)
	if status, err := control.Ask(proxy.Request{Op: "status"}); err == nil {
		stack[fmt.Sprint(status.Status.PID)] = "agentkeys proxy"
	}
	before := costs(stack)
	proxied := callers(clients, []byte(out.CA), via, "", "")
	r.benchResult = load(ctx, clients, duration, proxied)
	r.Name, r.Pace = "use", "timeout_commit 0, 1 validator"
	r.Processes = perRequest(before, costs(stack), r.Count)
	r.Overhead = r.P50 - r.Direct.P50
	return r, a.revokeUnderLoad(ctx, &r, up, clients, proxied)
}

// revokeUnderLoad revokes while all clients go on calling.
func (a *app) revokeUnderLoad(ctx context.Context, r *benchUsed, up *upstream, clients int, call func(context.Context, int) error) error {
	var granted atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		load(ctx, clients, 3*time.Second, func(ctx context.Context, n int) error {
			err := call(ctx, n)
			if err == nil {
				granted.Add(1)
			} else {
				time.Sleep(5 * time.Millisecond)
			}
			return err
		})
	}()
	time.Sleep(time.Second)
	rev, err := a.revoke(ctx, benchAgent)
	acked := time.Now()
	<-done
	if err != nil {
		return err
	}
	r.Acknowledged = rev.Millis
	r.After, _ = up.grantedAfter(acked)
	if granted.Load() == 0 {
		return errors.New("bench use: no call was granted before the revocation, so it shows nothing")
	}
	return ctx.Err()
}

// benchChild stores a value for the service, grants its use, and starts a proxy of its
// own beside the one that may run.
func (a *app) benchChild(ctx context.Context, up *upstream, value string) (*proxy.Control, proxy.Response, error) {
	owner, err := a.owner(ctx)
	if err != nil {
		return nil, proxy.Response{}, err
	}
	previous := uint64(0)
	if it, err := owner.Item(ctx, benchService, agentkeys.Wallet{}); err == nil {
		previous = it.Version
	}
	cred := credential.Credential{Secret: agentkeys.NewSecret([]byte(value)), Kind: credential.Bearer, Hosts: []credential.HostRule{{Pattern: benchHost, Port: 443}}}
	if _, err := a.put(ctx, owner, benchService, agentkeys.Wallet{}, cred, statement.IdleCarry, previous); err != nil {
		return nil, proxy.Response{}, err
	}
	if _, _, err := a.admit(ctx, benchAgent, 24*time.Hour); err != nil {
		return nil, proxy.Response{}, err
	}
	if _, err := a.grant(ctx, benchService, benchAgent, statement.ModeUse, false, time.Hour); err != nil {
		return nil, proxy.Response{}, err
	}
	roots, err := os.CreateTemp("", "agentkeys-bench-")
	if err != nil {
		return nil, proxy.Response{}, err
	}
	defer os.Remove(roots.Name())
	_, err = roots.Write(up.roots)
	if err := errors.Join(err, roots.Close()); err != nil {
		return nil, proxy.Response{}, err
	}
	b := *a
	b.socketName = "bench"
	if _, err := b.startProxy(ctx, proxyFlags{Listen: "127.0.0.1:0", Others: "refuse", rootsIn: roots.Name(), resolve: []string{benchHost + ":443=" + up.addr}}); err != nil {
		return nil, proxy.Response{}, err
	}
	session, err := a.agentSession(ctx, benchAgent, 0)
	if err != nil {
		return nil, proxy.Response{}, err
	}
	return b.startChild(ctx, session, benchAgent, []string{benchService}, nil)
}

func (a *app) endBenchProxy(control *proxy.Control) {
	b := *a
	b.socketName = "bench"
	control.Close()
	ctx, cancel := context.WithTimeout(context.Background(), proxyWithin)
	defer cancel()
	if c, err := proxy.Connect(ctx, b.socket()); err == nil {
		defer c.Close()
		_, _ = c.Ask(proxy.Request{Op: "stop"})
	}
}

// callers are clients with a connection each; direct ones dial the service and bring
// its key.
func callers(clients int, roots []byte, via *url.URL, addr, value string) func(context.Context, int) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	all := make([]*http.Client, clients)
	for i := range all {
		t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 1}
		if via != nil {
			t.Proxy = http.ProxyURL(via)
		} else {
			t.DialContext = dialTo(addr)
		}
		all[i] = &http.Client{Transport: t, Timeout: 20 * time.Second}
	}
	return func(ctx context.Context, n int) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+benchHost+"/user", nil)
		if err != nil {
			return err
		}
		if value != "" {
			r.Header.Set("Authorization", "Bearer "+value)
		}
		resp, err := all[n%clients].Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			return &api.Error{Status: resp.StatusCode, Code: orID(resp.Header.Get(proxy.RefusalHeader), "status")}
		}
		return err
	}
}
