package devstack

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// script is a child that runs a shell script.
func script(t *testing.T, text string) *child {
	t.Helper()
	return newChild("part", "/bin/sh", t.TempDir(), "-c", text)
}

// keep runs a child until the test ends it.
func keep(t *testing.T, c *child) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("run ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func readLog(t *testing.T, c *child) string {
	t.Helper()
	b, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come: " + what)
		}
	}
}

const obedient = `printf 'ready {"pin":"p%s"}\n' $$ >&3; read x; echo stopping`

func TestChildIsReadyAndStops(t *testing.T) {
	c := script(t, obedient)
	stop := keep(t, c)
	var said Custodian
	if err := c.wait(t.Context(), &said); err != nil || !strings.HasPrefix(said.Pin, "p") {
		t.Fatalf("%+v %v", said, err)
	}
	pid := c.running()
	if pid == 0 {
		t.Fatal("it does not run")
	}
	stop()
	if syscall.Kill(pid, 0) == nil {
		t.Error("it outlives the supervisor")
	}
	if log := readLog(t, c); !strings.Contains(log, "stopping") || strings.Contains(log, "starting again") {
		t.Errorf("log %q", log)
	}
	if c.running() != 0 {
		t.Error("it counts as running")
	}
}

func TestChildIsStartedAgain(t *testing.T) {
	c := script(t, obedient)
	keep(t, c)
	for range 2 {
		if err := c.wait(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		old := c.running()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		within(t, "a successor", func() bool { now := c.running(); return now != 0 && now != old })
	}
	if log := readLog(t, c); !strings.Contains(log, "ended (signal: killed), starting again in 100ms") || !strings.Contains(log, "starting again in 200ms") {
		t.Errorf("log %q", log)
	}
}

func TestChildThatDoesNotListen(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for stopWithin")
	}
	t.Parallel()
	c := script(t, `trap '' TERM; echo 'ready {}' >&3; while :; do sleep 0.1; done`)
	stop := keep(t, c)
	if err := c.wait(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	pid := c.running()
	stop()
	if syscall.Kill(pid, 0) == nil {
		t.Error("it lives on")
	}
}

func TestWaitSaysTheLog(t *testing.T) {
	c := script(t, "echo the disk is full >&2; exit 3")
	keep(t, c)
	within(t, "the log", func() bool { b, _ := os.ReadFile(c.log); return strings.Contains(string(b), "disk") })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := c.wait(ctx, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the disk is full") || !strings.Contains(err.Error(), c.log) {
		t.Errorf("%v", err)
	}
}

func TestNotReady(t *testing.T) {
	for name, line := range map[string]string{"another line": "hello", "no newline": `ready {}`, "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			c := newChild("part", "", t.TempDir())
			text := line + "\n"
			if name == "no newline" {
				text = line
			}
			c.awaitReady(strings.NewReader(text))
			select {
			case got := <-c.ready:
				t.Errorf("ready with %q", got)
			default:
			}
		})
	}
}

// A part that starts several times before anybody waits must not block.
func TestReadyKeepsTheNewest(t *testing.T) {
	c := newChild("part", "", t.TempDir())
	for _, s := range []string{"1", "2", "3"} {
		c.awaitReady(strings.NewReader("ready " + s + "\n"))
	}
	if got := <-c.ready; got != "3" {
		t.Errorf("ready with %q", got)
	}
}

// Secrets of the environment stay with the supervisor.
func TestChildEnvironment(t *testing.T) {
	t.Setenv("A_TOKEN", "hunter2")
	c := script(t, `env; echo 'ready {}' >&3; read x`)
	stop := keep(t, c)
	if err := c.wait(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	stop()
	if log := readLog(t, c); strings.Contains(log, "hunter2") || !strings.Contains(log, "PATH=") {
		t.Errorf("environment %q", log)
	}
}

func TestFindBinary(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "part")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := findBinary(dir, "part"); err != nil || got != path {
		t.Errorf("in the given directory: %s, %v", got, err)
	}
	t.Setenv("PATH", dir)
	if got, err := findBinary("", "part"); err != nil || got != path {
		t.Errorf("in PATH: %s, %v", got, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "other"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := findBinary(dir, "other"); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("a directory: %v", err)
	}
}
