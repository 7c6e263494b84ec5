package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// whatAnAgentTypes plays an agent under its owner's user id that types everything there
// is, inside run, as run started it and with what marks the run taken away. It gets no
// value and changes nothing that is there. With the mark taken away it has its owner's
// session, as every program of the user id has: that stores a name which was free.
func whatAnAgentTypes(t *testing.T, p *played) {
	before := p.state(t)
	self := filepath.Join(p.bin, "agentkeys")
	write(t, p.path("agent.env"), "STOLEN=agentkeys://openai\n")
	commands := []string{
		"init", "login", "whoami", "status", "doctor", "config show --origin", "list --json", "session list", "session end 0",
		"read github --reveal", "read github --reveal --agent scribe", "read aws --reveal --slot scribe", "read github --reveal --profile default",
		"store github --file /dev/null", "replace github --host evil.test --file /etc/hostname", "replace github --check https://" + evilHost + "/",
		"delete github", "import " + p.path("agent.env"), "run --env github --agent scribe -- env", "run --with github --agent scribe -- env",
		"run --with github --env-file " + p.path("agent.env") + " -- env", "agent add thief", "agent revoke scribe", "agent remove scribe", "agent show scribe",
		"grant github --to scribe --reveal", "grant github --to scribe --for 300d", "grant revoke github --to scribe", "epoch rotate", "exposure", "audit list",
		"proxy start --resolve " + apiHost + ":443=" + p.up.addr, "proxy ca install --yes", "proxy ca remove --yes", "profile use default",
		"explain scribe https://" + apiHost, "verify --write-viewing-key " + p.path("viewing"),
		"agent list", "grant list", "epoch list", "profile list", "profile add mine " + p.path("profiles", "default.json"), "proxy status", "version",
		"logout", // last: what comes before is typed with the owner's session there
	}
	untyped(t, p, commands)
	for _, mark := range []string{"", "env -u AGENTKEYS_RUN ", "env -u AGENTKEYS_RUN -u HTTPS_PROXY -u HTTP_PROXY setsid "} {
		var script strings.Builder
		for _, c := range commands {
			script.WriteString(mark + self + " " + c + " </dev/null; ")
		}
		out, errOut, _ := p.cliEnv(t, nil, "run", "--with", "github", "--agent", "scribe", "--", "sh", "-c", script.String())
		for name, value := range p.values {
			for part := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == '\n' || r == ':' }) {
				if len(part) > 15 && strings.Contains(out+errOut, part) {
					t.Errorf("%q: an agent has the value of %s", mark, name)
				}
			}
		}
		if mark == "" && !strings.Contains(errOut, "owner_refused") {
			t.Errorf("the owner is not refused: %s", errOut)
		}
		if after := p.state(t); !slices.Equal(before, after) {
			t.Errorf("%q: an agent has made %q of %q", mark, without(after, before), without(before, after))
		}
	}
	// It goes on working as it may.
	withCurl(t, p)
}

// untyped fails for a command that the agent did not type.
func untyped(t *testing.T, p *played, commands []string) {
	t.Helper()
	// Those have nothing of the owner's, or stop and delete what every program of the user
	// id can stop and delete; bench write stores new names, as the owner's session may;
	// audit follow is audit list without an end.
	not := []string{"dev", "demo", "man", "completion", "proxy stop", "bench", "audit follow"}
	for _, name := range p.leaves(t) {
		if slices.ContainsFunc(not, func(n string) bool { return name == n || strings.HasPrefix(name, n+" ") }) {
			continue
		}
		if !slices.ContainsFunc(commands, func(c string) bool { return c == name || strings.HasPrefix(c, name+" ") }) {
			t.Errorf("nobody tried what an agent gets from: agentkeys %s", name)
		}
	}
}

func without(lines, others []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return slices.Contains(others, l) })
}

// state is what only the owner may change: versions of what is stored, grants, agents.
func (p *played) state(t *testing.T) (lines []string) {
	t.Helper()
	var l struct {
		Credentials, Grants, Agents []map[string]any
	}
	if err := json.Unmarshal([]byte(p.must(t, "", "list", "--json")), &l); err != nil {
		t.Fatal(err)
	}
	for _, rows := range [][]map[string]any{l.Credentials, l.Grants, l.Agents} {
		for _, r := range rows {
			if r["service"] == "stolen" {
				continue // the name that an agent imports
			}
			delete(r, "last_read")
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, string(b))
		}
	}
	slices.Sort(lines)
	return lines
}
