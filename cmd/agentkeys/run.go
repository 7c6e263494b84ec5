package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"example.org/agentkeys"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func runCommand(a *app) *cobra.Command {
	var env []string
	var agent string
	c := &cobra.Command{Use: "run --env NAME --agent A -- CMD", Short: "Run a command with values in its environment; recorded as SEEN",
		Long:    "Runs CMD as an agent, with the named values in its environment: github becomes GITHUB_TOKEN, or give\nNAME=VARIABLE. The agent needs a grant with --reveal. The session ends with the command; standard output\nand the exit code are the command's. The child's environment is visible to your user id and to root.",
		Example: "  agentkeys run --env github --agent scribe -- gh repo list\n  agentkeys run --env openai=OPENAI_API_KEY --agent scribe -- python agent.py",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("want a command after --")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if agent == "" || len(env) == 0 {
				return usageError{errors.New("want --agent A and --env NAME")}
			}
			return a.run(cmd.Context(), agent, env, args)
		}}
	c.Flags().StringArrayVar(&env, "env", nil, "hand this value over: NAME or NAME=VARIABLE, may be repeated")
	c.Flags().StringVar(&agent, "agent", "", "the agent that the command is")
	return c
}

func (a *app) run(ctx context.Context, agent string, names, args []string) error {
	c, err := a.agentSession(ctx, agent, 0)
	if err != nil {
		return err
	}
	environ := append(os.Environ(), "AGENTKEYS_RUN="+agent)
	environ = without(environ, "AGENTKEYS_PASSPHRASE_FILE")
	for _, n := range names {
		arg, variable, ok := strings.Cut(n, "=")
		if !ok {
			variable = envName(arg)
		}
		name, err := serviceArg(arg)
		if err != nil {
			return err
		}
		v, err := c.Read(ctx, name, agentkeys.Wallet{}, nil)
		if err != nil {
			return err
		}
		environ = append(without(environ, variable), variable+"="+string(v.Secret.Reveal()))
		v.Secret.Wipe()
	}
	return a.child(args, environ)
}

// child runs the command with its signals and exit code passed through.
func (a *app) child(args, environ []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, a.stdin, a.out, a.err
	if f, ok := a.in.(*os.File); ok {
		cmd.Stdin = f
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return usageError{fmt.Errorf("run: %w", err)}
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			// What is typed on the terminal reaches the child without us; twice would kill
			// what asks for a second Ctrl-C.
			if (s != syscall.SIGINT && s != syscall.SIGQUIT) || !inForeground() {
				_ = cmd.Process.Signal(s)
			}
		case err := <-done:
			return childExit(err)
		}
	}
}

// inForeground reports whether the terminal, if there is one, gives what is typed on
// it to this process's group.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}

func childExit(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return exitCode(128 + int(st.Signal()))
	}
	return exitCode(exit.ExitCode())
}

// envName is the variable a value goes by: github becomes GITHUB_TOKEN.
func envName(service string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(service)) + "_TOKEN"
}

func without(environ []string, name string) []string {
	out := make([]string, 0, len(environ))
	for _, kv := range environ {
		if !strings.HasPrefix(kv, name+"=") {
			out = append(out, kv)
		}
	}
	return out
}
