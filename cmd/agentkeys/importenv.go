package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

// entry is one assignment of a .env file.
type envEntry struct {
	service string
	value   []byte
}

func importCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "import FILE", Short: "Store every value of a .env file", Args: exactly(1, "one FILE"),
		Long:    "Stores each NAME=value of a .env file: GITHUB_TOKEN becomes github, STRIPE_SECRET_KEY becomes stripe. Values\nthat are stored already are left as they are and reported. The file is not changed.",
		Example: "  agentkeys import .env",
		RunE: func(cmd *cobra.Command, args []string) error {
			done, skipped, err := a.importFile(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.data(done, func(w io.Writer) {
				for _, s := range done {
					fmt.Fprintf(w, "%s v%d\n", s.Service, s.Version)
				}
				for _, s := range skipped {
					fmt.Fprintf(a.err, "%s is stored already; to put the new value in its place: agentkeys replace %s\n", s, s)
				}
			})
		}}
}

func (a *app) importFile(ctx context.Context, path string) (done []stored, skipped []string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	defer clear(b)
	entries, err := parseEnv(b)
	if err != nil {
		return nil, nil, err
	}
	cl, err := a.owner(ctx)
	if err != nil {
		return nil, nil, err
	}
	done = []stored{}
	for i, e := range entries {
		fmt.Fprintf(a.err, "%d/%d %s\n", i+1, len(entries), e.service)
		s, err := a.put(ctx, cl, agentkeys.Service(e.service), agentkeys.Wallet{}, agentkeys.NewSecret(e.value), nil, statement.IdleCarry, 0)
		if api.CodeOf(err) == "exists" {
			skipped = append(skipped, e.service)
			continue
		}
		if err != nil {
			return done, skipped, fmt.Errorf("%s: %w", e.service, err)
		}
		done = append(done, s)
	}
	return done, skipped, nil
}

// parseEnv reads NAME=value lines: comments, export, single and double quotes.
// Empty values are left out.
func parseEnv(b []byte) ([]envEntry, error) {
	var out []envEntry
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok {
			return nil, fmt.Errorf("line %d: want NAME=value", n)
		}
		value = unquote(strings.TrimSpace(value))
		if value == "" {
			continue
		}
		service, err := agentkeys.ParseService(serviceOf(strings.TrimSpace(name)))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, envEntry{string(service), []byte(value)})
	}
	if len(out) == 0 && sc.Err() == nil {
		return nil, errors.New("the file holds no values")
	}
	return out, sc.Err()
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	if i := strings.Index(s, " #"); i >= 0 {
		return strings.TrimSpace(s[:i])
	}
	return s
}

// serviceOf names a service after a variable: common endings say nothing.
func serviceOf(variable string) string {
	s := strings.ToLower(variable)
	for _, end := range []string{"_secret_key", "_api_key", "_access_token", "_auth_token", "_token", "_key", "_secret", "_password"} {
		if rest, ok := strings.CutSuffix(s, end); ok && rest != "" {
			return rest
		}
	}
	return s
}
