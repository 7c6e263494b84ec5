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

	"example.org/agentkeys"
	"example.org/agentkeys/client"
	"github.com/spf13/cobra"
)

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
