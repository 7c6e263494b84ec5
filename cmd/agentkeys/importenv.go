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
	"example.org/agentkeys/credential"
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
		s, err := a.put(ctx, cl, agentkeys.Service(e.service), agentkeys.Wallet{}, credential.Credential{Secret: agentkeys.NewSecret(e.value), Kind: credential.Other}, 0, 0)
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

// assignment is one line of a .env file.
type assignment struct {
	line        int
	name, value string
}

// parseAssignments reads NAME=value lines: comments, export, single and double quotes.
// What it does not understand is an error, never another value.
func parseAssignments(b []byte) ([]assignment, error) {
	var out []assignment
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "export"); ok && strings.TrimLeft(rest, " \t") != rest {
			line = strings.TrimSpace(rest)
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("line %d: want NAME=value", n)
		}
		value, err := unquote(value)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, assignment{n, strings.TrimSpace(name), value})
	}
	return out, sc.Err()
}

// parseEnv names a service for each assignment. Empty values are left out.
func parseEnv(b []byte) ([]envEntry, error) {
	lines, err := parseAssignments(b)
	if err != nil {
		return nil, err
	}
	var out []envEntry
	for _, l := range lines {
		if l.value == "" {
			continue
		}
		service, err := agentkeys.ParseService(serviceOf(l.name))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", l.line, err)
		}
		out = append(out, envEntry{string(service), []byte(l.value)})
	}
	if len(out) == 0 {
		return nil, errors.New("the file holds no values")
	}
	return out, nil
}

// unquote takes off quotes and a comment behind the value. Backslashes mean
// something in double quotes only: \n, \r, \t, \", \\, \$.
func unquote(raw string) (string, error) {
	s := strings.TrimSpace(raw)
	if s == "" || s[0] != '"' && s[0] != '\'' {
		if i := strings.Index(raw, " #"); i >= 0 {
			s = strings.TrimSpace(raw[:i])
		}
		return s, nil
	}
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == s[0]:
			rest := strings.TrimSpace(s[i+1:])
			if rest != "" && rest[0] != '#' {
				return "", errors.New("something follows the closing quote")
			}
			return out.String(), nil
		case c == '\\' && s[0] == '"' && i+1 < len(s):
			i++
			at := strings.IndexByte(`nrt"\$`, s[i])
			if at < 0 {
				return "", errors.New("in double quotes a backslash wants n, r, t, \", $ or a backslash behind it; use single quotes")
			}
			out.WriteByte("\n\r\t\"\\$"[at])
		default:
			out.WriteByte(c)
		}
	}
	return "", errors.New("the closing quote is missing; a value must end on its line")
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
