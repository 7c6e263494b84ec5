package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"example.org/agentkeys/internal/devstack"
	"example.org/agentkeys/internal/service"
	"github.com/spf13/cobra"
)

// devFlags is how the stack is to run.
type devFlags struct {
	bin, idle string
	anchors   []string
	open      bool
}

func devCommand(a *app) *cobra.Command {
	var dir string
	var f devFlags
	c := group(&cobra.Command{Use: "dev", Short: "The development stack on this machine", Example: "  agentkeys dev start\n  agentkeys dev status",
		Long: "Runs node, object store, custodian, operator and rotator on loopback. It does not protect from root:\n" + devstack.Limit + "."})
	c.PersistentFlags().StringVar(&dir, "dir", "", "directory of the stack (default: dev in the state directory)")
	c.PersistentFlags().StringVar(&f.bin, "bin", "", "directory of the programs (default: beside this one, then PATH)")
	place := func() string {
		if dir == "" {
			return a.path("dev")
		}
		d, err := filepath.Abs(dir)
		if err != nil {
			return dir
		}
		return d
	}
	var stopOnEOF, force bool
	runCmd := &cobra.Command{Use: "run", Short: "Run the stack in the foreground", Hidden: true, Args: exactly(0, "no arguments"), Example: "  agentkeys dev run",
		RunE: func(*cobra.Command, []string) error { return a.devRun(place(), f, stopOnEOF) }}
	runCmd.Flags().BoolVar(&stopOnEOF, "stop-on-eof", false, "stop when standard input closes")
	reset := &cobra.Command{Use: "reset", Short: "Stop the stack and delete everything in it", Args: exactly(0, "no arguments"), Example: "  agentkeys dev reset --force",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.devReset(cmd.Context(), place(), force) }}
	reset.Flags().BoolVar(&force, "force", false, "yes, every credential in it is lost")
	startCmd := &cobra.Command{Use: "start", Short: "Start the stack in the background", Args: exactly(0, "no arguments"), Example: "  agentkeys dev start",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.devStart(cmd.Context(), place(), f) }}
	for _, c := range []*cobra.Command{startCmd, runCmd} {
		c.Flags().StringArrayVar(&f.anchors, "anchor", nil, "a further anchor, KIND:PLACE, such as tpm:/dev/tpmrm0; may be repeated, and is remembered")
		c.Flags().StringVar(&f.idle, "idle", "carry", "what happens to credentials that nobody reads, where store names no rule: carry or expire")
		c.Flags().BoolVar(&f.open, "no-sandbox", false, "run the rotator without its sandbox, where the kernel has none")
	}
	c.AddCommand(runCmd, reset, startCmd,
		&cobra.Command{Use: "stop", Short: "Stop the stack; its state stays", Args: exactly(0, "no arguments"), Example: "  agentkeys dev stop",
			RunE: func(cmd *cobra.Command, _ []string) error { return a.devStop(cmd.Context(), place()) }},
		&cobra.Command{Use: "status", Short: "Say what runs", Args: exactly(0, "no arguments"), Example: "  agentkeys dev status",
			RunE: func(*cobra.Command, []string) error { return a.devStatus(place()) }})
	return c
}

// devRun is the supervisor. It says on descriptor 3 when everything is ready.
func (a *app) devRun(dir string, f devFlags, stopOnEOF bool) error {
	s, err := devstack.Open(devstack.Options{Dir: dir, Bin: f.bin, Idle: f.idle, Open: f.open, Anchors: f.anchors, Step: func(step string) { fmt.Fprintln(a.err, step) }})
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := service.Context(stopOnEOF)
	defer cancel()
	return s.Run(ctx, func(c devstack.Config) error { return service.Ready(c.Ports) })
}

// devStart starts a supervisor of its own session and waits until it is ready.
func (a *app) devStart(ctx context.Context, dir string, f devFlags) error {
	if _, err := parseIdle(f.idle); err != nil {
		return err
	}
	if pid, err := devstack.Running(dir); err != nil {
		return err
	} else if pid != 0 && len(f.anchors) > 0 {
		return errors.New("dev: it runs, and --anchor counts at a start; stop it first: agentkeys dev stop")
	} else if pid == 0 {
		if err := a.background(ctx, dir, f); err != nil {
			return err
		}
	}
	cfg, err := devstack.ReadConfig(dir)
	if err != nil {
		return err
	}
	if err := a.writeJSON(devProfile(dir, cfg), "profiles", a.profileName+".json"); err != nil {
		return err
	}
	return a.data(cfg, func(w io.Writer) {
		fmt.Fprintf(w, "Dev stack: %s.\nState in %s, profile %s. Next: agentkeys init\n", devstack.Limit, dir, a.profileName)
	})
}

func devProfile(dir string, c devstack.Config) profile {
	return profile{Custodian: c.API(), Pin: c.Custodian.Pin, VaultID: c.VaultID, ChainID: c.ChainID, Node: c.RPC(), Relay: c.Relay(),
		Height: c.Trust.Height, Hash: c.Trust.Hash, Dev: dir}
}

const startWithin = 90 * time.Second

func (a *app) background(ctx context.Context, dir string, f devFlags) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log", "supervisor.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	args := []string{"dev", "run", "--dir", dir, "--idle", f.idle}
	for _, place := range f.anchors {
		args = append(args, "--anchor", place)
	}
	if f.bin != "" {
		args = append(args, "--bin", f.bin)
	}
	if f.open {
		args = append(args, "--no-sandbox")
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.SysProcAttr = log, log, []*os.File{w}, &syscall.SysProcAttr{Setsid: true}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		w.Close()
		return err
	}
	w.Close()
	line := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(r, 4096))
		line <- string(b)
	}()
	select {
	case s := <-line:
		if !strings.HasPrefix(s, "ready ") {
			_ = cmd.Wait()
			return fmt.Errorf("dev: the stack did not start; its log: %s\n%s", log.Name(), lastLines(log.Name()))
		}
		fmt.Fprintf(a.err, "Ready in %.1f s\n", time.Since(began).Seconds())
		return cmd.Process.Release()
	case <-time.After(startWithin):
		return fmt.Errorf("dev: the stack is not ready after %v; its log: %s", startWithin, log.Name())
	case <-ctx.Done():
		return ctx.Err()
	}
}

func lastLines(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if len(b) > 1500 {
		b = b[len(b)-1500:]
	}
	return string(b)
}

func (a *app) devStop(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ran, err := devstack.Stop(ctx, dir)
	if err != nil {
		return err
	}
	return a.data(struct {
		Stopped bool `json:"stopped"`
	}{ran}, func(w io.Writer) {
		if ran {
			fmt.Fprintln(w, "Stopped. The state stays; start again: agentkeys dev start")
		} else {
			fmt.Fprintln(w, "Nothing ran.")
		}
	})
}

func (a *app) devReset(ctx context.Context, dir string, force bool) error {
	if !force {
		return usageError{errors.New("this deletes every credential in the stack; say --force if you mean it")}
	}
	if _, err := os.Stat(filepath.Join(dir, "dev.json")); err != nil {
		return fmt.Errorf("dev: %s holds no stack", dir)
	}
	if err := a.devStop(ctx, dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func (a *app) devStatus(dir string) error {
	cfg, err := devstack.ReadConfig(dir)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("dev: there is no stack here; start one: agentkeys dev start")
	}
	if err != nil {
		return err
	}
	pid, err := devstack.Running(dir)
	if err != nil {
		return err
	}
	v := struct {
		Supervisor int             `json:"supervisor"`
		Limit      string          `json:"limit"`
		Open       string          `json:"no_sandbox,omitempty"` // why the rotator has no sandbox
		Parts      []devstack.Part `json:"parts"`
	}{pid, devstack.Limit, cfg.Open(), devstack.Parts(dir, cfg)}
	if err := a.data(v, func(w io.Writer) {
		fmt.Fprintf(w, "Dev stack: %s.\n", devstack.Limit)
		if v.Open != "" {
			fmt.Fprintf(w, "%s.\n", v.Open)
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, p := range v.Parts {
			state := "up"
			if !p.Up {
				state = "DOWN"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.Name, state, p.Addr, p.Log)
		}
		t.Flush()
	}); err != nil {
		return err
	}
	if pid == 0 {
		return errors.New("dev: not running; start it: agentkeys dev start")
	}
	return nil
}
