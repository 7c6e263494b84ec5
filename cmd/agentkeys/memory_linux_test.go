package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openMemory runs a command as agentkeys does and says whether other programs of the
// user id could read its memory before and after.
func openMemory(args []string) {
	before, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	var out bytes.Buffer
	code := run(args, strings.NewReader(""), &out, &out)
	after, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	var core unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &core)
	fmt.Printf("exit %d, dumpable %d then %d, core %d\n", code, before, after, core.Cur)
}

// The memory of a command that asks for the passphrase, or takes a value, is closed to
// programs of the same user id before it does.
func TestMemoryIsClosed(t *testing.T) {
	for line, want := range map[string]string{
		"version":     "exit 0, dumpable 1 then 0, core 0",
		"config show": "exit 0, dumpable 1 then 0, core 0",
		"run -- true": "exit 2, dumpable 1 then 1", // its child keeps what limits it had
	} {
		out, err := exec.Command("on-terminal", append([]string{"memory"}, strings.Fields(line)...)...).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %q, %v; want %q", line, out, err, want)
		}
	}
}

// Whoever is asked for a passphrase sees for which command.
func TestPromptSaysWhatFor(t *testing.T) {
	for name, c := range map[string]struct {
		over  bool
		typed []string
		shows string
	}{
		"grant":      {false, []string{"grant", "github", "--to", "scribe", "--reveal"}, "agentkeys grant github --to scribe --reveal\r\nPassphrase of your wallet: "},
		"session":    {true, []string{"list"}, "agentkeys list\r\nThere is no live session of yours, so it needs your wallet.\r\nPassphrase of your wallet: "},
		"not a lie":  {false, []string{"grant", "a\r\x1b[2K", "agentkeys list"}, `agentkeys grant "a\r\x1b[2K" "agentkeys list"` + "\r\nPassphrase of your wallet: "},
		"no command": {false, []string{""}, `agentkeys ""` + "\r\nPassphrase of your wallet: "},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"ask", fmt.Sprint(c.over)}
			typed, cmd := terminal(t, append(args, c.typed...)...)
			await(t, bufio.NewReader(typed), c.shows)
			fmt.Fprintln(typed, "right")
			_ = cmd.Wait()
		})
	}
}
