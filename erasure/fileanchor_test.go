package erasure_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/anchortest"
)

func fileHarness(t *testing.T) (anchortest.Harness, string) {
	dir := filepath.Join(t.TempDir(), "anchor")
	open := func() (erasure.Anchor, error) { return erasure.NewFileAnchor(dir), nil }
	anchor := erasure.NewFileAnchor(dir)
	if err := anchor.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	return anchortest.Harness{Anchor: anchor, Reopen: open}, dir
}

func TestFileAnchorKeepsTheContract(t *testing.T) {
	anchortest.Run(t, func(t *testing.T) anchortest.Harness { h, _ := fileHarness(t); return h })
}

// What Limit admits is true: with a copy of the disk the old root is back.
func TestFileAnchorDoesNotWithstandACopyOfTheDisk(t *testing.T) {
	h, dir := fileHarness(t)
	h.Save = func() (func() error, error) {
		copied := readFiles(t, dir)
		return func() error {
			for _, name := range []string{"root-a", "root-b"} {
				os.Remove(filepath.Join(dir, name))
			}
			for name, b := range copied {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
	err := anchortest.Check(t.Context(), h)
	if err == nil || !strings.Contains(err.Error(), "gives a destroyed root") {
		t.Errorf("Check: %v", err)
	}
	a := h.Anchor.(*erasure.FileAnchor)
	if a.Kind() != "file" || !strings.Contains(a.Limit(), "copy") || !strings.Contains(a.Limit(), "root,") {
		t.Errorf("kind %q, limit %q", a.Kind(), a.Limit())
	}
}

func TestFileAnchorFiles(t *testing.T) {
	h, dir := fileHarness(t)
	first, second := erasure.Root{1}, erasure.Root{2}
	for _, root := range []erasure.Root{first, second} {
		if err := h.Anchor.Stage(t.Context(), root); err != nil {
			t.Fatal(err)
		}
	}
	for name := range readFiles(t, dir) {
		if info, _ := os.Stat(filepath.Join(dir, name)); info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
	}
	// A second name for the file shows that it was overwritten before unlinking.
	other := filepath.Join(t.TempDir(), "second-name")
	if err := os.Link(filepath.Join(dir, "root-a"), other); err != nil {
		t.Fatal(err)
	}
	if err := h.Anchor.Destroy(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(other); err != nil || string(b) != string(make([]byte, 32)) {
		t.Errorf("unlinked file holds %x, %v", b, err)
	}
	if names := slices.Sorted(maps.Keys(readFiles(t, dir))); !slices.Equal(names, []string{"root-b"}) {
		t.Errorf("files %v", names)
	}
}

func TestFileAnchorAfterACrash(t *testing.T) {
	full := strings.Repeat("r", 32)
	for _, c := range []struct {
		name  string
		files map[string]string
		roots int
		fails bool
	}{
		{"staged half", map[string]string{"root-a": full, "root-b.new": "rrr"}, 1, false},
		{"staged whole, not renamed", map[string]string{"root-a": full, "root-b.new": full}, 1, false},
		{"destroyed, not unlinked", map[string]string{"root-a": string(make([]byte, 32)), "root-b": full}, 1, false},
		{"short file", map[string]string{"root-a": "rrr"}, 0, true},
		{"long file", map[string]string{"root-a": full + "r"}, 0, true},
	} {
		h, dir := fileHarness(t)
		for name, content := range c.files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		anchor, err := h.Reopen()
		if err != nil {
			t.Fatal(err)
		}
		roots, err := anchor.Roots(t.Context())
		if len(roots) != c.roots || (err != nil) != c.fails {
			t.Errorf("%s: %d roots, %v", c.name, len(roots), err)
		}
		if !c.fails && len(readFiles(t, dir)) != c.roots {
			t.Errorf("%s: files left: %v", c.name, slices.Sorted(maps.Keys(readFiles(t, dir))))
		}
	}
}

// Two FileAnchors on one directory stand for two processes: the one that opens takes
// no root that the other stages or destroys for the rest of a crash.
func TestFileAnchorOpenedTwice(t *testing.T) {
	h, _ := fileHarness(t)
	kept := erasure.Root{1}
	if err := h.Anchor.Stage(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			other, err := h.Reopen()
			if err != nil {
				t.Error(err)
				return
			}
			if roots, err := other.Roots(t.Context()); err != nil || !slices.Contains(roots, kept) {
				t.Errorf("%d roots, %v", len(roots), err)
			}
		}
	})
	for n := range 50 {
		root := erasure.Root{2, byte(n)}
		if err := h.Anchor.Stage(t.Context(), root); err != nil {
			t.Errorf("stage %d: %v", n, err)
		}
		if err := h.Anchor.Destroy(t.Context(), root); err != nil {
			t.Errorf("destroy %d: %v", n, err)
		}
	}
	close(stop)
	wg.Wait()
}

// A place that was moved away is not made again: brought back it is as it was.
func TestFileAnchorMovedAway(t *testing.T) {
	h, dir := fileHarness(t)
	root := erasure.Root{1}
	if err := h.Anchor.Stage(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := h.Anchor.Roots(t.Context())
	for what, err := range map[string]error{"roots": err, "stage": h.Anchor.Stage(t.Context(), erasure.Root{2}), "destroy": h.Anchor.Destroy(t.Context(), root)} {
		if err == nil || !strings.Contains(err.Error(), dir+" is not there: bring it back") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if roots, err := h.Anchor.Roots(t.Context()); err != nil || !slices.Equal(roots, []erasure.Root{root}) {
		t.Errorf("back again: %d roots, %v", len(roots), err)
	}
}

func TestFileAnchorRefusesOpenModes(t *testing.T) {
	h, dir := fileHarness(t)
	if err := h.Anchor.Stage(t.Context(), erasure.Root{1}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "root-a"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Anchor.Roots(t.Context()); err == nil {
		t.Error("a root that others can read is accepted")
	}
}

func readFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = b
	}
	return files
}
