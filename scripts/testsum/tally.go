package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one line of `go test -json` (go doc test2json); build events name the package in ImportPath.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64 // seconds
	FailedBuild string
}

// tally counts tests and keeps the output of what has not ended yet, to print it only for what fails.
type tally struct {
	out                     io.Writer
	passed, failed, skipped int
	output                  map[string]*bytes.Buffer // by package and test, or build
	failedIn                map[string]int           // failed tests by package
	ran                     map[string]int           // ended tests by package
}

func newTally(out io.Writer) *tally {
	return &tally{out: out, output: map[string]*bytes.Buffer{}, failedIn: map[string]int{}, ran: map[string]int{}}
}

// read takes the events of one go test until its end. What is not an event is passed on as it is.
func (t *tally) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				t.add(e)
			} else {
				fmt.Fprintf(t.out, "%s\n", bytes.TrimRight(line, "\n"))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("test output: %w", err)
		}
	}
}

func (t *tally) add(e event) {
	switch e.Action {
	case "output":
		t.buffer(e.Package + " " + e.Test).WriteString(e.Output)
	case "build-output":
		t.buffer(e.ImportPath).WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.endPackage(e)
		} else {
			t.endTest(e)
		}
	}
}

func (t *tally) buffer(key string) *bytes.Buffer {
	if t.output[key] == nil {
		t.output[key] = &bytes.Buffer{}
	}
	return t.output[key]
}

func (t *tally) endTest(e event) {
	key := e.Package + " " + e.Test
	t.ran[e.Package]++
	switch e.Action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
		fmt.Fprintf(t.out, "skip  %s%s\n", key, reason(t.buffer(key).String()))
	case "fail":
		t.failed++
		t.failedIn[e.Package]++
		fmt.Fprintf(t.out, "FAIL  %s (%.2f s)\n%s", key, e.Elapsed, t.buffer(key))
	}
	delete(t.output, key)
}

// reason is the line in which a test says why it skips.
func reason(output string) string {
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return ": " + line
		}
	}
	return ""
}

// endPackage counts a package that failed without a failed test (build, panic, TestMain, time limit) as one failure.
func (t *tally) endPackage(e event) {
	key := e.Package + " "
	switch {
	case e.Action == "fail":
		if t.failedIn[e.Package] == 0 {
			t.failed++
		}
		fmt.Fprintf(t.out, "FAIL  %s (%.1f s)\n", e.Package, e.Elapsed)
		if e.FailedBuild != "" {
			fmt.Fprint(t.out, t.buffer(e.FailedBuild))
		}
		t.printUnfinished(e.Package)
	case t.ran[e.Package] > 0:
		fmt.Fprintf(t.out, "ok    %s %d tests (%.1f s)\n", e.Package, t.ran[e.Package], e.Elapsed)
	}
	delete(t.output, key)
}

// printUnfinished prints what the package and tests without an end had said: a panic speaks there.
func (t *tally) printUnfinished(pkg string) {
	for key, output := range t.output {
		if strings.HasPrefix(key, pkg+" ") {
			fmt.Fprint(t.out, output)
			delete(t.output, key)
		}
	}
}

// close writes the closing line.
func (t *tally) close() error {
	line := fmt.Sprintf("%d passed, %d failed", t.passed, t.failed)
	if t.skipped > 0 {
		line += fmt.Sprintf(", %d skipped", t.skipped)
	}
	if t.passed+t.failed == 0 {
		fmt.Fprintln(t.out, "FAIL  no test ran")
	}
	fmt.Fprintln(t.out, line)
	if t.failed > 0 || t.passed == 0 {
		return errNotGreen
	}
	return nil
}
