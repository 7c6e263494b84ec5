package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// setting is one effective setting and where it comes from.
type setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"` // flag, environment, file, default
	Where  string `json:"where"`
}

func configCommand(a *app) *cobra.Command {
	c := group(&cobra.Command{Use: "config", Short: "Settings and where they come from", Example: "  agentkeys config show --origin"})
	var origin bool
	show := &cobra.Command{Use: "show", Short: "Show every effective setting", Args: exactly(0, "no arguments"), Example: "  agentkeys config show --origin",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := a.settings(cmd.Flags().Changed("profile"), cmd.Flags().Changed("json"))
			return a.data(s, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				for _, x := range s {
					if origin {
						fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", x.Name, x.Value, x.Origin, x.Where)
					} else {
						fmt.Fprintf(t, "%s\t%s\n", x.Name, x.Value)
					}
				}
				t.Flush()
			})
		}}
	show.Flags().BoolVar(&origin, "origin", false, "say where each comes from")
	c.AddCommand(show)
	return c
}

// settings collects them. There are no secrets among them.
func (a *app) settings(profileFlag, jsonFlag bool) (out []setting) {
	add := func(name, value, origin, where string) { out = append(out, setting{name, value, origin, where}) }
	fromEnv := func(name, variable, value, otherwise string) {
		if os.Getenv(variable) != "" {
			add(name, value, "environment", variable)
		} else {
			add(name, value, "default", otherwise)
		}
	}
	fromEnv("home", "AGENTKEYS_HOME", a.home, "~/.agentkeys")
	switch {
	case profileFlag:
		add("profile", a.profileName, "flag", "--profile")
	case os.Getenv("AGENTKEYS_PROFILE") != "":
		add("profile", a.profileName, "environment", "AGENTKEYS_PROFILE")
	case a.chosenProfile() != "":
		add("profile", a.profileName, "file", a.path("profile"))
	default:
		add("profile", a.profileName, "default", "")
	}
	file := a.path("profiles", a.profileName+".json")
	p, err := a.loadProfile()
	if err != nil {
		file += " (missing)"
	}
	for _, x := range [][2]string{{"custodian", p.Custodian}, {"pin", p.Pin}, {"vault id", p.VaultID}, {"chain id", p.ChainID}, {"node", p.Node},
		{"relay", p.Relay}, {"trusted header", trustedHeader(p)}, {"development stack", p.Dev}} {
		add(x[0], x[1], "file", file)
	}
	switch {
	case a.unlock() != unlockOwner:
		add("passphrase", a.unlock(), "file", a.path("wallet.json"))
	case os.Getenv("AGENTKEYS_PASSPHRASE_FILE") != "":
		add("passphrase", "in "+os.Getenv("AGENTKEYS_PASSPHRASE_FILE"), "environment", "AGENTKEYS_PASSPHRASE_FILE")
	default:
		add("passphrase", "asked for", "default", "the terminal")
	}
	add("proxy socket", a.socket(), "default", "")
	if jsonFlag {
		add("output", "json", "flag", "--json")
	} else {
		add("output", "text", "default", "")
	}
	fromEnv("colours", "NO_COLOR", fmt.Sprint(a.colours()), "on a terminal")
	return out
}

// trustedHeader is where verify starts: height and hash, "" if the profile names none.
func trustedHeader(p profile) string {
	if p.Hash == "" {
		return ""
	}
	return fmt.Sprintf("%d %s", p.Height, p.Hash)
}

// chosenProfile is what profile use wrote, "" if nothing.
func (a *app) chosenProfile() string {
	b, err := os.ReadFile(a.path("profile"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
