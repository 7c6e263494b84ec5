package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"example.org/agentkeys"
)

// working is scribe at work: calls through the proxy, and one stream.
type working struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
}

func (d *demo) startWork(ctx context.Context) (*working, error) {
	w := &working{cmd: d.prepare(ctx, "run", "--with", "github", "--agent", "scribe", "--", d.self, "demo-agent", "https://"+githubHost)}
	stdin, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	w.stdin, w.cmd.Stdout = stdin, &w.out
	return w, w.cmd.Start()
}

// end lets the agent finish and gives its own account.
func (w *working) end() (r struct {
	Granted, Refused, Ticks int
	StreamCut               bool `json:"stream_cut"`
}, err error) {
	_ = w.stdin.Close()
	err = errors.Join(w.cmd.Wait(), json.Unmarshal(w.out.Bytes(), &r))
	return r, err
}

// revoke takes scribe's access away while it works, then biller's, and replaces what
// was seen.
func (d *demo) revoke(ctx context.Context) error {
	work, err := d.startWork(ctx)
	if err != nil {
		return err
	}
	ready := func() bool { return len(d.upstream.granted) >= 100 && d.upstream.streams == 1 }
	if err := d.upstream.until(ctx, ready); err != nil {
		return errors.Join(errors.New("demo: scribe does not get to work"), err)
	}
	out, err := d.must(ctx, "", "agent", "revoke", "scribe", "--json")
	d.ack = time.Now()
	if err != nil {
		return err
	}
	var first, second revoked
	if err := json.Unmarshal([]byte(out), &first); err != nil {
		return err
	}
	time.Sleep(400 * time.Millisecond)
	agent, err := work.end()
	if err != nil {
		return err
	}
	if out, err = d.must(ctx, "", "agent", "revoke", "biller", "--json"); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), &second); err != nil {
		return err
	}
	after, before := d.upstream.grantedAfter(d.ack)
	d.check(before > 0 && after == 0 && agent.Refused > 0 && agent.StreamCut && d.upstream.streamsCut() == 1, "5 REVOKE",
		fmt.Sprintf("scribe and biller, at %d calls/s: acknowledged %.0f ms, granted after %d, streams cut %d", callsPerSecond, first.Millis, after, d.upstream.streamsCut()),
		fmt.Sprintf("granted before %d, refused since %d", before, agent.Refused))
	return d.replaceSeen(ctx, first, second, agent.Granted)
}

// replaceSeen holds the list of what to replace against what was done: scribe has
// used github and seen nothing, biller has seen billing.
func (d *demo) replaceSeen(ctx context.Context, scribe, biller revoked, granted int) error {
	rows := map[string]seenRow{}
	for _, r := range append(scribe.Replace, biller.Replace...) {
		rows[r.Service] = r
	}
	say := func(name string) string {
		r := rows[name]
		if r.Seen == 0 {
			return fmt.Sprintf("%s no (used %d, seen 0)", name, r.Used)
		}
		return fmt.Sprintf("%s YES (seen %d, %s)", name, r.Seen, r.Versions)
	}
	d.check(rows["github"].Seen == 0 && rows["github"].Used >= granted && rows["openai"].Seen == 0 && rows["billing"].Seen > 0, "",
		"replace upstream: "+say("github")+"  "+say("openai")+"  "+say("billing"), "")
	d.values["billing"] = token("bill_")
	d.upstream.accept(billingHost, d.values["billing"])
	out, errOut, code := d.cli(ctx, d.values["billing"], "replace", "billing", "--host", billingHost, "--check", "https://"+billingHost+"/user")
	d.check(code == 0 && strings.HasPrefix(out, "billing v"), "", "agentkeys replace billing --check -> "+strings.Join(strings.Fields(out+errOut), " "), "")
	return nil
}

func (d *demo) rotate(ctx context.Context) error {
	began := time.Now()
	for {
		l, err := d.listing(ctx)
		if err != nil {
			return err
		}
		active := activeEpoch(l)
		if active > 1 && len(l.Epochs) == 1 && l.Due <= active {
			left := d.objectsOf(1)
			d.check(l.Epochs[0].Live == 3 && left == 0, "6 ROTATE", fmt.Sprintf("set off by the revokes: epoch 1 -> %d, 3 re-sealed; share erased, store empty, epochs 1-%d DESTROYED", active, active-1), fmt.Sprintf("%.1f s, of it the grace", time.Since(d.ack).Seconds()))
			return nil
		}
		if time.Since(began) > 45*time.Second {
			return fmt.Errorf("demo: the epochs are not destroyed after 45 s: %+v", l.Epochs)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// objectsOf counts what the store still has of an epoch.
func (d *demo) objectsOf(epoch agentkeys.Epoch) (n int) {
	pattern := d.path("dev", "cloud", "objects", "agentkeys-vault-dev", "0x*", epoch.String(), "*", "*.enc")
	names, err := filepath.Glob(pattern)
	if err != nil {
		return -1
	}
	return len(names)
}
