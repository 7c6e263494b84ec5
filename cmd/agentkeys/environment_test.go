package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.org/agentkeys/credential"
	"example.org/agentkeys/proxy"
)

func TestEnvironmentOfACommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("MAIL_KEY=agentkeys://mail\nPLAIN='a b'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inherited := []string{"PATH=/bin", "OLD_COPY=the-stored-value", "GITHUB_TOKEN=agentkeys://github", "NO_PROXY=intern.test", "AWS_SESSION_TOKEN=x", "EMPTY="}
	e, err := newEnvironment(inherited, runFlags{with: []string{"openai=OPENAI_API_KEY", "aws", "github"}, envFile: file})
	if err != nil {
		t.Fatal(err)
	}
	if got := e.names(); !slices.Equal(got, []string{"openai", "aws", "github", "mail"}) {
		t.Errorf("services %v", got)
	}
	if h := e.hashes(); !slices.Contains(h, hashOf("the-stored-value")) || slices.Contains(h, hashOf("/bin")) || slices.Contains(h, hashOf("")) {
		t.Errorf("hashes %v", h)
	}
	e.through(proxy.Response{URL: "http://scribe:t@127.0.0.1:1", Env: []proxy.Found{{Env: hashOf("the-stored-value"), Placeholder: "ghp_placeholder"}},
		Services: []proxy.Service{{Name: "openai", Kind: uint8(credential.Bearer), Placeholders: []string{"sk-placeholder"}, Hosts: []string{"127.0.0.1:443"}},
			{Name: "github", Kind: uint8(credential.Bearer), Placeholders: []string{"ghp_placeholder"}}, {Name: "mail", Placeholders: []string{"mail-placeholder"}},
			{Name: "aws", Kind: uint8(credential.SigV4), Placeholders: []string{"AKIA", "secret-placeholder"}}}},
		&bundle{all: "/b/all", own: "/b/own"})
	got := e.list()
	for _, want := range []string{"PATH=/bin", "OLD_COPY=ghp_placeholder", "GITHUB_TOKEN=ghp_placeholder", "OPENAI_API_KEY=sk-placeholder",
		"AWS_ACCESS_KEY_ID=AKIA", "AWS_SECRET_ACCESS_KEY=secret-placeholder", "MAIL_KEY=mail-placeholder", "PLAIN=a b", "EMPTY=",
		"HTTPS_PROXY=http://scribe:t@127.0.0.1:1", "https_proxy=http://scribe:t@127.0.0.1:1", "NO_PROXY=intern.test,localhost,::1",
		"SSL_CERT_FILE=/b/all", "NODE_EXTRA_CA_CERTS=/b/own", "NODE_USE_ENV_PROXY=1"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing", want)
		}
	}
	all := strings.Join(got, "\n")
	for _, gone := range []string{"the-stored-value", "agentkeys://", "AWS_SESSION_TOKEN"} {
		if strings.Contains(all, gone) {
			t.Errorf("%s is still there:\n%s", gone, all)
		}
	}
	for _, bad := range []string{"A=agentkeys://", "A=agentkeys://UPPER", "A=agentkeys://a/b"} {
		if _, err := newEnvironment([]string{bad}, runFlags{}); err == nil {
			t.Errorf("%s passes", bad)
		}
	}
}

func TestBundle(t *testing.T) {
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, []byte("ROOTS"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", roots)
	b, err := newBundle("OURS")
	if err != nil {
		t.Fatal(err)
	}
	all, err1 := os.ReadFile(b.all)
	own, err2 := os.ReadFile(b.own)
	if err1 != nil || err2 != nil || string(all) != "ROOTS\nOURS" || string(own) != "OURS" {
		t.Errorf("%q %q", all, own)
	}
	b.remove()
	if _, err := os.Stat(b.dir); err == nil {
		t.Error("its folder is left")
	}
}

// An AWS key is where its clients look, whatever variables name it.
func TestEnvironmentOfAnAWSKey(t *testing.T) {
	aws := proxy.Response{Services: []proxy.Service{{Name: "aws", Kind: uint8(credential.SigV4), Placeholders: []string{"AKIA", "secret-placeholder", "token-placeholder"}}}}
	standard := []string{"AWS_ACCESS_KEY_ID=AKIA", "AWS_SECRET_ACCESS_KEY=secret-placeholder"}
	for name, c := range map[string]struct {
		inherited, with []string
		more            string
	}{
		"named":                {nil, []string{"aws"}, ""},
		"named, with variable": {nil, []string{"aws=MY_KEY_ID"}, "MY_KEY_ID=AKIA"},
		"referred to":          {[]string{"AWS_ACCESS_KEY_ID=agentkeys://aws", "AWS_SECRET_ACCESS_KEY=agentkeys://aws", "AWS_SESSION_TOKEN=agentkeys://aws"}, nil, ""},
		"old values":           {[]string{"AWS_SESSION_TOKEN=old"}, []string{"aws"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := newEnvironment(c.inherited, runFlags{with: c.with})
			if err != nil {
				t.Fatal(err)
			}
			e.through(aws, &bundle{})
			got := e.list()
			for _, want := range append(standard, c.more) {
				if want != "" && !slices.Contains(got, want) {
					t.Errorf("%s is missing: %v", want, got)
				}
			}
			if all := strings.Join(got, "\n"); strings.Contains(all, "AWS_SESSION_TOKEN") || strings.Contains(all, "AWS_TOKEN") || strings.Contains(all, "agentkeys://") {
				t.Errorf("too much: %s", all)
			}
		})
	}
}
