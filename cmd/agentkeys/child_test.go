package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

func childApp(t *testing.T, stdin string, out io.Writer) *app {
	t.Helper()
	a := &app{in: strings.NewReader(stdin), out: out, err: io.Discard, profileName: "default"}
	if err := a.locate(); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestChild(t *testing.T) {
	for _, c := range []struct {
		name, script, stdin, out string
		code                     int
	}{
		{"ok", "exit 0", "", "", 0},
		{"exit code", "exit 42", "", "", 42},
		{"killed", "kill -KILL $$", "", "", 128 + 9},
		{"terminated", "kill -TERM $$", "", "", 128 + 15},
		{"input and output", "cat", "typed", "typed", 0},
		{"environment", `printf %s "$A_TOKEN"`, "", "value", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			a := childApp(t, c.stdin, &out)
			err := a.child([]string{"sh", "-c", c.script}, []string{"A_TOKEN=value", "PATH=" + os.Getenv("PATH")}, a.out, a.err)
			if code := a.report(err); code != c.code || out.String() != c.out {
				t.Errorf("exit %d, %q", code, out.String())
			}
		})
	}
	a := childApp(t, "", io.Discard)
	var usage usageError
	if err := a.child([]string{"/no/such/program"}, nil, a.out, a.err); !errors.As(err, &usage) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// A signal to the command is the child's to answer.
func TestChildGetsSignals(t *testing.T) {
	guard := make(chan os.Signal, 1)
	signal.Notify(guard, syscall.SIGTERM) // the test survives it
	defer signal.Stop(guard)
	r, w := io.Pipe()
	a := childApp(t, "", w)
	done := make(chan error, 1)
	go func() {
		done <- a.child([]string{"sh", "-c", `trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done`}, []string{"PATH=" + os.Getenv("PATH")}, a.out, a.err)
	}()
	if _, err := io.ReadFull(r, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := a.report(<-done); code != 9 {
		t.Errorf("exit %d", code)
	}
}
