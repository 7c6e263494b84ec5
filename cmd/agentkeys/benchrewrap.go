package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/internal/devstack"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

// benchRewrapped is a measurement of a new shielding key.
type benchRewrapped struct {
	Name      string             `json:"name"`
	Pace      string             `json:"pace"`
	Count     int                `json:"count"` // data keys
	Seconds   float64            `json:"seconds"`
	PerSecond float64            `json:"per_second"`
	Crypto    float64            `json:"cpu_seconds"` // of the custodian's cryptography
	CPU       map[string]float64 `json:"process_cpu_seconds"`
	RSS       map[string]float64 `json:"rss_mib"`
}

func benchRewrap(a *app) *cobra.Command {
	var count int
	c := &cobra.Command{Use: "rewrap", Short: "Measure a new shielding key over many users", Args: exactly(0, "no arguments"),
		Long: "Enrols as many users as are missing to --count, straight at the node, and waits for their first epochs. Then it begins\n" +
			"the next shielding key and measures until every live data key is wrapped under it. On a development stack only.",
		Example: "  agentkeys bench rewrap --count 10000 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.benchRewrap(cmd.Context(), count)
			if err != nil {
				return err
			}
			return a.data(r, func(w io.Writer) {
				fmt.Fprintf(w, "rewrap, %d data keys, %s: %.1f s (%.0f/s)\n", r.Count, r.Pace, r.Seconds, r.PerSecond)
				fmt.Fprintf(w, "  %-30s %.2f s CPU\n", "cryptography of the custodian", r.Crypto)
				for _, n := range sortedKeys(r.CPU) {
					fmt.Fprintf(w, "  %-30s %.1f s CPU, %.0f MiB\n", n, r.CPU[n], r.RSS[n])
				}
			})
		}}
	c.Flags().IntVar(&count, "count", 1000, "users")
	return c
}

func (a *app) benchRewrap(ctx context.Context, count int) (r benchRewrapped, err error) {
	if count < 1 || count > 100_000 {
		return r, usageError{errors.New("bench rewrap: want --count 1 to 100000")}
	}
	if err := outsideRun(); err != nil {
		return r, err
	}
	p, err := a.loadProfile()
	if err != nil {
		return r, err
	}
	if p.Dev == "" {
		return r, usageError{errors.New("bench rewrap: the profile is not of a development stack; start one: agentkeys dev start")}
	}
	b := &crowd{dir: p.Dev, progress: a.err}
	if b.cfg, err = devstack.ReadConfig(p.Dev); err != nil {
		return r, err
	}
	token, err := os.ReadFile(filepath.Join(p.Dev, "custodian", "operator.token"))
	if err != nil {
		return r, err
	}
	lines := strings.Fields(string(token))
	b.token = lines[len(lines)-1]
	if err := b.grow(ctx, count); err != nil {
		return r, err
	}
	idle, err := b.shielding(ctx, false)
	if err != nil {
		return r, err
	}
	before := costs(stackProcesses(p.Dev))
	began := time.Now()
	s, err := b.shielding(ctx, true)
	if err != nil {
		return r, err
	}
	if err := b.look(ctx); err != nil {
		return r, err
	}
	last, err := b.until(ctx, "wrapped anew", func(s api.Shielding) int { return s.Live - s.Behind }, s.Live)
	if err != nil {
		return r, err
	}
	r = benchRewrapped{Name: "rewrap", Pace: "timeout_commit 0, 1 validator", Count: s.Live, Seconds: time.Since(began).Seconds(),
		Crypto: last.CryptoSeconds - idle.CryptoSeconds,
		CPU:    map[string]float64{}, RSS: map[string]float64{}}
	r.PerSecond = float64(r.Count) / r.Seconds
	for name, c := range costs(stackProcesses(p.Dev)) {
		if c.ticks >= before[name].ticks {
			r.CPU[name], r.RSS[name] = float64(c.ticks-before[name].ticks)*msPerTick/1000, c.rss
		}
	}
	return r, nil
}

// crowd is a development stack with many users.
type crowd struct {
	dir, token string
	cfg        devstack.Config
	progress   io.Writer
}

// grow enrols what is missing to count and waits until each has an epoch.
func (b *crowd) grow(ctx context.Context, count int) error {
	s, err := b.shielding(ctx, false)
	if err != nil {
		return err
	}
	vault, err := b.cfg.Vault()
	if err != nil {
		return err
	}
	sender, err := devstack.AuthoritySender(b.dir, b.cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = sender.Run(ctx)
	}()
	defer func() {
		stop()
		<-ended
	}()
	for have := s.Live; have < count; {
		var wires [][]byte
		for range min(256, count-have) {
			key, err := eip712.NewKey()
			if err != nil {
				return err
			}
			wire, err := key.SignStatement(vault, statement.Enrol{User: key.Wallet()})
			if err != nil {
				return err
			}
			wires = append(wires, wire)
		}
		_, results, err := sender.Send(ctx, ledger.MsgSubmit, wires)
		if err != nil {
			return err
		}
		for _, r := range results {
			if c := rules.Code(r.Code); !c.Done() {
				return fmt.Errorf("enrol: %s: %s", c, r.Reason)
			}
		}
		have += len(wires)
		fmt.Fprintf(b.progress, "%d of %d users enrolled\n", have, count)
	}
	if s.Live >= count {
		return nil
	}
	if err := b.look(ctx); err != nil {
		return err
	}
	_, err = b.until(ctx, "have an epoch", func(s api.Shielding) int { return s.Live }, count)
	return err
}

func (b *crowd) until(ctx context.Context, what string, done func(api.Shielding) int, count int) (s api.Shielding, err error) {
	for last := -1; ; {
		if s, err = b.shielding(ctx, false); err != nil {
			return s, err
		}
		if n := done(s); n != last {
			fmt.Fprintf(b.progress, "%d of %d %s\n", n, count, what)
			last = n
		}
		if last >= count {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (b *crowd) look(ctx context.Context) error {
	return api.Call(ctx, http.DefaultClient, http.MethodPost, b.cfg.Relay()+"/v1/look", nil, []byte(`{"user":""}`), nil)
}

func (b *crowd) shielding(ctx context.Context, begin bool) (s api.Shielding, err error) {
	h := http.Header{"Authorization": {"Bearer " + b.token}}
	body := fmt.Appendf(nil, `{"begin":%t}`, begin)
	return s, api.Call(ctx, http.DefaultClient, http.MethodPost, b.cfg.CustodianForOperator()+api.PathShielding, h, body, &s)
}
