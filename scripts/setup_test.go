// Package scripts_test runs the tests of the set-up script, each of its cases as one test.
package scripts_test

import (
	"archive/zip"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cannotRun is the exit code of a case that this machine cannot run.
const cannotRun = 77

func TestSetup(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal("bash is needed by every script here:", err)
	}
	readScripts(t)
	zips := t.TempDir()
	for _, target := range []string{"linux-amd64", "linux-arm64", "darwin-arm64"} {
		writeToolchain(t, filepath.Join(zips, target+".zip"), target)
	}
	list, err := exec.CommandContext(t.Context(), bash, "setup_test.sh", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(list))
	if len(names) == 0 {
		t.Fatal("setup_test.sh lists no case")
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), bash, "setup_test.sh", name)
			cmd.Env = append(os.Environ(), "ZIPS="+zips)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			switch {
			case errors.As(err, &exit) && exit.ExitCode() == cannotRun:
				t.Skip(strings.TrimSpace(string(out)))
			case err != nil:
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

// readScripts reads what the cases run, because go test keeps a result until a file that the test itself read changes.
func readScripts(t *testing.T) {
	t.Helper()
	paths := []string{"../.ci/run"}
	for _, pattern := range []string{"*.sh", "setup/*", "../go.mod", "../*/go.mod"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	for _, path := range paths {
		if _, err := os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
}

// writeToolchain makes a zip laid out like module golang.org/toolchain: no modes, go.mod spelt _go.mod.
func writeToolchain(t *testing.T, path, target string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	archive := zip.NewWriter(file)
	root := "golang.org/toolchain@v0.0.1-go9.9.9." + target + "/"
	for name, content := range map[string]string{
		"bin/go":             "#!/usr/bin/env bash\n[ -f \"${0%/bin/go}/src/go.mod\" ] && echo go9.9.9\n",
		"pkg/tool/x/compile": "#!/bin/sh\n",
		"src/_go.mod":        "module std\n",
	} {
		w, err := archive.Create(root + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
}
