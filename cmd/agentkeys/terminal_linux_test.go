package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal starts this test program as on-terminal, in a session of its own whose
// terminal is typed on and read through the file.
func terminal(t *testing.T, args ...string) (*os.File, *exec.Cmd) {
	t.Helper()
	typed, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { typed.Close() })
	if err := unix.IoctlSetPointerInt(int(typed.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(typed.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	cmd := exec.Command("on-terminal", args...) // TestMain has put it into PATH
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return typed, cmd
}

// onTerminal is what runs there: "child" runs "count" as agentkeys run runs a command,
// "choose" asks for a new passphrase, "ask" for that of a command line, "memory" runs a
// command and says whether its memory is open.
func onTerminal() {
	switch os.Args[1] {
	case "child":
		a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
		os.Exit(a.report(a.child([]string{"on-terminal", "count"}, os.Environ(), a.out, a.err)))
	case "choose":
		b, err := chooseTwice()
		fmt.Printf("got %q\n", b)
		a := &app{err: os.Stdout}
		os.Exit(a.report(err))
	case "ask":
		a := &app{over: os.Args[2] == "true", typed: os.Args[3:]}
		_, err := a.askPassphrase()
		os.Exit((&app{err: os.Stdout}).report(err))
	case "memory":
		openMemory(os.Args[2:])
	case "paint":
		plain := &app{out: new(strings.Builder)}
		asJSON := &app{out: os.Stdout, json: true}
		fmt.Printf("painted %q %q %q\n", (&app{out: os.Stdout}).paint(red, "x"), plain.paint(red, "x"), asJSON.paint(red, "x"))
	case "count":
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, syscall.SIGINT)
		fmt.Println("ready")
		<-signals
		n := 1
		for over := time.After(300 * time.Millisecond); ; {
			select {
			case <-signals:
				n++
			case <-over:
				fmt.Printf("interrupts: %d\n", n)
				return
			}
		}
	}
}

// await reads the terminal until it shows text.
func await(t *testing.T, r *bufio.Reader, text string) {
	t.Helper()
	var seen strings.Builder
	for !strings.Contains(seen.String(), text) {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatalf("%v before %q in %q", err, text, seen.String())
		}
		seen.WriteByte(b)
	}
}

// Ctrl-C goes to the whole foreground group: the child gets it once, not once more
// from us.
func TestChildGetsCtrlCOnce(t *testing.T) {
	typed, cmd := terminal(t, "child")
	r := bufio.NewReader(typed)
	await(t, r, "ready")
	if _, err := typed.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	await(t, r, "interrupts: 1\r\n")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNewPassphraseIsAskedTwice(t *testing.T) {
	for name, c := range map[string]struct {
		second, shows string
		code          int
	}{
		"the same": {"right", `got "right"`, 0},
		"another":  {"rihgt", "the two differ", exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			typed, cmd := terminal(t, "choose")
			r := bufio.NewReader(typed)
			await(t, r, "Choose a passphrase for your wallet: ")
			fmt.Fprintln(typed, "right")
			await(t, r, "once more: ")
			fmt.Fprintln(typed, c.second)
			await(t, r, c.shows)
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit %d, want %d", got, c.code)
			}
		})
	}
}

// Colours are for people: on a terminal, unless NO_COLOR says no, and never in JSON.
func TestColours(t *testing.T) {
	for _, c := range []struct{ noColour, term, want string }{
		{"", "xterm", `painted "\x1b[31mx\x1b[0m" "x" "x"`},
		{"1", "xterm", `painted "x" "x" "x"`},
		{"", "dumb", `painted "x" "x" "x"`},
	} {
		t.Setenv("NO_COLOR", c.noColour)
		t.Setenv("TERM", c.term)
		typed, cmd := terminal(t, "paint")
		await(t, bufio.NewReader(typed), c.want)
		_ = cmd.Wait()
	}
}
