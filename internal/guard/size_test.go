package guard

import (
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"testing"
)

// How much code the rotator may be. docs/adr/0012 says why these numbers, and 0014
// why the sandbox is counted by itself.
const (
	maxCore    = 705  // rotator, rotation, receipt, envelope
	maxClosure = 1215 // all own packages that the rotator reaches
	maxSandbox = 340  // internal/sandbox
)

// TestRotatorIsSmall counts lines of code: lines that hold a token which is not a
// comment.
func TestRotatorIsSmall(t *testing.T) {
	lines := map[string]int{}
	sum := 0
	for _, p := range list(t, "-deps", "./rotator") {
		name, ok := nameOf(p.ImportPath)
		if !ok {
			continue
		}
		lines[name] = packageLines(t, p)
		sum += lines[name]
	}
	core := lines["rotator"] + lines["rotation"] + lines["receipt"] + lines["envelope"]
	t.Logf("%v: core %d of %d, closure %d of %d", lines, core, maxCore, sum, maxClosure)
	if core > maxCore {
		t.Errorf("rotator, rotation, receipt and envelope have %d lines of code, at most %d: %v", core, maxCore, lines)
	}
	if sum > maxClosure {
		t.Errorf("the rotator reaches %d lines of our code, at most %d: %v", sum, maxClosure, lines)
	}
}

// TestSandboxIsSmall: what shuts the rotator in is outside of what the rotator
// reaches, but inside of its program. It is small too, and nothing but the standard
// library, of which it needs neither network nor text formats.
func TestSandboxIsSmall(t *testing.T) {
	for _, p := range list(t, "-deps", "./internal/sandbox") {
		name, ok := nameOf(p.ImportPath)
		switch {
		case !ok && (!p.Standard || forbidden(p.ImportPath)):
			t.Errorf("internal/sandbox reaches %s", p.ImportPath)
		case ok && name != "internal/sandbox":
			t.Errorf("internal/sandbox reaches %s of ours", name)
		case ok:
			n := packageLines(t, p)
			t.Logf("%d lines of %d", n, maxSandbox)
			if n > maxSandbox {
				t.Errorf("internal/sandbox has %d lines of code, at most %d", n, maxSandbox)
			}
		}
	}
}

func packageLines(t *testing.T, p pkg) (n int) {
	t.Helper()
	for _, f := range p.GoFiles {
		b, err := os.ReadFile(filepath.Join(p.Dir, f))
		if err != nil {
			t.Fatal(err)
		}
		n += codeLines(t, f, b)
	}
	return n
}

func codeLines(t *testing.T, name string, src []byte) int {
	t.Helper()
	fset := token.NewFileSet()
	file := fset.AddFile(name, fset.Base(), len(src))
	var s scanner.Scanner
	s.Init(file, src, func(pos token.Position, msg string) { t.Errorf("%s: %s", pos, msg) }, 0)
	lines := map[int]bool{}
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return len(lines)
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue // put in by the scanner
		}
		first := file.Line(pos)
		for i := range 1 + newlines(lit) {
			lines[first+i] = true
		}
	}
}

func newlines(s string) (n int) {
	for _, c := range s {
		if c == '\n' {
			n++
		}
	}
	return n
}

func TestCodeLines(t *testing.T) {
	for src, want := range map[string]int{
		"package a\n": 1,
		"package a\n\n// only words\n\n/* and\nmore */\n":    1,
		"package a\n\nvar s = `one\ntwo\nthree`\n":           4,
		"package a\n\nfunc f() {\n\t// why\n\tg() // too\n}": 4,
	} {
		if got := codeLines(t, "a.go", []byte(src)); got != want {
			t.Errorf("%q: %d lines, want %d", src, got, want)
		}
	}
}
