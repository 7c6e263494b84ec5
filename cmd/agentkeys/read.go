package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.org/agentkeys/client"
	"github.com/spf13/cobra"
)

func readCommand(a *app) *cobra.Command {
	var reveal bool
	var agent, slotAgent string
	c := &cobra.Command{Use: "read NAME --reveal", Short: "Print a value; the reading is recorded as SEEN", Args: exactly(1, "one NAME"),
		Long:    "Prints a stored value to standard output. As the owner you are asked for your passphrase: it is a fresh\nsignature over this value's version. With --agent it is read as that agent, which needs a grant with --reveal.",
		Example: "  agentkeys read github --reveal\n  agentkeys read github --reveal --agent scribe",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !reveal {
				return usageError{errors.New("read hands the value over: say --reveal if you mean it")}
			}
			v, err := a.read(cmd.Context(), args[0], agent, slotAgent)
			if err != nil {
				return err
			}
			defer v.Secret.Wipe()
			if a.json {
				return a.data(struct {
					Service string `json:"service"`
					Version uint64 `json:"version"`
					Value   string `json:"value"`
				}{args[0], v.Version, string(v.Secret.Reveal())}, nil)
			}
			_, err = a.out.Write(append(v.Secret.Reveal(), '\n'))
			return err
		}}
	c.Flags().BoolVar(&reveal, "reveal", false, "hand the value over")
	c.Flags().StringVar(&agent, "agent", "", "read as this agent")
	c.Flags().StringVar(&slotAgent, "slot", "", "as the owner: the own slot of this agent")
	return c
}

func (a *app) read(ctx context.Context, arg, agent, slotAgent string) (client.Value, error) {
	name, err := serviceArg(arg)
	if err != nil {
		return client.Value{}, err
	}
	slot, err := a.slot(slotAgent)
	if err != nil {
		return client.Value{}, err
	}
	if agent != "" {
		c, err := a.agentSession(ctx, agent, 0)
		if err != nil {
			return client.Value{}, err
		}
		return c.Read(ctx, name, slot, nil)
	}
	c, err := a.owner(ctx)
	if err != nil {
		return client.Value{}, err
	}
	k, err := a.openWallet()
	if err != nil {
		return client.Value{}, err
	}
	defer k.Zero()
	return c.Read(ctx, name, slot, &k)
}

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
		slot, err := a.slot("")
		if err != nil {
			return err
		}
		v, err := c.Read(ctx, name, slot, nil)
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
			_ = cmd.Process.Signal(s)
		case err := <-done:
			return childExit(err)
		}
	}
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

// longest is how long an admission or a grant may last.
const longest = 365 * 24 * time.Hour

// forDuration parses how long an admission or a grant lasts, at least a second.
func forDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < time.Second || d > longest {
		return 0, usageError{errors.New("--for: want a duration such as 1h, 30m or 7d, at most 365d")}
	}
	return d, nil
}
