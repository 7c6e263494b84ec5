package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.org/agentkeys/api"
)

// journey is a person's first day, by the command alone.
func journey(t *testing.T, v *vault) {
	v.fails(t, 1, "agentkeys init", "list")
	v.must(t, "", "init")
	v.must(t, "", "init") // may be repeated
	values := map[string]string{}
	for _, s := range []string{"github", "openai", "stripe", "mail"} {
		values[s] = v.keep("token-" + s + "-5f3a9c")
	}
	outside := t.TempDir()
	write(t, filepath.Join(outside, "openai.txt"), values["openai"]+"\n")
	write(t, filepath.Join(outside, ".env"), "# mine\nexport STRIPE_SECRET_KEY='"+values["stripe"]+"'\nMAIL_PASSWORD="+values["mail"]+"\nGITHUB_TOKEN=other\n")

	storing(t, v, values, outside)
	agents(t, v, values)
	replacing(t, v, values)
	rotating(t, v, values)
}

func storing(t *testing.T, v *vault, values map[string]string, outside string) {
	if got := v.must(t, values["github"]+"\n", "store", "github", "--host", "api.github.test"); got != "github v1\n" {
		t.Errorf("store: %q", got)
	}
	v.must(t, "", "store", "openai", "--file", filepath.Join(outside, "openai.txt"))
	out, errOut, code := v.cli(t, "", "import", filepath.Join(outside, ".env"))
	if code != 0 || out != "stripe v1\nmail v1\n" || !strings.Contains(errOut, "agentkeys replace github") {
		t.Errorf("import: exit %d, %q, %q", code, out, errOut)
	}
	_, errOut, code = v.cli(t, "other", "store", "github")
	if code != 1 || !strings.Contains(errOut, "agentkeys replace github") {
		t.Errorf("store over a stored one: exit %d, %q", code, errOut)
	}
	var l api.Listing
	fromJSON(t, v.must(t, "", "list", "--json"), &l)
	if len(l.Credentials) != 4 || !l.Complete {
		t.Errorf("list: %+v", l)
	}
	for s, value := range values {
		if got := v.must(t, "", "read", s, "--reveal"); got != value+"\n" {
			t.Errorf("read %s: %q", s, got)
		}
	}
	out = v.must(t, "", "list")
	if !strings.Contains(out, "shared") || strings.Contains(out, values["mail"]) {
		t.Errorf("list: %q", out)
	}
	var order []string
	for line := range strings.Lines(out) {
		order = append(order, strings.Fields(line)[0])
	}
	if want := []string{"SERVICE", "github", "mail", "openai", "stripe"}; !slices.Equal(order, want) {
		t.Errorf("list is in the order %v, want %v", order, want)
	}
}

func agents(t *testing.T, v *vault, values map[string]string) {
	v.must(t, "", "agent", "add", "scribe", "--for", "2h")
	v.must(t, "", "grant", "github", "--to", "scribe", "--reveal")
	v.must(t, "", "grant", "mail", "--to", "scribe")
	run := []string{"run", "--env", "github", "--agent", "scribe", "--", "sh", "-c"}
	// The command has the value, and what it prints of it is covered.
	if got := v.must(t, "", append(run, `printf %s "$GITHUB_TOKEN" | sha256sum; printf %s "$GITHUB_TOKEN"`)...); got != sha(values["github"])+"  -\n"+strings.Repeat("*", len(values["github"])) {
		t.Errorf("run: %q", got)
	}
	if _, _, code := v.cli(t, "", append(run, "exit 42")...); code != 42 {
		t.Errorf("run: exit %d where the command's is 42", code)
	}
	if _, _, code := v.cli(t, "", append(run, "kill -TERM $$")...); code != 128+15 {
		t.Errorf("run: exit %d where the command died of SIGTERM", code)
	}
	out := v.must(t, "typed\n", append(run, `cat; env | grep -c "AGENTKEYS_PASSPHRASE_FILE" || true`)...)
	if out != "typed\n0\n" {
		t.Errorf("run: standard input and environment: %q", out)
	}
	self := filepath.Join(v.bin, "agentkeys")
	out, errOut, code := v.cli(t, "", append(run, self+" read github --reveal")...)
	if code != 1 || out != "" || !strings.Contains(errOut, "owner_refused") {
		t.Errorf("the owner inside run: exit %d, %q, %q", code, out, errOut)
	}
	v.fails(t, 1, "grant_missing", "read", "stripe", "--reveal", "--agent", "scribe")
	v.fails(t, 1, "use_only", "read", "mail", "--reveal", "--agent", "scribe")
	var grants []api.Grant
	fromJSON(t, v.must(t, "", "grant", "list", "--json"), &grants)
	if len(grants) != 2 || !grants[0].Live {
		t.Errorf("grant list: %+v", grants)
	}
	v.must(t, "", "grant", "revoke", "mail", "--to", "scribe")
	v.fails(t, 1, "grant_revoked", "read", "mail", "--reveal", "--agent", "scribe")
}

func replacing(t *testing.T, v *vault, values map[string]string) {
	values["github"] = v.keep("token-github-second")
	if got := v.must(t, values["github"], "replace", "github"); got != "github v2\n" {
		t.Errorf("replace: %q", got)
	}
	if got := v.must(t, "", "read", "github", "--reveal", "--agent", "scribe"); got != values["github"]+"\n" {
		t.Errorf("read after replace: %q", got)
	}
	v.must(t, "", "delete", "mail")
	v.fails(t, 1, "not_found", "read", "mail", "--reveal")
	delete(values, "mail")
	values["mail"] = v.keep("token-mail-again")
	if got := v.must(t, values["mail"], "store", "mail"); got == "mail v1\n" {
		t.Errorf("a slot deleted at version 1 came back with version 1")
	}
}

func rotating(t *testing.T, v *vault, values map[string]string) {
	var revoked struct {
		Replace []struct {
			Service string `json:"service"`
			Seen    int    `json:"seen"`
			Current bool   `json:"current"`
		} `json:"replace"`
	}
	fromJSON(t, v.must(t, "", "agent", "revoke", "scribe", "--json"), &revoked)
	if len(revoked.Replace) != 1 || revoked.Replace[0].Service != "github" || revoked.Replace[0].Seen != 6 || !revoked.Replace[0].Current {
		t.Errorf("seen by scribe: %+v", revoked)
	}
	_, errOut, code := v.cli(t, "", "read", "github", "--reveal", "--agent", "scribe")
	if code == 0 || !strings.Contains(errOut, "agent") {
		t.Errorf("a revoked agent: exit %d, %q", code, errOut)
	}
	var epochs []api.Epoch
	fromJSON(t, v.must(t, "", "epoch", "rotate", "--wait", "--json"), &epochs)
	if len(epochs) != 1 || epochs[0].Epoch < 2 || epochs[0].Live != 4 {
		t.Errorf("epochs after rotation: %+v", epochs)
	}
	for s, value := range values {
		if got := v.must(t, "", "read", s, "--reveal"); got != value+"\n" {
			t.Errorf("read %s after rotation: %q", s, got)
		}
	}
	var x struct {
		Credentials int    `json:"credentials"`
		Destroyed   uint32 `json:"destroyed_epochs"`
	}
	fromJSON(t, v.must(t, "", "exposure", "--json"), &x)
	if x.Credentials != 4 || x.Destroyed != epochs[0].Epoch-1 {
		t.Errorf("exposure: %+v with epochs %+v", x, epochs)
	}
	var audit []struct {
		Sequence uint64 `json:"sequence"`
		Agent    string `json:"agent"`
		Mode     string `json:"mode"`
	}
	fromJSON(t, v.must(t, "", "audit", "list", "--json"), &audit)
	by := map[string]int{}
	for i, r := range audit {
		by[r.Agent]++
		if i > 0 && r.Sequence <= audit[i-1].Sequence || r.Mode != "SEEN" {
			t.Errorf("audit row %d: %+v", i, r)
		}
	}
	if by["scribe"] != 6 || by["you"] != 8 {
		t.Errorf("audit: %v", by) // 4 + 4: replace reads hosts, not the value
	}
}

func fromJSON(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
}
