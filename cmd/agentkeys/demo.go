package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"example.org/agentkeys/internal/devstack"
	"example.org/agentkeys/internal/thief"
	"github.com/spf13/cobra"
)

func demoCommand(a *app) *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "demo", Short: "Play the whole story on real processes: use, steal, revoke, destroy, verify", Args: exactly(0, "no arguments"),
		Long: "Starts a development stack in a temporary directory and plays nine steps on it. Every line is a check; the\nexit code is 1 if any does not hold. With --dir the state is kept.", Example: "  agentkeys demo\n  agentkeys demo --dir /tmp/demo",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), dir) }}
	c.Flags().StringVar(&dir, "dir", "", "keep the state in this directory, which must be empty")
	return c
}

// demo is one play.
type demo struct {
	out  io.Writer
	dir  string // the play's own state directory
	self string
	cfg  devstack.Config
	rec  *thief.Recorder

	upstream *upstream

	held, failed int
	values       map[string]string // what was stored, by service
	ack          time.Time
}

func (a *app) demo(ctx context.Context, dir string) error {
	d := &demo{out: a.out, values: map[string]string{}}
	if err := d.place(dir); err != nil {
		return err
	}
	if dir == "" {
		defer os.RemoveAll(d.dir)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	began := time.Now()
	err := d.play(ctx)
	if ctx.Err() != nil && err == nil {
		err = ctx.Err()
	}
	fmt.Fprintf(d.out, "%d checks held, %d failed, %.1f s.  Yours next: agentkeys dev start && agentkeys init && agentkeys import .env\n", d.held, d.failed, time.Since(began).Seconds())
	if err == nil && d.failed > 0 {
		err = fmt.Errorf("demo: %d checks failed", d.failed)
	}
	return err
}

func (d *demo) place(dir string) (err error) {
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	if dir == "" {
		d.dir, err = os.MkdirTemp("", "agentkeys-demo-")
	} else if d.dir, err = filepath.Abs(dir); err == nil {
		if entries, _ := os.ReadDir(d.dir); len(entries) > 0 {
			return usageError{fmt.Errorf("demo: %s is not empty", d.dir)}
		}
		err = os.MkdirAll(d.dir, 0o700)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(d.path("passphrase"), []byte("only for this demo\n"), 0o600)
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

// play runs the stack beside the steps.
func (d *demo) play(ctx context.Context) error {
	began := time.Now()
	s, err := devstack.Open(devstack.Options{Dir: d.path("dev")})
	if err != nil {
		return err
	}
	defer s.Close()
	stack, stop := context.WithCancel(ctx)
	ready, done := make(chan devstack.Config, 1), make(chan error, 1)
	go func() {
		done <- s.Run(stack, func(c devstack.Config) error { ready <- c; return nil })
	}()
	defer func() { stop(); <-done }()
	select {
	case d.cfg = <-ready:
	case err := <-done:
		done <- err
		return errors.Join(errors.New("demo: the stack ended"), err)
	}
	fmt.Fprintf(d.out, "Dev stack: %s. Ready %.1f s\n", devstack.Limit, time.Since(began).Seconds())
	prof := &app{home: d.dir, profileName: "default"}
	if err := prof.writeJSON(devProfile(d.path("dev"), d.cfg), "profiles", "default.json"); err != nil {
		return err
	}
	if d.upstream, err = startUpstream(ctx); err != nil {
		return err
	}
	defer d.upstream.stop()
	defer d.stopProxy()
	d.rec = thief.NewRecorder(d.path("dev", "cloud", "objects", "agentkeys-vault-dev"))
	watch, unwatch := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { defer close(watched); _ = d.rec.Run(watch) }()
	defer func() { unwatch(); <-watched }()
	for _, step := range []func(context.Context) error{d.store, d.agents, d.use, d.steal, d.revoke, d.rotate, d.thief, d.verify, d.expose} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// check prints one line and counts it.
func (d *demo) check(ok bool, label, text, note string) {
	mark := ""
	if ok {
		d.held++
	} else {
		d.failed++
		mark = "   <- DOES NOT HOLD"
	}
	line := fmt.Sprintf("%-9s%s", label, text)
	if note != "" {
		line = fmt.Sprintf("%-72s  %s", line, note)
	}
	fmt.Fprintln(d.out, line+mark)
}

// prepare makes a command of this program in a shell of the owner.
func (d *demo) prepare(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.self, args...)
	cmd.Env = []string{"PATH=" + filepath.Dir(d.self) + ":" + os.Getenv("PATH"), "AGENTKEYS_HOME=" + d.dir, "AGENTKEYS_PASSPHRASE_FILE=" + d.path("passphrase")}
	return cmd
}

// cli runs this program as a person would.
func (d *demo) cli(ctx context.Context, stdin string, args ...string) (out, errOut string, code int) {
	cmd := d.prepare(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	code = cmd.ProcessState.ExitCode()
	if err != nil && code < 0 {
		e.WriteString(err.Error())
	}
	return o.String(), e.String(), code
}

// must runs a command that the rest of the play needs.
func (d *demo) must(ctx context.Context, stdin string, args ...string) (string, error) {
	out, errOut, code := d.cli(ctx, stdin, args...)
	if code != 0 {
		return out, fmt.Errorf("demo: agentkeys %s: exit %d: %s", strings.Join(args, " "), code, strings.TrimSpace(errOut))
	}
	return out, nil
}
