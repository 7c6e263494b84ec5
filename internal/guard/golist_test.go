package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pkg is what go list says of a package.
type pkg struct {
	ImportPath, Dir  string
	Standard         bool
	Imports, GoFiles []string
	Module           *struct{ Path, Version string }
	DepOnly          bool
	Incomplete       bool
}

// moduleDir is the folder of the root module.
func moduleDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// goTool is a go command in the root module that sees this module alone, with the
// settings of an enclave build: those of scripts/build.sh, for the rotator too, since
// packages that do not erase are the same with it.
func goTool(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no Go toolchain in PATH; make test brings one")
	}
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local", "CGO_ENABLED=0", "GOEXPERIMENT=runtimesecret", "GOOS=linux", "GOARCH=amd64")
	return cmd
}

// watch opens every folder of the module. go test does not see what a go command
// reads, and would repeat a stored "ok" after a source file has changed.
func watch(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(moduleDir(t), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != moduleDir(t) && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// list runs go list -json. The answer for one platform holds on every machine.
func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	watch(t)
	cmd := goTool(t, moduleDir(t), append([]string{"list", "-json=ImportPath,Dir,Standard,Imports,GoFiles,Module,DepOnly,Incomplete"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Incomplete {
			t.Fatalf("go list: %s is incomplete", p.ImportPath)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) == 0 {
		t.Fatal("go list: no package")
	}
	return pkgs
}

// ours gives the own packages that a package's code imports.
func ours(p pkg) []string {
	names := []string{}
	for _, i := range p.Imports {
		if name, ok := nameOf(i); ok {
			names = append(names, name)
		}
	}
	return names
}

// hold compares with a file, or with UPDATE set writes it.
func hold(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: differs from what is true now; if that is meant: UPDATE=1 go test ./internal/guard\n%s", file, difference(string(want), got))
	}
}
