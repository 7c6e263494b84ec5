package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.org/agentkeys/api"
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
	for host, name := range map[string]string{githubHost: "github", openaiHost: "openai", billingHost: "billing"} {
		d.upstream.accept(host, d.values[name])
	}
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

// agents admits two agents and the proxy, and grants: use is the rule, reveal the
// owner's exception.
func (d *demo) agents(ctx context.Context) error {
	if err := os.WriteFile(d.path("upstream.pem"), d.upstream.roots, 0o600); err != nil {
		return err
	}
	start := []string{"proxy", "start", "--upstream-ca", d.path("upstream.pem")}
	for _, host := range []string{githubHost, openaiHost, billingHost, evilHost} {
		start = append(start, "--resolve", host+":443="+d.upstream.addr)
	}
	for _, args := range [][]string{start, {"agent", "add", "scribe"}, {"agent", "add", "biller"}, {"grant", "github", "--to", "scribe"},
		{"grant", "openai", "--to", "scribe"}, {"grant", "billing", "--to", "biller", "--reveal"}} {
		if _, err := d.must(ctx, "", args...); err != nil {
			return err
		}
	}
	l, err := d.listing(ctx)
	if err != nil {
		return err
	}
	modes := map[string]string{}
	for _, g := range l.Grants {
		modes[g.Service] = g.Mode
	}
	d.check(len(l.Grants) == 3 && l.Complete && modes["github"] == "use" && modes["openai"] == "use" && modes["billing"] == "reveal",
		"2 AGENT", "scribe may use github, openai for 1 h; biller may use and see billing", fmt.Sprintf("signed by the owner, block %d", l.Height))
	return nil
}

// stopProxy ends the play's proxy; it holds no state.
func (d *demo) stopProxy() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _, _ = d.cli(ctx, "", "proxy", "stop")
}

// use has scribe call a service without holding its key, and biller hold one because
// its owner chose so.
func (d *demo) use(ctx context.Context) error {
	out, errOut, code := d.cli(ctx, "", "run", "--with", "github,openai", "--agent", "scribe", "--", "sh", "-c",
		`printf '%s\n' "$GITHUB_TOKEN"; curl -sS -w '%{http_code}' https://`+githubHost+`/user`)
	placeholder, rest, _ := strings.Cut(out, "\n")
	held := strings.Contains(out+errOut, d.values["github"]) // also as the echo of the service
	d.check(code == 0 && strings.HasSuffix(rest, "200") && !held, "3 USE",
		fmt.Sprintf("scribe: GET https://%s/user -> %s %s", githubHost, rest[max(0, len(rest)-3):], strings.TrimSpace(errOut)), "used, not held")
	d.check(strings.HasPrefix(placeholder, "ghp_") && placeholder != d.values["github"], "", "  agent sees    GITHUB_TOKEN="+placeholder, "")
	d.check(strings.HasSuffix(d.upstream.saw(githubHost), d.values["github"][len(d.values["github"])-4:]), "",
		"  upstream saw  Authorization: "+d.upstream.saw(githubHost), "")
	out, errOut, code = d.cli(ctx, "", "run", "--env", "billing", "--agent", "biller", "--", "sh", "-c",
		`printf '%s ' "$BILLING_TOKEN"; curl -sS -o /dev/null -w '%{http_code}' --cacert '`+d.path("upstream.pem")+`' --connect-to ::`+d.upstream.addr+
			` -H "Authorization: Bearer $BILLING_TOKEN" https://`+billingHost+`/user`)
	d.check(code == 0 && strings.HasSuffix(out, " 200") && !strings.Contains(out, d.values["billing"]), "",
		"biller: run --env billing -> "+out+strings.TrimSpace(errOut), "your choice, recorded as SEEN")
	return d.copyAnchors()
}

func (d *demo) listing(ctx context.Context) (l api.Listing, err error) {
	out, err := d.must(ctx, "", "list", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &l)
	}
	return l, err
}
