package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTally(t *testing.T) {
	tests := []struct {
		name, events, want string
		green              bool
		shows              string
		hides              string
	}{
		{
			name: "pass, skip and subtests",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA/sub"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: no compiler\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`,
			want: "2 passed, 0 failed, 1 skipped", green: true, shows: "skip  p TestB: b_test.go:1: no compiler", hides: "quiet",
		},
		{
			name: "a failed test is not counted again for its package",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"got 1\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}`,
			want: "1 passed, 1 failed", shows: "got 1",
		},
		{
			name: "a package that does not build",
			events: `{"Action":"build-output","ImportPath":"p [p.test]","Output":"undefined: x\n"}
{"Action":"build-fail","ImportPath":"p [p.test]"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}
{"Action":"pass","Package":"q","Test":"TestQ"}
{"Action":"pass","Package":"q"}`,
			want: "1 passed, 1 failed", shows: "undefined: x",
		},
		{
			name: "a panic that leaves a test without an end",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: boom\n"}
{"Action":"fail","Package":"p"}`,
			want: "0 passed, 1 failed", shows: "panic: boom",
		},
		{
			name:   "packages without tests are nothing run",
			events: `{"Action":"skip","Package":"p"}`,
			want:   "0 passed, 0 failed", shows: "no test ran",
		},
		{
			name:   "only skipped is nothing run",
			events: `{"Action":"skip","Package":"p","Test":"TestA"}`,
			want:   "0 passed, 0 failed, 1 skipped", shows: "no test ran",
		},
		{
			name: "a line that is no event is passed on",
			events: `go: warning about something
{"Action":"pass","Package":"p","Test":"TestA"}`,
			want: "1 passed, 0 failed", green: true, shows: "go: warning about something",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			sum := newTally(&out)
			if err := sum.read(strings.NewReader(tt.events)); err != nil {
				t.Fatal(err)
			}
			err := sum.close()
			if tt.green != (err == nil) {
				t.Errorf("close() = %v, want green %v", err, tt.green)
			}
			if got := lastLine(out.String()); got != tt.want {
				t.Errorf("closing line %q, want %q", got, tt.want)
			}
			if !strings.Contains(out.String(), tt.shows) {
				t.Errorf("output lacks %q:\n%s", tt.shows, &out)
			}
			if tt.hides != "" && strings.Contains(out.String(), tt.hides) {
				t.Errorf("output of a passed test is shown:\n%s", &out)
			}
		})
	}
}

// TestRun runs real modules, so that it notices when go test changes what it writes.
func TestRun(t *testing.T) {
	good := module(t, "func TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { t.Skip(\"why\") }\n")
	bad := module(t, "func TestA(t *testing.T) { t.Fatal(\"broken on purpose\") }\n")
	unbuildable := module(t, "func TestA(t *testing.T) { undefinedName() }\n")
	empty := module(t, "")
	missing := filepath.Join(t.TempDir(), "nowhere")

	tests := []struct {
		name, want, shows string
		args              []string
	}{
		{"good", "1 passed, 0 failed, 1 skipped", "why", []string{good}},
		{"good and bad", "1 passed, 1 failed, 1 skipped", "broken on purpose", []string{good, bad}},
		{"unbuildable", "0 passed, 1 failed", "undefinedName", []string{unbuildable}},
		{"empty", "0 passed, 0 failed", "no test ran", []string{empty}},
		{"a module that is not there", "1 passed, 1 failed, 1 skipped", "FAIL  module " + missing, []string{good, missing}},
		{"a check that failed before", "1 passed, 2 failed, 1 skipped", "FAIL  check vet", []string{"-failed", "vet,build", good}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), tt.args, &out)
			if got := lastLine(out.String()); got != tt.want {
				t.Errorf("closing line %q, want %q\n%s", got, tt.want, &out)
			}
			if green := tt.name == "good"; green != (err == nil) || (err != nil && !errors.Is(err, errNotGreen)) {
				t.Errorf("run() = %v", err)
			}
			if !strings.Contains(out.String(), tt.shows) {
				t.Errorf("output lacks %q:\n%s", tt.shows, &out)
			}
		})
	}
}

func TestGoTestRace(t *testing.T) {
	for _, race := range []bool{false, true} {
		cmd := goTest(t.Context(), ".", time.Minute, race)
		if got := strings.Contains(strings.Join(cmd.Args, " "), " -race "); got != race {
			t.Errorf("race %v: %q", race, cmd.Args)
		}
	}
}

// module makes a module whose only file is a test with body and returns its folder.
func module(t *testing.T, body string) string {
	t.Helper()
	dir := t.TempDir()
	source := "package m\n\n"
	if body != "" {
		source += "import \"testing\"\n\n" + body
	}
	for name, content := range map[string]string{"go.mod": "module m\n\ngo 1.26\n", "m_test.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
