// Agentkeys is the command of people and agents: store credentials, let agents use
// them, revoke, rotate, verify. It holds the user's own wallet and session and
// nothing of the cloud. See agentkeys --help.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"example.org/agentkeys/api"
	"example.org/agentkeys/proxy"
	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitError = 1
	exitUsage = 2
	exitAuth  = 4
)

// usageError is a command line that cannot be carried out, or a cancelled one.
type usageError struct{ error }

// exitCode carries a child's exit code through.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	a := &app{in: in, out: out, err: errOut, typed: args}
	root := rootCommand(a)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	return a.report(root.ExecuteContext(ctx))
}

// report prints an error once and gives the exit code.
func (a *app) report(err error) int {
	var code exitCode
	var usage usageError
	var refusal *api.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(a.err, "agentkeys: cancelled")
		return exitUsage
	}
	if errors.As(err, &refusal) {
		a.names(refusal)
	}
	if a.json {
		switch {
		case errors.As(err, &refusal):
		case errors.As(err, &usage):
			refusal = &api.Error{Status: exitUsage, Code: "usage", Message: err.Error()}
		default:
			refusal = &api.Error{Status: exitError, Code: "error", Message: err.Error()}
		}
		_ = json.NewEncoder(a.err).Encode(refusal)
	} else {
		fmt.Fprintln(a.err, "agentkeys: "+err.Error())
	}
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &refusal) && refusal.Status == 401:
		return exitAuth
	}
	return exitError
}

// names puts the names of agents known here in the place of their addresses.
func (a *app) names(e *api.Error) {
	for wallet, name := range a.agentNames() {
		e.Message = strings.ReplaceAll(e.Message, wallet, name)
		e.Next = strings.ReplaceAll(e.Next, wallet, name)
	}
}

func rootCommand(a *app) *cobra.Command {
	root := group(&cobra.Command{
		Use:           "agentkeys",
		Short:         "Your agents use your keys and never hold them",
		Example:       "  agentkeys dev start && agentkeys init\n  agentkeys store github --host api.github.com\n  agentkeys agent add scribe && agentkeys grant github --to scribe\n  agentkeys proxy start && agentkeys run --with github --agent scribe -- curl https://api.github.com/user",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			// A wallet's key, a passphrase or a value may come into this memory. What run and
			// dev run start keeps its own limits; values there are the command's anyway.
			if c.Name() != "run" {
				if err := proxy.Harden(); err != nil {
					return err
				}
			}
			return a.locate()
		},
	})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print data as JSON")
	root.PersistentFlags().StringVar(&a.profileName, "profile", "", "profile to use (default: AGENTKEYS_PROFILE, what profile use chose, or default)")
	root.AddCommand(initCommand(a), loginCommand(a), logoutCommand(a), whoamiCommand(a), sessionCommand(a), statusCommand(a), doctorCommand(a), configCommand(a), profileCommand(a),
		storeCommand(a), listCommand(a), deleteCommand(a), readCommand(a), replaceCommand(a), importCommand(a), runCommand(a), proxyCommand(a), explainCommand(a),
		agentCommand(a), grantCommand(a), epochCommand(a), exposureCommand(a), auditCommand(a),
		devCommand(a), demoCommand(a), demoAgentCommand(a), benchCommand(a), verifyCommand(a), versionCommand(a), manCommand(root))
	a.complete(root)
	return root
}

// group is a command of which only the subcommands do something: a wrong one is a
// usage error, none at all prints the help.
func group(c *cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("%s has no command %q; see: %s --help", c.CommandPath(), args[0], c.CommandPath())}
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// exactly is cobra.ExactArgs as a usage error.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("want %s", what)}
		}
		return nil
	}
}

// data prints the result: JSON if asked for, else what human prints.
func (a *app) data(v any, human func(io.Writer)) error {
	if a.json {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	human(a.out)
	return nil
}

// commit is what this program was built from; the linker writes it, scripts/build.sh.
var commit string

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: exactly(0, "no arguments"), Example: "  agentkeys version",
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Module string `json:"module"`
				Commit string `json:"commit"`
				Go     string `json:"go"`
			}{"example.org/agentkeys", orID(commit, "unknown"), "unknown"}
			if bi, ok := debug.ReadBuildInfo(); ok {
				v.Go = bi.GoVersion
			}
			return a.data(v, func(w io.Writer) { fmt.Fprintf(w, "agentkeys %s (%s)\n", v.Commit, v.Go) })
		}}
}
