package adversary

import (
	"slices"
	"strings"
	"testing"
)

// TestMutants: every leaky vault is caught, for the reason that its patch names.
func TestMutants(t *testing.T) {
	if !long() {
		t.Skip("a stack for each: run make adversary, or set AGENTKEYS_ADVERSARY=long")
	}
	all, err := Mutants()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		t.Run(m.Name, func(t *testing.T) {
			s, names := shortPlay(t, m)
			l := s.loot(t)
			rows := thief(t, l, names, false).Report()
			if l.NoImages != "" && strings.Contains(m.Caught.String(), "memory of") {
				t.Skip(l.NoImages)
			}
			if Check(rows) == nil {
				t.Fatalf("nothing leaked, though: %s", m.What)
			}
			if leaks := Leaks(rows); !slices.ContainsFunc(leaks, m.Caught.MatchString) {
				t.Errorf("leaked, but for another reason than %s:\n%s", m.Caught, strings.Join(leaks, "\n"))
			}
		})
	}
}

// TestPatchesApply: a patch that the source has outgrown shows at once.
func TestPatchesApply(t *testing.T) {
	all, err := changes()
	if err != nil || len(all) < 9 {
		t.Fatalf("%d patches, %v", len(all), err)
	}
	for _, m := range all {
		if _, err := Overlay(t.TempDir(), m); err != nil {
			t.Error(err)
		}
	}
	mutants, err := Mutants()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range mutants {
		names = append(names, m.Name)
	}
	want := []string{"dek-in-log", "freed-keys-left", "job-in-first-message", "root-kept", "root-under-lasting-key", "shard-key-reused", "share-in-memory", "share-salt-ignored"}
	if !slices.Equal(names, want) {
		t.Errorf("mutants are %v, want %v", names, want)
	}
}

func TestPatchThatDoesNotApply(t *testing.T) {
	for _, text := range []string{
		"what: w\nprograms: p\n=== rotator/rotator.go\n<<<<<<<\nnot there\n-------\nnew\n>>>>>>>\n",
		"what: w\nprograms: p\n=== rotator/rotator.go\n<<<<<<<\n\t}\n-------\nmany\n>>>>>>>\n",
		"what: w\nprograms: p\n=== nowhere.go\n<<<<<<<\nold\n-------\nnew\n>>>>>>>\n",
	} {
		m, err := parseMutant("m", text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Overlay(t.TempDir(), m); err == nil {
			t.Errorf("applied: %s", text)
		}
	}
	for _, text := range []string{"", "what: w\n", "what: w\nprograms: p\nodd: x\n", "what: w\nprograms: p\n=== f\nstray\n"} {
		if _, err := parseMutant("m", text); err == nil {
			t.Errorf("parsed: %q", text)
		}
	}
}
