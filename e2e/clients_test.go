package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Hosts of the services that the clients call. Each has one credential.
const (
	apiHost   = "api.github.test"
	gitHost   = "git.github.test"
	chatHost  = "api.openai.test"
	queryHost = "maps.query.test"
	tokenHost = "api.header.test"
	awsHost   = "sts.aws.test"
	s3Host    = "s3.aws.test"
	evilHost  = "evil.test"
)

// played is the stack with a proxy, an agent scribe, and services that scribe may use.
type played struct {
	*vault
	up     *upstream
	values map[string]string
	tools  string // AGENTKEYS_CLIENTS: the folder of scripts/clients.sh
}

// TestClients calls real services over TLS with the clients that people's agents use,
// each as "agentkeys run" starts it: the service sees the key, the client never does.
func TestClients(t *testing.T) {
	p := play(t)
	for name, part := range map[string]func(*testing.T, *played){
		"curl": withCurl, "git": withGit, "requests": withRequests, "httpx": withHTTPX, "node fetch": withFetch, "openai": withOpenAI,
		"aws cli": withAWS, "go": withGo, "web socket": withWebSocket, "query and header": withQueryAndHeader, "what an agent types": whatAnAgentTypes,
	} {
		t.Run(name, func(t *testing.T) { part(t, p) })
	}
}

func play(t *testing.T) *played {
	t.Helper()
	p := &played{vault: start(t), tools: os.Getenv("AGENTKEYS_CLIENTS"), values: map[string]string{}}
	hosts := []string{apiHost, gitHost, chatHost, queryHost, tokenHost, awsHost, s3Host, evilHost}
	p.up = newUpstream(t, hosts...)
	repos := t.TempDir()
	for name, value := range map[string]string{"github": "ghp_0123456789abcdefghijABCDEFGHIJ012345", "git": "x-access-token:ghp_gitgitgitgitgitgit",
		"openai": "sk-proj-0123456789abcdefghijklmnop", "maps": "AIzaSyA-0123456789-abcdefghijklmnopqrstu", "header": "tok_0123456789abcdef",
		"aws": "AKIAREALREALREALREAL\nSecretSecretSecretSecretSecretSecretSecr"} {
		p.values[name] = value
		p.keep(value)
	}
	p.up.serve(apiHost, bearerIs(p.values["github"]), handler(map[string]any{"/ws": words, "/": echo}))
	p.up.serve(gitHost, basicIs("x-access-token", "ghp_gitgitgitgitgitgit"), gitServer(t, repos))
	p.up.serve(chatHost, bearerIs(p.values["openai"]), handler(map[string]any{"/": chat}))
	p.up.serve(queryHost, queryIs("key", p.values["maps"]), handler(map[string]any{"/": echo}))
	p.up.serve(tokenHost, headerIs("X-Api-Key", "tok_0123456789abcdef"), handler(map[string]any{"/": echo}))
	id, secret, _ := strings.Cut(p.values["aws"], "\n")
	p.up.serve(awsHost, signedBy(id, secret), handler(map[string]any{"/": callerIdentity}))
	p.up.serve(s3Host, signedBy(id, secret), newBucket())
	if out, err := exec.Command("git", "init", "--bare", "-q", "-b", "main", filepath.Join(repos, "r.git")).CombinedOutput(); err != nil {
		t.Fatalf("git: %v %s", err, out)
	}
	if out, err := exec.Command("git", "-C", filepath.Join(repos, "r.git"), "config", "http.receivepack", "true").CombinedOutput(); err != nil {
		t.Fatalf("git: %v %s", err, out)
	}
	p.must(t, "", "init")
	for _, c := range [][]string{{"github", "--host", apiHost}, {"git", "--host", gitHost, "--kind", "basic"}, {"openai", "--host", chatHost},
		{"maps", "--host", queryHost, "--kind", "query", "--header", "key"}, {"header", "--host", tokenHost, "--kind", "header", "--header", "X-Api-Key: {secret}"},
		{"aws", "--host", awsHost, "--host", s3Host, "--kind", "sigv4"}} {
		p.must(t, p.values[c[0]], append([]string{"store"}, c...)...)
	}
	args := []string{"proxy", "start", "--upstream-ca", p.up.pem}
	for _, h := range hosts {
		args = append(args, "--resolve", h+":443="+p.up.addr)
	}
	p.must(t, "", args...)
	t.Cleanup(func() { p.must(t, "", "proxy", "stop") })
	p.must(t, "", "agent", "add", "scribe")
	for name := range p.values {
		p.must(t, "", "grant", name, "--to", "scribe")
	}
	return p
}

// run starts a client as scribe. Nothing of the value may be in what it prints.
func (p *played) run(t *testing.T, service string, env []string, command ...string) string {
	t.Helper()
	out, errOut, code := p.cliEnv(t, env, append([]string{"run", "--with", service, "--agent", "scribe", "--"}, command...)...)
	for _, part := range strings.FieldsFunc(p.values[service], func(r rune) bool { return r == '\n' || r == ':' }) {
		if len(part) > 15 && strings.Contains(out+errOut, part) {
			t.Errorf("the client has the value: %s", out)
		}
	}
	if code != 0 {
		t.Fatalf("%v: exit %d\n%s\n%s", command, code, out, errOut)
	}
	return out
}

// tool is a program that scripts/clients.sh brings.
func (p *played) tool(t *testing.T, paths ...string) string {
	t.Helper()
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			path = filepath.Join(p.tools, path)
		}
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	if p.tools != "" {
		t.Fatalf("%s is missing, though AGENTKEYS_CLIENTS is set", paths[0])
	}
	t.Skipf("needs %s: scripts/clients.sh DIR, then AGENTKEYS_CLIENTS=DIR", paths[0])
	return ""
}

func withCurl(t *testing.T, p *played) {
	curl := p.tool(t, "/usr/bin/curl")
	before, refused := p.up.count(apiHost)
	defer func() {
		if granted, now := p.up.count(apiHost); granted < before+4 || now != refused {
			t.Errorf("the service saw its key %d times and something else %d times", granted-before, now-refused)
		}
	}()
	out := p.run(t, "github", nil, curl, "-sS", "-i", "--fail", "https://"+apiHost+"/user")
	if !strings.Contains(out, "200") || !strings.Contains(out, "you_sent") {
		t.Errorf("answered %q", out)
	}
	// A client that brings the placeholder itself, as most do.
	out = p.run(t, "github", nil, "sh", "-c", curl+` -sS --fail --http1.1 -H "authorization: Bearer $GITHUB_TOKEN" -H "Authorization: two" https://`+apiHost+`/user`)
	if !strings.Contains(out, `"bytes":0`) {
		t.Errorf("answered %q", out)
	}
	// 64 MiB go through in both versions of HTTP.
	for _, version := range []string{"--http1.1", "--http2"} {
		out = p.run(t, "github", nil, "sh", "-c", "head -c 67108864 /dev/zero | "+curl+" -sS --fail "+version+" -T - https://"+apiHost+"/upload")
		if !strings.Contains(out, `"bytes":67108864`) {
			t.Errorf("%s: answered %q", version, out)
		}
	}
}

func withGit(t *testing.T, p *played) {
	p.tool(t, "/usr/bin/git")
	dir := t.TempDir()
	script := `set -e; cd ` + dir + `; git clone -q https://` + gitHost + `/r.git work; cd work; git checkout -q -b main 2>/dev/null || true
git -c user.name=Scribe -c user.email=scribe@agent.test commit -q --allow-empty -m one; git push -q origin HEAD:main
cd ..; git clone -q https://` + gitHost + `/r.git again; git -C again log --format=%s`
	if out := p.run(t, "git", []string{"GIT_TERMINAL_PROMPT=0", "HOME=" + dir}, "sh", "-c", script); strings.TrimSpace(out) != "one" {
		t.Errorf("the log is %q", out)
	}
}

func python(t *testing.T, p *played, module string) string {
	t.Helper()
	py := p.tool(t, "/usr/bin/python3")
	if out, err := exec.Command(py, "-c", "import "+module).CombinedOutput(); err != nil {
		if p.tools != "" {
			t.Fatalf("%s is missing, though AGENTKEYS_CLIENTS is set: %s", module, out)
		}
		t.Skipf("needs python3-%s", module)
	}
	return py
}

func withRequests(t *testing.T, p *played) {
	out := p.run(t, "github", nil, python(t, p, "requests"), "-c", `
import os, requests
r = requests.get("https://`+apiHost+`/user", headers={"Authorization": "Bearer " + os.environ["GITHUB_TOKEN"]})
print(r.status_code, r.json()["bytes"])`)
	if strings.TrimSpace(out) != "200 0" {
		t.Errorf("answered %q", out)
	}
}

func withHTTPX(t *testing.T, p *played) {
	out := p.run(t, "github", nil, python(t, p, "httpx"), "-c", `
import httpx
with httpx.stream("POST", "https://`+apiHost+`/user", content=(b"x" * 1000 for _ in range(1000))) as r:
    r.read()
    print(r.status_code, r.json()["bytes"])`)
	if strings.TrimSpace(out) != "200 1000000" {
		t.Errorf("answered %q", out)
	}
}

func withFetch(t *testing.T, p *played) {
	node := p.tool(t, "node_modules/.bin/node")
	out := p.run(t, "github", nil, node, "-e", `fetch("https://`+apiHost+`/user", {method: "POST", body: "abc"}).then(async r => console.log(r.status, (await r.json()).bytes))`)
	if strings.TrimSpace(out) != "200 3" {
		t.Errorf("answered %q", out)
	}
}

// withOpenAI uses the vendor's SDK: its key is the placeholder in OPENAI_API_KEY.
func withOpenAI(t *testing.T, p *played) {
	node := p.tool(t, "node_modules/.bin/node")
	p.tool(t, "node_modules/openai")
	script := filepath.Join(p.tools, "chat.mjs")
	write(t, script, `import OpenAI from "openai";
const c = new OpenAI({baseURL: "https://`+chatHost+`/v1"});
const once = await c.chat.completions.create({model: "m", messages: [{role: "user", content: "hi"}]});
let streamed = "";
for await (const part of await c.chat.completions.create({model: "m", stream: true, messages: [{role: "user", content: "hi"}]}))
  streamed += part.choices[0]?.delta?.content ?? "";
console.log(once.choices[0].message.content + "|" + streamed);`)
	out, errOut, code := p.cliEnv(t, nil, "run", "--with", "openai=OPENAI_API_KEY", "--agent", "scribe", "--", node, script)
	if code != 0 || strings.TrimSpace(out) != "used not held|used not held" {
		t.Errorf("exit %d: %q %s", code, out, errOut)
	}
}

func withAWS(t *testing.T, p *played) {
	cli := p.tool(t, "/usr/bin/aws")
	env := []string{"AWS_DEFAULT_REGION=eu-central-1", "AWS_EC2_METADATA_DISABLED=true", "HOME=" + t.TempDir()}
	out := p.run(t, "aws", env, cli, "sts", "get-caller-identity", "--endpoint-url", "https://"+awsHost, "--output", "text")
	if !strings.Contains(out, "123456789012") {
		t.Errorf("answered %q", out)
	}
	dir := t.TempDir()
	body := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	write(t, filepath.Join(dir, "up"), body)
	s3 := cli + ` --endpoint-url https://` + s3Host + ` s3 cp --quiet `
	p.run(t, "aws", env, "sh", "-c", s3+dir+`/up s3://bucket/key && `+s3+`s3://bucket/key `+dir+`/down`)
	down, err := os.ReadFile(filepath.Join(dir, "down"))
	if err != nil || sha(string(down)) != sha(body) {
		t.Errorf("%d bytes came back, %v", len(down), err)
	}
}

func sha(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// withGo uses net/http as every Go program does: this test's own program, started by
// run. On systems where Go does not read SSL_CERT_FILE it is told of the bundle.
func withGo(t *testing.T, p *played) {
	out := p.run(t, "github", []string{"AGENTKEYS_E2E_CLIENT=get", "AGENTKEYS_E2E_URL=https://" + apiHost + "/user"}, os.Args[0])
	if !strings.Contains(out, "200 HTTP/2.0") {
		t.Errorf("answered %q", out)
	}
}

func withWebSocket(t *testing.T, p *played) {
	out := p.run(t, "github", []string{"AGENTKEYS_E2E_CLIENT=websocket", "AGENTKEYS_E2E_URL=wss://" + apiHost + "/ws"}, os.Args[0])
	if strings.TrimSpace(out) != "echo one, echo two" {
		t.Errorf("the web socket said %q", out)
	}
}

func withQueryAndHeader(t *testing.T, p *played) {
	curl := p.tool(t, "/usr/bin/curl")
	out := p.run(t, "maps", nil, curl, "-sS", "--fail", "https://"+queryHost+"/route?from=a&key=mine&to=b%20c")
	if !strings.Contains(out, "from=a") || !strings.Contains(out, "to=b%20c") {
		t.Errorf("the rest of the query: %q", out)
	}
	p.run(t, "header", nil, curl, "-sS", "--fail", "https://"+tokenHost+"/")
}
