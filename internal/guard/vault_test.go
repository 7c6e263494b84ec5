package guard

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestVaultModuleImports reads the sources of x/vault, which is in a module of its
// own: other chains import it, so it may reach only what a statement needs.
func TestVaultModuleImports(t *testing.T) {
	allowed := []string{root, "receipt", "statement", "eip712", "rules", "chain/x/vault"}
	dir := filepath.Join(moduleDir(t), "chain", "x", "vault")
	own := sourceImports(t, dir)
	if !slices.Contains(own, "rules") {
		t.Errorf("x/vault does not import rules; this guard looks at the wrong thing: %v", own)
	}
	for _, name := range own {
		if !slices.Contains(allowed, name) {
			t.Errorf("x/vault imports %s, allowed are %v", name, allowed)
		}
	}
}

// TestOtherModulesAreNotBelow: the root module needs neither of the other two.
func TestOtherModulesAreNotBelow(t *testing.T) {
	for _, p := range list(t, "-deps", "./...") {
		for _, heavy := range []string{module + "/chain", module + "/devcloud", "github.com/cosmos", "github.com/cometbft", "github.com/versity", "cosmossdk.io"} {
			if p.ImportPath == heavy || strings.HasPrefix(p.ImportPath, heavy+"/") {
				t.Errorf("the root module reaches %s", p.ImportPath)
			}
		}
	}
}

// sourceImports gives our own packages that the files of a folder import, tests
// left out.
func sourceImports(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no Go file (%v)", dir, err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		src, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range src.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if name, ok := nameOf(p); ok && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
