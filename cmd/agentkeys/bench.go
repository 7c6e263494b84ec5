package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/internal/devstack"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

// benchResult is one measurement. CPU and memory are of the server processes, by
// name, on this machine.
type benchResult struct {
	Name      string                 `json:"name"`
	Pace      string                 `json:"pace"`
	Clients   int                    `json:"clients"`
	Count     int                    `json:"count"`
	Seconds   float64                `json:"seconds"`
	PerSecond float64                `json:"per_second"`
	P50       float64                `json:"p50_ms"`
	P99       float64                `json:"p99_ms"`
	Errors    int                    `json:"errors"`
	Codes     map[string]int         `json:"error_codes,omitempty"`
	Processes map[string]processCost `json:"processes"`
}

type processCost struct {
	CPU float64 `json:"cpu_ms_per_request"`
	RSS float64 `json:"rss_mib"`
}

func benchCommand(a *app) *cobra.Command {
	c := group(&cobra.Command{Use: "bench", Short: "Measure the running stack", Example: "  agentkeys bench read --clients 64 --duration 10s"})
	var clients int
	var duration time.Duration
	for _, kind := range []string{"read", "write"} {
		sub := &cobra.Command{Use: kind, Short: "Measure " + kind + "s through the custodian", Args: exactly(0, "no arguments"),
			Long:    "Measures " + kind + "s of 64-byte values as an agent (read) or the owner (write), every one authorised from proven rows,\nrecorded and verified as always. A service named bench and an agent named bench are made for it.",
			Example: "  agentkeys bench " + kind + " --clients 64 --duration 10s --json",
			RunE: func(cmd *cobra.Command, _ []string) error {
				r, err := a.bench(cmd.Context(), kind, clients, duration)
				if err != nil {
					return err
				}
				return a.data(r, func(w io.Writer) {
					fmt.Fprintf(w, "%s, %d clients, %s: %.0f/s, p50 %.2f ms, p99 %.2f ms, errors %d\n", r.Name, r.Clients, r.Pace, r.PerSecond, r.P50, r.P99, r.Errors)
					for _, n := range sortedKeys(r.Processes) {
						fmt.Fprintf(w, "  %-20s %.2f ms CPU a request, %.0f MiB\n", n, r.Processes[n].CPU, r.Processes[n].RSS)
					}
				})
			}}
		sub.Flags().IntVar(&clients, "clients", 64, "clients at once")
		sub.Flags().DurationVar(&duration, "duration", 10*time.Second, "how long")
		c.AddCommand(sub)
	}
	c.AddCommand(benchUse(a), benchRotate(a), benchRewrap(a))
	return c
}

func sortedKeys[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// bench prepares the sessions, runs the load and sums it up.
func (a *app) bench(ctx context.Context, kind string, clients int, duration time.Duration) (benchResult, error) {
	if clients < 1 || clients > 4096 || duration <= 0 {
		return benchResult{}, usageError{errors.New("bench: want 1 to 4096 clients and a duration")}
	}
	owner, err := a.owner(ctx)
	if err != nil {
		return benchResult{}, err
	}
	op, err := a.benchWrite(owner)
	if kind == "read" {
		op, err = a.benchRead(ctx, owner)
	}
	if err != nil {
		return benchResult{}, err
	}
	p, err := a.loadProfile()
	if err != nil {
		return benchResult{}, err
	}
	stack := stackProcesses(p.Dev)
	before := costs(stack)
	r := load(ctx, clients, duration, op)
	r.Name, r.Pace = kind, "timeout_commit 0, 1 validator"
	r.Processes = perRequest(before, costs(stack), r.Count)
	return r, ctx.Err()
}

func (a *app) benchValue() credential.Credential {
	b := make([]byte, 64)
	rand.Read(b)
	return credential.Credential{Secret: agentkeys.NewSecret(b), Kind: credential.Other}
}

// benchRead makes sure that agent bench may read service bench.
func (a *app) benchRead(ctx context.Context, owner *client.Client) (func(context.Context, int) error, error) {
	_, err := owner.Write(ctx, "bench", agentkeys.Wallet{}, a.benchValue(), statement.IdleCarry, 0, nil)
	if err != nil && api.CodeOf(err) != "conflict" && api.CodeOf(err) != "presence_required" {
		return nil, err
	}
	if _, _, err := a.admit(ctx, "bench", 24*time.Hour); err != nil {
		return nil, err
	}
	if _, err := a.grant(ctx, "bench", "bench", statement.ModeReveal, false, time.Hour); err != nil {
		return nil, err
	}
	c, err := a.agentSession(ctx, "bench", 0)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ int) error {
		v, err := c.Read(ctx, "bench", agentkeys.Wallet{}, nil)
		if err == nil {
			v.Secret.Wipe()
		}
		return err
	}, nil
}

// benchWrite stores new services, each in a slot of its own.
func (a *app) benchWrite(owner *client.Client) (func(context.Context, int) error, error) {
	run := make([]byte, 4)
	rand.Read(run)
	return func(ctx context.Context, n int) error {
		name := agentkeys.Service(fmt.Sprintf("bench-%x-%d", run, n))
		_, err := owner.Write(ctx, name, agentkeys.Wallet{}, a.benchValue(), statement.IdleCarry, 0, nil)
		return err
	}, nil
}

// load runs op from all clients until the time is over.
func load(ctx context.Context, clients int, duration time.Duration, op func(context.Context, int) error) benchResult {
	ctx, cancel := context.WithTimeout(ctx, duration+30*time.Second)
	defer cancel()
	var mu sync.Mutex
	var times []time.Duration
	r := benchResult{Clients: clients, Codes: map[string]int{}}
	began := time.Now()
	end := began.Add(duration)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			var mine []time.Duration
			errs := map[string]int{}
			for n := i; time.Now().Before(end) && ctx.Err() == nil; n += clients {
				at := time.Now()
				if err := op(ctx, n); err != nil {
					errs[orID(api.CodeOf(err), "error")]++
					continue
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			for k, v := range errs {
				r.Codes[k] += v
				r.Errors += v
			}
		})
	}
	wg.Wait()
	r.Seconds, r.Count = time.Since(began).Seconds(), len(times)
	r.PerSecond = float64(r.Count) / r.Seconds
	slices.Sort(times)
	if len(times) > 0 {
		r.P50 = float64(times[len(times)/2].Microseconds()) / 1000
		r.P99 = float64(times[len(times)*99/100].Microseconds()) / 1000
	}
	return r
}

// cost is what a process has used so far.
type cost struct {
	ticks uint64
	rss   float64
}

// stackProcesses finds the programs of the development stack in dir, and this one, in
// /proc; elsewhere there are none.
func stackProcesses(dir string) map[string]string {
	self := strconv.Itoa(os.Getpid())
	out := map[string]string{self: "agentkeys bench"}
	supervisor, err := devstack.Running(dir)
	if dir == "" || err != nil || supervisor == 0 {
		return out
	}
	below := map[string]bool{strconv.Itoa(supervisor): true}
	for range 4 { // supervisor, servers, the operator's rotator, which starts itself again
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return out
		}
		for _, e := range entries {
			if f := procStat(e.Name()); len(f) > 1 && below[f[1]] {
				below[e.Name()] = true
			}
		}
	}
	for pid := range below {
		if exe, err := os.Readlink("/proc/" + pid + "/exe"); err == nil {
			out[pid] = strings.TrimSuffix(exe[strings.LastIndexByte(exe, '/')+1:], " (deleted)")
		}
	}
	return out
}

func costs(processes map[string]string) map[string]cost {
	out := map[string]cost{}
	for pid, name := range processes {
		c := readCost(pid)
		out[name] = cost{out[name].ticks + c.ticks, out[name].rss + c.rss} // the rotator is two processes
	}
	return out
}

// procStat gives the fields after the name: state, parent, ...
func procStat(pid string) []string {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

func readCost(pid string) (c cost) {
	if f := procStat(pid); len(f) > 21 {
		user, _ := strconv.ParseUint(f[11], 10, 64)
		system, _ := strconv.ParseUint(f[12], 10, 64)
		pages, _ := strconv.ParseFloat(f[21], 64)
		c.ticks, c.rss = user+system, pages*float64(os.Getpagesize())/(1<<20)
	}
	return c
}

const msPerTick = 10 // USER_HZ is 100 on Linux

func perRequest(before, after map[string]cost, n int) map[string]processCost {
	out := map[string]processCost{}
	for name, c := range after {
		p := processCost{RSS: c.rss}
		if n > 0 && c.ticks >= before[name].ticks {
			p.CPU = float64(c.ticks-before[name].ticks) * msPerTick / float64(n)
		}
		out[name] = p
	}
	return out
}
