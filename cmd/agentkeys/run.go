package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/client"
	"example.org/agentkeys/proxy"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// runFlags say what a command gets.
type runFlags struct {
	with    []string // used through the proxy: NAME or NAME=VARIABLE
	env     []string // handed over
	envFile string
	agent   string
}

func runCommand(a *app) *cobra.Command {
	var f runFlags
	c := &cobra.Command{Use: "run --with NAMES [--agent A] -- CMD", Short: "Run a command that uses keys and never holds them",
		Long: `Runs CMD as an agent. Its calls go through the proxy (agentkeys proxy start), which puts the named keys on the
wire to the hosts that their owner named. In the environment stands a placeholder instead of each value: github is
in GITHUB_TOKEN, or give NAME=VARIABLE; an AWS key is in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Where a stored
value stood in your environment the placeholder takes its place, and agentkeys://NAME does the same, also in the
file that --env-file names.

--env hands a value over instead. The agent needs a grant with --reveal, it is recorded as SEEN, and it is masked in
what CMD prints: CMD's output is then a pipe. CMD's environment is visible to your user id and to root.

The session ends with the command. Standard output and the exit code are CMD's.`,
		Example: "  agentkeys run --with github --agent scribe -- gh repo list\n  agentkeys run --with openai=OPENAI_API_KEY,github -- python agent.py\n  agentkeys run --env billing --agent biller -- ./invoice",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("want a command after --")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), f, args) }}
	c.Flags().StringSliceVar(&f.with, "with", nil, "use these: NAME or NAME=VARIABLE, with commas or repeated")
	c.Flags().StringArrayVar(&f.env, "env", nil, "hand this value over: NAME or NAME=VARIABLE, may be repeated")
	c.Flags().StringVar(&f.envFile, "env-file", "", "a .env file for CMD; agentkeys://NAME stands for a key")
	c.Flags().StringVar(&f.agent, "agent", "", "the agent that the command is; not needed where only one is known")
	return c
}

func (a *app) run(ctx context.Context, f runFlags, args []string) error {
	e, err := newEnvironment(os.Environ(), f)
	if err != nil {
		return err
	}
	if len(e.with) == 0 && len(f.env) == 0 {
		return usageError{errors.New("want --with NAMES, or --env NAME")}
	}
	for _, n := range f.env {
		if name, _ := named(n); slices.Contains(e.names(), name) {
			return usageError{fmt.Errorf("%s is in --env and is to be used through the proxy, too; decide", name)}
		}
	}
	agent, err := a.runAs(f.agent)
	if err != nil {
		return err
	}
	c, err := a.agentSession(ctx, agent, 0)
	if err != nil {
		return err
	}
	defer a.endWithCommand(ctx, c)
	e.set("AGENTKEYS_RUN", agent)
	e.unset("AGENTKEYS_PASSPHRASE_FILE")
	out, errOut := a.out, a.err
	if len(f.env) > 0 {
		handed, err := a.handOver(ctx, c, f.env, e)
		if err != nil {
			return err
		}
		defer handed.Wipe()
		maskedOut, maskedErr := handed.Writer(a.out), handed.Writer(a.err)
		defer func() { _ = maskedOut.Close(); _ = maskedErr.Close() }()
		out, errOut = maskedOut, maskedErr
	}
	if len(e.with) > 0 {
		end, err := a.underProxy(ctx, c, agent, e)
		if err != nil {
			return err
		}
		defer end()
	}
	return a.child(args, e.list(), out, errOut)
}

// endWithCommand ends the session that was opened for a command. Where the custodian
// does not hear of it the session ends by its time, unusable without its key.
func (a *app) endWithCommand(ctx context.Context, c *client.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_ = c.End(ctx)
}

// runAs is the agent a command runs as.
func (a *app) runAs(agent string) (string, error) {
	if agent != "" {
		return agent, nil
	}
	var names []string
	for _, n := range a.agentNames() {
		names = append(names, n)
	}
	if len(names) == 1 {
		return names[0], nil
	}
	if len(names) == 0 {
		return "", usageError{errors.New("want --agent A; there is none yet: agentkeys agent add A")}
	}
	return "", usageError{fmt.Errorf("want --agent A: %s", strings.Join(sorted(names), ", "))}
}

// handOver reads values as the agent and puts them into its environment.
func (a *app) handOver(ctx context.Context, c *client.Client, names []string, e *environment) (*proxy.Masking, error) {
	masking := &proxy.Masking{}
	for _, n := range names {
		arg, variable := named(n)
		name, err := serviceArg(arg)
		if err != nil {
			return masking, err
		}
		v, err := c.Read(ctx, name, agentkeys.Wallet{}, nil)
		if err != nil {
			return masking, err
		}
		e.set(variable, string(v.Secret.Reveal()))
		masking.Add(v.Credential)
	}
	return masking, nil
}

// underProxy makes the command a child of the proxy; end is called when it is over.
func (a *app) underProxy(ctx context.Context, c *client.Client, agent string, e *environment) (end func(), err error) {
	control, out, err := a.startChild(ctx, c, agent, e.names(), e.hashes())
	if err != nil {
		return nil, err
	}
	bundle, err := newBundle(out.CA)
	if err != nil {
		control.Close()
		return nil, err
	}
	e.through(out, bundle)
	ctx, cancel := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go func() { defer close(renewed); a.keepChild(ctx, c, agent, control, out.Wallet) }()
	return func() {
		cancel()
		<-renewed
		control.Close()
		bundle.remove()
	}, nil
}

// startChild has the proxy take a command that acts in this session.
func (a *app) startChild(ctx context.Context, c *client.Client, agent string, names, hashes []string) (*proxy.Control, proxy.Response, error) {
	control, err := proxy.Connect(ctx, a.socket())
	if err != nil {
		return nil, proxy.Response{}, err
	}
	status, err := control.Ask(proxy.Request{Op: "status"})
	if err == nil {
		var wallet agentkeys.Wallet
		if wallet, err = agentkeys.ParseWallet(status.Status.Wallet); err == nil {
			d := c.Delegate(wallet, c.Expires())
			var out proxy.Response
			if out, err = control.Ask(proxy.Request{Op: "child", Agent: agent, Delegation: &d, Names: names, Env: hashes}); err == nil {
				out.Wallet = wallet
				return control, out, nil
			}
		}
	}
	control.Close()
	return nil, proxy.Response{}, err
}

// renewEvery is how often a command's session is looked at: its end is a time of day,
// which goes on while the machine sleeps.
const renewEvery = 20 * time.Second

// keepChild renews the session and its delegation before they end, silently.
func (a *app) keepChild(ctx context.Context, c *client.Client, agent string, control *proxy.Control, wallet agentkeys.Wallet) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if time.Until(c.Expires()) >= renewBefore {
			continue
		}
		err := a.renewChild(ctx, c, agent, control, wallet)
		if err != nil && ctx.Err() == nil && !said {
			fmt.Fprintln(a.err, "agentkeys: the session could not be renewed:", err)
		}
		said = err != nil
	}
}

func (a *app) renewChild(ctx context.Context, c *client.Client, agent string, control *proxy.Control, wallet agentkeys.Wallet) error {
	k, err := a.agentKey(agent)
	if err != nil {
		return err
	}
	defer k.Zero()
	if err := c.Login(ctx, k, c.User(), 0); err != nil {
		return err
	}
	d := c.Delegate(wallet, c.Expires())
	_, err = control.Ask(proxy.Request{Op: "renew", Delegation: &d})
	return err
}

// child runs the command with its signals and exit code passed through.
func (a *app) child(args, environ []string, out, errOut io.Writer) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, a.stdin, out, errOut
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
