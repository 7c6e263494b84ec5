package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// shellLines are the commands of ours in a line for a shell.
func shellLines(text string) (lines [][]string) {
	text, _, _ = strings.Cut(text, " #")
	for _, part := range regexp.MustCompile(`&&|\|\||[|;]`).Split(text, -1) {
		part, _, _ = strings.Cut(part, " <")
		words := strings.Fields(strings.NewReplacer(`"`, "", `'`, "").Replace(part))
		if i := slices.Index(words, "agentkeys"); i >= 0 && i < 2 {
			lines = append(lines, words[i+1:])
		}
	}
	return lines
}

// understood fails unless the command line is one that can be typed.
func understood(t *testing.T, where string, words []string) {
	t.Helper()
	c, rest, err := rootCommand(&app{}).Find(words)
	if err == nil {
		err = c.ParseFlags(rest)
	}
	if err == nil {
		err = c.ValidateArgs(c.Flags().Args())
	}
	if err != nil {
		t.Errorf("%s: agentkeys %s: %v", where, strings.Join(words, " "), err)
	}
}

func TestExamplesCanBeTyped(t *testing.T) {
	n := 0
	for _, c := range commands(rootCommand(&app{})) {
		for line := range strings.Lines(c.Example) {
			for _, words := range shellLines(line) {
				understood(t, c.CommandPath(), words)
				n++
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d examples found", n)
	}
}

func TestPagesCanBeTyped(t *testing.T) {
	n := 0
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "docs/cli.md", "docs/operations.md", "docs/dev-setup/README.md"} {
		b, err := os.ReadFile("../../" + page)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if line, ok := strings.CutPrefix(strings.TrimSpace(line), "$ "); ok {
				for _, words := range shellLines(line) {
					understood(t, page, words)
					n++
				}
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d command lines found", n)
	}
}

// Every command that prints data has its shape in docs/cli.md.
func TestEveryShapeIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := ""
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "|") {
			rows += line
		}
	}
	printsNone := []string{"agentkeys run", "agentkeys man", "agentkeys demo", "agentkeys proxy ca install", "agentkeys proxy ca remove"}
	for _, c := range commands(rootCommand(&app{})) {
		name := strings.TrimPrefix(c.CommandPath(), "agentkeys ")
		if c.Hidden || c.HasSubCommands() && c.Name() != "grant" || slices.Contains(printsNone, c.CommandPath()) {
			continue
		}
		if !strings.Contains(rows, "`"+name+"`") {
			t.Errorf("docs/cli.md does not say what agentkeys %s --json prints", name)
		}
	}
}
