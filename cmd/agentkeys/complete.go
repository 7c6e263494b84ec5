package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// completeWithin bounds a completion: a shell does not wait for a vault.
const completeWithin = 700 * time.Millisecond

// complete lets the shell complete names: services where a command takes one, agents
// after the flags that name one. Whatever fails, it offers nothing and says nothing.
func (a *app) complete(root *cobra.Command) {
	_ = root.RegisterFlagCompletionFunc("profile", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return a.completeProfiles(), cobra.ShellCompDirectiveNoFileComp
	})
	services := map[string]bool{"store": false, "replace": true, "read": true, "delete": true, "grant": true, "revoke": true}
	agents := []string{"agent", "to", "slot"}
	for _, c := range everyCommand(root) {
		switch parent := c.Parent(); {
		case parent != nil && parent.Name() == "agent":
			c.ValidArgsFunction = a.completeFirst(a.completeAgents)
		case services[c.Name()]:
			c.ValidArgsFunction = a.completeFirst(a.completeServices)
		case c.Name() == "explain":
			c.ValidArgsFunction = a.completeFirst(a.completeAgents)
		case parent != nil && parent.Name() == "profile" && c.Name() == "use":
			c.ValidArgsFunction = a.completeFirst(a.completeProfiles)
		}
		for _, f := range agents {
			if c.Flags().Lookup(f) != nil {
				_ = c.RegisterFlagCompletionFunc(f, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
					return a.completeAgents(), cobra.ShellCompDirectiveNoFileComp
				})
			}
		}
		for _, f := range []string{"with", "env"} {
			if c.Name() == "run" {
				_ = c.RegisterFlagCompletionFunc(f, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
					return a.completeServices(), cobra.ShellCompDirectiveNoFileComp
				})
			}
		}
	}
}

func everyCommand(c *cobra.Command) (all []*cobra.Command) {
	for _, s := range c.Commands() {
		all = append(append(all, s), everyCommand(s)...)
	}
	return all
}

func (a *app) completeFirst(names func() []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeAgents lists the agents whose keys are here.
func (a *app) completeAgents() (names []string) {
	if a.locate() != nil {
		return nil
	}
	files, _ := filepath.Glob(a.path("agents", "*.json"))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	return names
}

func (a *app) completeProfiles() []string {
	if a.locate() != nil {
		return nil
	}
	names, _ := a.profiles()
	return names
}

// completeServices asks the vault, if the owner is logged in; nobody is asked for a
// passphrase.
func (a *app) completeServices() (names []string) {
	if a.locate() != nil || outsideRun() != nil {
		return nil
	}
	c, err := a.resumed()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	l, err := c.List(ctx)
	if err != nil {
		return nil
	}
	for _, it := range l.Credentials {
		names = append(names, it.Service)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func manCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "man DIR", Short: "Write manual pages into a folder", Args: exactly(1, "one DIR"), Example: "  agentkeys man ~/.local/share/man/man1",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root.DisableAutoGenTag = true
			// The date would make every build another page.
			date := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			return doc.GenManTree(root, &doc.GenManHeader{Title: "AGENTKEYS", Section: "1", Source: "AgentKeys", Date: &date}, args[0])
		}}
}
