package main

import (
	"os"

	"golang.org/x/term"
)

// Colours of text that people look at: on a terminal only, never with --json or
// NO_COLOR (no-color.org).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (a *app) colours() bool {
	f, ok := a.out.(*os.File)
	return ok && !a.json && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

func (a *app) paint(colour, text string) string {
	if !a.colours() {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
