package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/statement"
)

func TestParseEnv(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"plain", "GITHUB_TOKEN=abc", "github=abc"},
		{"several", "A=1\n\nB=2\n", "a=1 b=2"},
		{"export", "export GITHUB_TOKEN=abc\nexport\tB=2", "github=abc b=2"},
		{"a name that begins like export", "EXPORT_TOKEN=x\nexporter=y", "export=x exporter=y"},
		{"comments", "# A=1\nB=2 # two\nC=#3\nD= # nothing", "b=2 c=#3"},
		{"spaces", "  A = 1  ", "a=1"},
		{"carriage returns", "A=1\r\nB='2'\r\n", "a=1 b=2"},
		{"equals in the value", "A=b=c==", "a=b=c=="},
		{"single quotes", `A='x # "y" \n'`, `a=x # "y" \n`},
		{"double quotes", `A="x # 'y'"`, `a=x # 'y'`},
		{"escapes", `A="l1\nl2\t\"q\" \\ \$"`, "a=l1\nl2\t\"q\" \\ $"},
		{"comment behind quotes", `A="x" # two`, "a=x"},
		{"empty values", "A=\nB=''\nC=\"\"\nD=4", "d=4"},
		{"no newline at the end", "A=1\nB=2", "a=1 b=2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseEnv([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			var s []string
			for _, e := range got {
				s = append(s, e.service+"="+string(e.value))
			}
			if strings.Join(s, " ") != c.want {
				t.Errorf("%q, want %q", strings.Join(s, " "), c.want)
			}
		})
	}
}

func TestParseEnvRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"no equals":       {"A=1\nhunter2", "line 2: want NAME=value"},
		"no name":         {"=hunter2", "line 1: "},
		"odd name":        {"MY KEY=hunter2", "line 1: "},
		"open quote":      {`A="hunter2`, "line 1: the closing quote is missing"},
		"open quote, esc": {`A="hunter2\`, "line 1: "},
		"more lines":      {"A='hunter2\nmore'", "line 1: "},
		"after the quote": {`A="x"hunter2`, "line 1: something follows"},
		"odd escape":      {`A="hunter2\x"`, "line 1: in double quotes"},
		"nothing":         {"# nothing\n", "holds no values"},
		"too long a line": {"A=" + strings.Repeat("x", 2<<20), "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseEnv([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func FuzzParseEnv(f *testing.F) {
	f.Add([]byte("export A_TOKEN='x' # y\nB=\"\\n\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseEnv(b)
		if err == nil && len(got) == 0 {
			t.Fatal("neither values nor an error")
		}
		for _, e := range got {
			if _, err := agentkeys.ParseService(e.service); err != nil || len(e.value) == 0 {
				t.Fatalf("%+v: %v", e, err)
			}
		}
	})
}

func TestServiceNames(t *testing.T) {
	for variable, service := range map[string]string{
		"GITHUB_TOKEN": "github", "STRIPE_SECRET_KEY": "stripe", "OPENAI_API_KEY": "openai", "X_ACCESS_TOKEN": "x",
		"A_AUTH_TOKEN": "a", "MAIL_PASSWORD": "mail", "DB_KEY": "db", "B_SECRET": "b", "DATABASE_URL": "database_url",
		"TOKEN": "token", "_TOKEN": "_token", "MyKey": "mykey",
	} {
		if got := serviceOf(variable); got != service {
			t.Errorf("%s becomes %s, want %s", variable, got, service)
		}
	}
	for service, variable := range map[string]string{"github": "GITHUB_TOKEN", "my-mail.box": "MY_MAIL_BOX_TOKEN", "a_b": "A_B_TOKEN"} {
		if got := envName(service); got != variable {
			t.Errorf("%s becomes %s, want %s", service, got, variable)
		}
	}
}

func TestForDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{"1h": time.Hour, "30m": 30 * time.Minute, "7d": 168 * time.Hour, "365d": longest, "1s": time.Second, "1h30m": 90 * time.Minute} {
		if got, err := forDuration(s); err != nil || got != want {
			t.Errorf("%s: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "0d", "-1d", "1xd", "1.5d", "366d", "9000h", "99999999999d", "0h", "-1h", "500ms", "7", "soon", "1h2d"} {
		if got, err := forDuration(s); err == nil {
			t.Errorf("%q is taken as %v", s, got)
		}
	}
}

func TestParseHosts(t *testing.T) {
	got, err := parseHosts([]string{"API.github.com", "*.example.com:8443"})
	want := []credential.HostRule{{Pattern: "api.github.com", Port: 443}, {Pattern: "*.example.com", Port: 8443}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	for _, s := range []string{"host:", "host:0", "host:65536", "host:x", "https://host", "host:+1"} {
		if got, err := parseHosts([]string{s}); err == nil {
			t.Errorf("%q is taken as %v", s, got)
		}
	}
}

func TestParseIdle(t *testing.T) {
	for s, want := range map[string]statement.IdleRule{"carry": statement.IdleCarry, "expire": statement.IdleExpire, "Carry": 0} {
		if got, err := parseIdle(s); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
	if got, err := parseIdle(""); got != 0 || err != nil {
		t.Errorf("the vault's default: %v %v", got, err)
	}
}

func TestTrimNewline(t *testing.T) {
	for in, want := range map[string]string{"": "", "x": "x", "x\n": "x", "x\r\n": "x", "x\n\n": "x\n", "\n": "", " x ": " x ", "x\r": "x"} {
		if got := string(trimNewline([]byte(in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
