// Command testsum runs the tests of several modules and ends with one line that counts them all:
//
//	N passed, N failed[, N skipped]
//
// Usage: testsum [-race DIR,DIR] [-failed NAME,NAME] [-timeout D] DIR...
//
// It prints a line for each package and, for what failed, the output. Subtests count like tests. It exits 1 when
// anything failed or no test ran at all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err == nil:
		return
	case errors.Is(err, errNotGreen): // the closing line says it and stays the last one
	default:
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	stop()
	os.Exit(1)
}

// errNotGreen: something failed or nothing ran, and the closing line has been written.
var errNotGreen = errors.New("tests failed or none ran")

// run returns errNotGreen when the tests are to blame, any other error when they could not be run.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("testsum", flag.ContinueOnError)
	race := flags.String("race", "", "comma-separated `modules` to test with the race detector")
	failed := flags.String("failed", "", "comma-separated `checks` that failed before; they are counted")
	timeout := flags.Duration("timeout", 20*time.Minute, "limit for one package")
	if err := flags.Parse(args); err != nil {
		return err
	}

	sum := newTally(out)
	for _, name := range split(*failed) {
		fmt.Fprintf(out, "FAIL  check %s, see above\n", name)
		sum.failed++
	}
	for _, dir := range flags.Args() {
		cmd := goTest(ctx, dir, *timeout, slices.Contains(split(*race), dir))
		if err := testModule(ctx, sum, cmd); err != nil {
			return err
		}
	}
	return sum.close()
}

// goTest is the command for the module in dir. The race detector needs cgo everywhere but on macOS.
func goTest(ctx context.Context, dir string, timeout time.Duration, race bool) *exec.Cmd {
	args := []string{"test", "-json", "-p", "2", "-timeout", timeout.String()}
	cmd := exec.CommandContext(ctx, "go")
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	if race {
		args = append(args, "-race")
		if runtime.GOOS != "darwin" {
			cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		}
	}
	cmd.Args = append(append(cmd.Args, args...), "./...")
	return cmd
}

// testModule runs cmd. A module that fails without naming a test or package counts as one failure.
func testModule(ctx context.Context, sum *tally, cmd *exec.Cmd) error {
	fmt.Fprintf(sum.out, "== %s: %s\n", cmd.Dir, strings.Join(cmd.Args, " "))
	before := sum.failed
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("module %s: %w", cmd.Dir, err)
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(sum.out, "FAIL  module %s: %v\n", cmd.Dir, err)
		sum.failed++
		return nil
	}
	readErr := sum.read(stdout)
	waitErr := cmd.Wait()
	if err := errors.Join(readErr, waitErr); err != nil && sum.failed == before {
		fmt.Fprintf(sum.out, "FAIL  module %s: %v\n", cmd.Dir, err)
		sum.failed++
	}
	return ctx.Err()
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
