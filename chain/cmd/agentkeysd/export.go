package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"example.org/agentkeys/chain/node"
)

func exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "export",
		Short:   "Write the newest state of a stopped node as a genesis to standard output",
		Example: "  agentkeysd export --home chain > genesis.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, _ := cmd.Flags().GetString("home")
			b, err := node.Export(home)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)
			return err
		},
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print what this binary was built from",
		Example:           "  agentkeysd version",
		Args:              cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return fmt.Errorf("version: built without module information")
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", info.Main.Path, info.Main.Version, info.GoVersion)
			return err
		},
	}
}
