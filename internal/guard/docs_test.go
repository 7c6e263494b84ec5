package guard

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`(Test\\w+)(?:/([\\w]+))?`")
	link     = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// TestDocsNameWhatExists: a page that points to a test or to another page must not
// point into nothing.
func TestDocsNameWhatExists(t *testing.T) {
	root := moduleDir(t)
	tests, sources := testFunctions(t, root)
	pages := []string{filepath.Join(root, "README.md"), filepath.Join(root, "ARCHITECTURE.md"), filepath.Join(root, "CHANGELOG.md")}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		more, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}
	named := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllStringSubmatch(string(b), -1) {
			named++
			if !tests[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
			if sub := strings.ReplaceAll(m[2], "_", " "); sub != "" && !strings.Contains(sources, `"`+sub+`"`) {
				t.Errorf("%s names %s/%s; no test has a part %q", page, m[1], m[2], sub)
			}
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
	if named == 0 {
		t.Error("no page names a test; this guard looks for the wrong thing")
	}
}

// testFunctions gives the names of all test functions of all modules, and the text of
// their files.
func testFunctions(t *testing.T, root string) (map[string]bool, string) {
	t.Helper()
	names := map[string]bool{}
	var sources strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllStringSubmatch(string(b), -1) {
			names[m[1]] = true
		}
		sources.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, sources.String()
}
