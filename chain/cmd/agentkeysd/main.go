// Command agentkeysd is the chain's node: consensus on rows, nothing secret.
//
//	agentkeysd init --home D --chain-id C --vault-id HEX --authority ADDR --fund ADDR=AMOUNT
//	agentkeysd start --home D --rpc 127.0.0.1:26657
//	agentkeysd export --home D > genesis.json
//	agentkeysd init --home E --genesis genesis.json
//
// Every flag can also be set as AGENTKEYS_CHAIN_<FLAG>, such as
// AGENTKEYS_CHAIN_HOME; a flag on the command line wins.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	// Descriptor 3 is looked at before anything else can have opened it.
	ready := inheritedPipe(3)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := rootCommand(ready).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "agentkeysd:", err)
		os.Exit(1)
	}
}

func rootCommand(ready *os.File) *cobra.Command {
	root := &cobra.Command{
		Use:               "agentkeysd",
		Short:             "The chain's node of AgentKeys",
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return fromEnvironment(c.Flags()) },
	}
	root.PersistentFlags().String("home", "", "directory of this node (required)")
	root.AddCommand(initCommand(), startCommand(ready), exportCommand(), versionCommand())
	return root
}

// fromEnvironment sets flags that the command line left out.
func fromEnvironment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := "AGENTKEYS_CHAIN_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, ok := os.LookupEnv(name); ok && !f.Changed && err == nil {
			if err = flags.Set(f.Name, v); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		}
	})
	if home, _ := flags.GetString("home"); err == nil && home == "" && flags.Lookup("home") != nil {
		err = fmt.Errorf("--home is missing: name the directory of this node")
	}
	return err
}

// inheritedPipe gives descriptor fd if a supervisor passed a pipe, a socket or a
// file there.
func inheritedPipe(fd int) *os.File {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil {
		return nil
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFREG:
		syscall.CloseOnExec(fd)
		return os.NewFile(uintptr(fd), "ready")
	}
	return nil
}
