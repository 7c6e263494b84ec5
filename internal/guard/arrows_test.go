package guard

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestArrows holds every package of the root module against the table.
func TestArrows(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range list(t, "./...") {
		name, ok := nameOf(p.ImportPath)
		if !ok {
			t.Fatalf("%s is not below %s", p.ImportPath, module)
		}
		imports[name] = ours(p)
	}
	for _, fault := range breaches(arrows(), imports) {
		t.Error(fault)
	}
}

// TestBreaches shows that the comparison finds each kind of fault.
func TestBreaches(t *testing.T) {
	tab := []arrow{{"a", "", ""}, {"b", "", "a"}}
	for name, c := range map[string]struct {
		table   []arrow
		imports map[string][]string
		want    []string
	}{
		"as allowed":     {tab, map[string][]string{"a": {}, "b": {"a"}}, nil},
		"arrow up":       {tab, map[string][]string{"a": {"b"}, "b": {"a"}}, []string{"a imports b, which the table does not allow"}},
		"not listed":     {tab, map[string][]string{"a": {}, "b": {"a"}, "c": {}}, []string{"c is not in the table"}},
		"gone":           {tab, map[string][]string{"b": {"a"}}, []string{"the table names a, which does not exist"}},
		"unused":         {tab, map[string][]string{"a": {}, "b": {}}, []string{"the table lets b import a, and it does not"}},
		"table not down": {[]arrow{{"b", "", "a"}, {"a", "", ""}}, map[string][]string{"a": {}, "b": {"a"}}, []string{"the table lets b import a, which is not above it"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := breaches(c.table, c.imports); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestServersAreImportedByCommandsOnly: custodian, rotator and operator are
// programs, not libraries of each other.
func TestServersAreImportedByCommandsOnly(t *testing.T) {
	for _, a := range arrows() {
		for _, to := range strings.Fields(a.imports) {
			if (to == "custodian" || to == "rotator" || to == "operator") && !strings.HasPrefix(a.name, "cmd/") {
				t.Errorf("%s imports the server %s", a.name, to)
			}
		}
	}
}

const tableBegin, tableEnd = "<!-- arrows: printed by internal/guard -->\n", "<!-- /arrows -->\n"

// TestArchitecturePrintsTheTable keeps the page and the table one.
func TestArchitecturePrintsTheTable(t *testing.T) {
	file := filepath.Join(moduleDir(t), "ARCHITECTURE.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table: %q … %q", file, tableBegin, tableEnd)
	}
	hold(t, file, before+tableBegin+table()+tableEnd+after)
}

// difference shows lines that are only in one of two texts.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	if b.Len() == 0 {
		return "(order or repeats differ)"
	}
	return b.String()
}
