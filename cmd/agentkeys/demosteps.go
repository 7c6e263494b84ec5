package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/internal/thief"
	"example.org/agentkeys/statement"
)

// token makes a value that looks like the service's keys.
func token(prefix string) string {
	b := make([]byte, 18)
	rand.Read(b)
	return prefix + hex.EncodeToString(b)
}

func (d *demo) store(ctx context.Context) error {
	if _, err := d.must(ctx, "", "init"); err != nil {
		return err
	}
	d.values["github"], d.values["openai"], d.values["billing"] = token("ghp_"), token("sk-"), token("bill_")
	if _, err := d.must(ctx, d.values["github"]+"\n", "store", "github", "--host", "api.github.test"); err != nil {
		return err
	}
	for name, text := range map[string]string{"openai.txt": d.values["openai"] + "\n", "demo.env": "BILLING_TOKEN='" + d.values["billing"] + "'\n"} {
		if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if _, err := d.must(ctx, "", "store", "openai", "--file", d.path("openai.txt"), "--host", "api.openai.test"); err != nil {
		return err
	}
	if _, err := d.must(ctx, "", "import", d.path("demo.env")); err != nil {
		return err
	}
	for _, name := range []string{"openai.txt", "demo.env"} {
		if err := os.Remove(d.path(name)); err != nil {
			return err
		}
	}
	found, err := d.canary()
	if err != nil {
		return err
	}
	d.check(found == "", "1 STORE", "owner: github (stdin) openai (file) billing (.env)", "no value in any file, log or object "+found)
	return nil
}

// canary looks for a stored value in everything the system has written.
func (d *demo) canary() (found string, err error) {
	err = filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it may vanish while a process works on it
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for name, v := range d.values {
			if bytes.Contains(b, []byte(v)) {
				found = name + " in " + path
			}
		}
		return nil
	})
	return found, err
}

func (d *demo) agents(ctx context.Context) error {
	for _, args := range [][]string{{"agent", "add", "scribe"}, {"agent", "add", "biller"}, {"grant", "github", "--to", "scribe", "--reveal"},
		{"grant", "openai", "--to", "scribe", "--reveal"}, {"grant", "billing", "--to", "biller", "--reveal"}} {
		if _, err := d.must(ctx, "", args...); err != nil {
			return err
		}
	}
	l, err := d.listing(ctx)
	if err != nil {
		return err
	}
	d.check(len(l.Grants) == 3 && l.Complete, "2 AGENT", "scribe may read github, openai for 1 h; biller may read billing", fmt.Sprintf("signed by the owner, block %d", l.Height))
	return nil
}

func (d *demo) listing(ctx context.Context) (l api.Listing, err error) {
	out, err := d.must(ctx, "", "list", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &l)
	}
	return l, err
}

func (d *demo) use(ctx context.Context) error {
	for _, u := range []struct{ agent, service, variable string }{{"scribe", "github", "GITHUB_TOKEN"}, {"biller", "billing", "BILLING_TOKEN"}} {
		out, errOut, code := d.cli(ctx, "", "run", "--env", u.service, "--agent", u.agent, "--", "sh", "-c", `printf %s "$`+u.variable+`"`)
		label := ""
		if u.agent == "scribe" {
			label = "3 USE"
		}
		d.check(code == 0 && out == d.values[u.service], label, fmt.Sprintf("%s: run --env %s -- sh  -> the command has $%s  %s", u.agent, u.service, u.variable, strings.TrimSpace(errOut)), "recorded as SEEN")
	}
	return copyDir(d.path("dev", "anchor"), d.path("anchor-copy"))
}

func copyDir(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, f.Name()), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// steal tries what an agent, a stranger and a foreign agent can type.
func (d *demo) steal(ctx context.Context) error {
	worked := 0
	var ways []string
	try := func(name string, stolen bool) {
		ways = append(ways, name)
		if stolen {
			worked++
			ways[len(ways)-1] += "(!)"
		}
	}
	out, _, code := d.cli(ctx, "", "read", "billing", "--reveal", "--agent", "scribe")
	try("another's key", code == 0 || strings.Contains(out, d.values["billing"]))
	out, _, code = d.cli(ctx, "", "run", "--env", "github", "--agent", "scribe", "--", d.self, "read", "github", "--reveal")
	try("read as the owner inside run", code == 0 || strings.Contains(out, d.values["github"]))
	ok, err := d.stranger(ctx)
	if err != nil {
		return err
	}
	try("a stranger's wallet", ok)
	if ok, err = d.tokenWithoutKey(ctx); err != nil {
		return err
	}
	try("a stolen token without its key", ok)
	if ok, err = d.anonymousStore(ctx); err != nil {
		return err
	}
	try("the bucket without a session", ok)
	if ok, err = d.forgedGrant(ctx); err != nil {
		return err
	}
	try("a grant signed by another", ok)
	d.check(worked == 0, "4 STEAL", "tried "+strings.Join(ways, ", ")+":", fmt.Sprintf("%d of %d worked", worked, len(ways)))
	return nil
}

func (d *demo) dial() (*client.Client, agentkeys.VaultID, error) {
	vault, err := agentkeys.ParseVaultID(d.cfg.VaultID)
	if err != nil {
		return nil, vault, err
	}
	c, err := client.Dial(client.Endpoint{URL: d.cfg.API(), Pin: d.cfg.Custodian.Pin, Vault: vault})
	return c, vault, err
}

func (d *demo) app() *app { return &app{home: d.dir, profileName: "default"} }

func (d *demo) stranger(ctx context.Context) (bool, error) {
	c, _, err := d.dial()
	if err != nil {
		return false, err
	}
	k, err := eip712.NewKey()
	if err != nil {
		return false, err
	}
	owner, err := d.app().userWallet()
	if err != nil {
		return false, err
	}
	return c.Login(ctx, k, owner, 0) == nil, nil
}

// tokenWithoutKey shows the owner's token from another client.
func (d *demo) tokenWithoutKey(ctx context.Context) (bool, error) {
	var s client.State
	if err := d.app().readJSON(&s, "sessions", "default.json"); err != nil {
		return false, err
	}
	rand.Read(s.Key)
	c, _, err := d.dial()
	if err != nil {
		return false, err
	}
	if err := c.Resume(s); err != nil {
		return false, err
	}
	_, err = c.List(ctx)
	return err == nil, nil
}

func (d *demo) anonymousStore(ctx context.Context) (bool, error) {
	for name := range d.rec.Objects() {
		if !strings.HasSuffix(name, ".enc") {
			continue
		}
		u := fmt.Sprintf("http://127.0.0.1:%d/agentkeys-vault-dev/%s", d.cfg.Ports.S3, name)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	}
	return false, errors.New("demo: the store holds no object to steal")
}

// forgedGrant sends the relay a statement for the owner, signed by somebody else.
func (d *demo) forgedGrant(ctx context.Context) (bool, error) {
	_, vault, err := d.dial()
	if err != nil {
		return false, err
	}
	thiefKey, err := eip712.NewKey()
	if err != nil {
		return false, err
	}
	owner, err := d.app().userWallet()
	if err != nil {
		return false, err
	}
	wire, err := thiefKey.SignStatement(vault, statement.AdmitAgent{User: owner, Agent: thiefKey.Wallet(), Role: statement.RoleAgent, Expires: uint64(time.Now().Add(time.Hour).Unix())})
	if err != nil {
		return false, err
	}
	body, err := json.Marshal(api.Relay{Wires: [][]byte{wire}})
	if err != nil {
		return false, err
	}
	var out api.Relayed
	if err := api.Call(ctx, http.DefaultClient, http.MethodPost, d.cfg.Relay()+api.PathRelay, nil, body, &out); err != nil {
		return false, err
	}
	return len(out.Results) != 1 || out.Results[0].Name == "ok", nil
}

// readers read as an agent, about 200 times a second together, and count what is
// granted after the acknowledgement.
type readers struct {
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	granted atomic.Uint64
	after   atomic.Uint64
	acked   atomic.Int64 // unix nanoseconds, 0 = not yet
}

func startReaders(ctx context.Context, c *client.Client, name agentkeys.Service) *readers {
	ctx, cancel := context.WithCancel(ctx)
	r := &readers{cancel: cancel}
	for range 8 {
		r.wg.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				v, err := c.Read(ctx, name, agentkeys.Wallet{}, nil)
				if err == nil {
					v.Secret.Wipe()
					r.granted.Add(1)
					if at := r.acked.Load(); at != 0 && began.UnixNano() > at {
						r.after.Add(1)
					}
				}
				select {
				case <-ctx.Done():
				case <-time.After(40*time.Millisecond - time.Since(began)):
				}
			}
		})
	}
	return r
}

func (r *readers) stop() { r.cancel(); r.wg.Wait() }

func (d *demo) revoke(ctx context.Context) error {
	a := d.app()
	a.profileName = "default"
	c, err := a.agentSession(ctx, "scribe", 0)
	if err != nil {
		return err
	}
	r := startReaders(ctx, c, "github")
	defer r.stop()
	time.Sleep(600 * time.Millisecond)
	before := r.granted.Load()
	out, err := d.must(ctx, "", "agent", "revoke", "scribe", "--json")
	r.acked.Store(time.Now().UnixNano())
	d.ack = time.Now()
	if err != nil {
		return err
	}
	var first revoked
	if err := json.Unmarshal([]byte(out), &first); err != nil {
		return err
	}
	time.Sleep(400 * time.Millisecond)
	r.stop()
	if out, err = d.must(ctx, "", "agent", "revoke", "biller", "--json"); err != nil {
		return err
	}
	var second revoked
	if err := json.Unmarshal([]byte(out), &second); err != nil {
		return err
	}
	d.check(before > 0 && r.after.Load() == 0, "5 REVOKE", fmt.Sprintf("scribe at %.0f calls/s: acknowledged %.0f ms, granted after %d", float64(before)/0.6, first.Millis, r.after.Load()), fmt.Sprintf("granted before %d", before))
	seen := func(r revoked) (s []string) {
		for _, row := range r.Replace {
			s = append(s, fmt.Sprintf("%s YES (seen %d, %s)", row.Service, row.Seen, row.Versions))
		}
		return s
	}
	ok := len(first.Replace) == 1 && first.Replace[0].Service == "github" && len(second.Replace) == 1 && second.Replace[0].Service == "billing"
	d.check(ok, "", "replace upstream: "+strings.Join(append(seen(first), seen(second)...), "  ")+"  openai no (seen 0)", "")
	d.values["billing"] = token("bill_")
	out, err = d.must(ctx, d.values["billing"], "replace", "billing")
	d.check(err == nil && strings.HasPrefix(out, "billing v"), "", "agentkeys replace billing -> "+strings.TrimSpace(out), "")
	return err
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

func (d *demo) thief(ctx context.Context) error {
	vault, err := agentkeys.ParseVaultID(d.cfg.VaultID)
	if err != nil {
		return err
	}
	user, err := d.app().userWallet()
	if err != nil {
		return err
	}
	id, err := hex.DecodeString(d.cfg.Anchor)
	if err != nil {
		return err
	}
	l := thief.Loot{Vault: vault, Objects: d.rec.Objects(), Anchor: erasure.AnchorID(id), AnchorDir: d.path("dev", "anchor")}
	if l.Statements, err = thief.Statements(ctx, d.cfg.RPC()); err != nil {
		return err
	}
	if l.Seed, err = thief.ReadSeed(d.path("dev", "custodian")); err != nil {
		return err
	}
	now, err := l.Open(ctx, user)
	if err != nil {
		return err
	}
	listing, err := d.listing(ctx)
	if err != nil {
		return err
	}
	live := agentkeys.Epoch(activeEpoch(listing))
	d.check(true, "7 THIEF", "every block, every object version ever, today's seed and anchor:", "")
	d.held-- // a heading
	var epochs []agentkeys.Epoch
	for e := range now {
		epochs = append(epochs, e)
	}
	slices.Sort(epochs)
	for _, e := range epochs {
		c := now[e]
		if e == live {
			d.check(c.Open == c.Ever && c.Ever >= 3, "", fmt.Sprintf("epoch %d (live) opens %d of %d", e, c.Open, c.Ever), "<- the honest bound")
		} else {
			d.check(c.Open == 0 && c.Ever > 0, "", fmt.Sprintf("epoch %d (destroyed) opens %d of %d", e, c.Open, c.Ever), "")
		}
	}
	l.AnchorDir = d.path("anchor-copy")
	before, err := l.Open(ctx, user)
	if err != nil {
		return err
	}
	c := before[1]
	d.check(c.Open == c.Ever && c.Open >= 3, "", fmt.Sprintf("control, a kept copy of the old anchor: epoch 1 opens %d of %d", c.Open, c.Ever), "this test can fail")
	return nil
}

func (d *demo) expose(ctx context.Context) error {
	out, err := d.must(ctx, "", "exposure")
	if err != nil {
		return err
	}
	d.check(strings.Contains(out, "reads 3 credentials"), "9 EXPOSE", strings.ReplaceAll(strings.TrimSpace(out), "\n", "\n         "), "")
	found, err := d.canary()
	if err != nil {
		return err
	}
	d.check(found == "", "", "stored values in any file, log or object of the whole play: none "+found, "")
	return nil
}
