package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"example.org/agentkeys"
	"example.org/agentkeys/client"
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

func profileCommand(a *app) *cobra.Command {
	c := group(&cobra.Command{Use: "profile", Short: "Vaults that you use", Example: "  agentkeys profile list\n  agentkeys profile add work work.json\n  agentkeys profile use work"})
	c.AddCommand(profileAdd(a), &cobra.Command{Use: "list", Short: "List profiles", Args: exactly(0, "no arguments"), Example: "  agentkeys profile list",
		RunE: func(*cobra.Command, []string) error {
			names, err := a.profiles()
			if err != nil {
				return err
			}
			return a.data(names, func(w io.Writer) {
				for _, n := range names {
					sign := " "
					if n == a.profileName {
						sign = "*"
					}
					fmt.Fprintln(w, sign, n)
				}
			})
		}}, &cobra.Command{Use: "use NAME", Short: "Use this profile when none is named", Args: exactly(1, "one NAME"), Example: "  agentkeys profile use work",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := outsideRun(); err != nil {
				return err
			}
			if _, err := serviceArg(args[0]); err != nil {
				return usageError{errors.New("profile name: use a-z, 0-9, '.', '_', '-'")}
			}
			if _, err := os.Stat(a.path("profiles", args[0]+".json")); err != nil {
				return usageError{fmt.Errorf("profile %s does not exist; see: agentkeys profile list", args[0])}
			}
			if err := os.WriteFile(a.path("profile"), []byte(args[0]+"\n"), 0o600); err != nil {
				return err
			}
			return a.data(map[string]string{"profile": args[0]}, func(w io.Writer) { fmt.Fprintln(w, args[0], "is used from now on") })
		}})
	return c
}

func profileAdd(a *app) *cobra.Command {
	return &cobra.Command{Use: "add NAME FILE", Short: "Take a profile that the operator of a vault gave you", Args: exactly(2, "a NAME and a FILE"),
		Long:    "Copies a profile: where a vault is, and by which certificate and ids it is recognised. Whoever chose the file chooses\nwhich vault gets what you store, so take it from the operator only. A profile that is there is not changed.",
		Example: "  agentkeys profile add work work.json",
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := a.addProfile(args[0], args[1])
			if err != nil {
				return err
			}
			return a.data(map[string]string{"profile": args[0], "custodian": p.Custodian, "vault_id": p.VaultID}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is vault %s… at %s\nNext: agentkeys profile use %s && agentkeys doctor\n", args[0], p.VaultID[:8], p.Custodian, args[0])
			})
		}}
}

func (a *app) addProfile(arg, path string) (p profile, err error) {
	if err := outsideRun(); err != nil {
		return p, err
	}
	name, err := serviceArg(arg)
	if err != nil {
		return p, usageError{errors.New("profile name: use a-z, 0-9, '.', '_', '-'")}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("%s is no profile: %w", path, err)
	}
	if u, err := url.Parse(p.Custodian); err != nil || u.Scheme != "https" || u.Host == "" {
		return p, fmt.Errorf("%s is no profile: custodian: want an https URL", path)
	}
	vault, err := agentkeys.ParseVaultID(p.VaultID)
	if err != nil {
		return p, fmt.Errorf("%s is no profile: vault_id: %w", path, err)
	}
	if _, err := client.Dial(client.Endpoint{URL: p.Custodian, Pin: p.Pin, Vault: vault}); err != nil {
		return p, fmt.Errorf("%s is no profile: %w", path, err)
	}
	if _, err := os.Stat(a.path("profiles", string(name)+".json")); err == nil {
		return p, usageError{fmt.Errorf("profile %s is there already; choose another name", name)}
	}
	return p, a.writeJSON(p, "profiles", string(name)+".json")
}

func (a *app) profiles() ([]string, error) {
	files, err := filepath.Glob(a.path("profiles", "*.json"))
	names := []string{}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	if err == nil && len(names) == 0 {
		err = errors.New("there is no profile yet; start a development stack: agentkeys dev start")
	}
	return names, err
}
