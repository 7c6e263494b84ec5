package adversary

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

//go:embed mutants
var patches embed.FS

// Mutant is a vault that leaks, or another change of the programs: textual patches
// that are laid over the source when a program is built.
type Mutant struct {
	Name     string
	What     string         // one line
	Caught   *regexp.Regexp // must match how a destroyed epoch opened; nil: nothing may open
	Programs []string       // to build with it
	patches  []patch
}

// patch replaces old, which must occur once, in a file; a file without old is new.
type patch struct{ file, old, new string }

// Mutants gives all that must be caught, in the order of their names.
func Mutants() ([]Mutant, error) {
	all, err := changes()
	return slices.DeleteFunc(all, func(m Mutant) bool { return m.Caught == nil }), err
}

// Change finds one by its name, the harmless ones too.
func Change(name string) (Mutant, error) {
	all, err := changes()
	if err != nil {
		return Mutant{}, err
	}
	for _, m := range all {
		if m.Name == name {
			return m, nil
		}
	}
	return Mutant{}, fmt.Errorf("mutant %q: there is none; see MUTANT=list", name)
}

func changes() (all []Mutant, err error) {
	files, err := fs.Glob(patches, "mutants/*.patch")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := patches.ReadFile(f)
		if err != nil {
			return nil, err
		}
		m, err := parseMutant(strings.TrimSuffix(path.Base(f), ".patch"), string(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// Lines that divide a patch file. Before the first file come "what:", "caught:" and
// "programs:".
const (
	fileMark = "=== "
	oldMark  = "<<<<<<<"
	newMark  = "-------"
	endMark  = ">>>>>>>"
)

func parseMutant(name, text string) (m Mutant, err error) {
	m.Name = name
	var file string
	var part *string
	for line := range strings.Lines(text) {
		mark := strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(mark, fileMark):
			file, part = strings.TrimPrefix(mark, fileMark), nil
		case mark == oldMark && file != "":
			m.patches = append(m.patches, patch{file: file})
			part = &m.patches[len(m.patches)-1].old
		case mark == newMark && part != nil:
			part = &m.patches[len(m.patches)-1].new
		case mark == endMark:
			part = nil
		case part != nil:
			*part += line
		case file == "":
			if err := m.head(mark); err != nil {
				return m, err
			}
		case mark != "":
			return m, fmt.Errorf("%q: outside of a patch", mark)
		}
	}
	if m.What == "" || len(m.Programs) == 0 || len(m.patches) == 0 {
		return m, errors.New("what, programs or patches are missing")
	}
	return m, nil
}

func (m *Mutant) head(line string) (err error) {
	key, value, _ := strings.Cut(line, ": ")
	switch key {
	case "what":
		m.What = value
	case "caught":
		m.Caught, err = regexp.Compile(value)
	case "programs":
		m.Programs = strings.Fields(value)
	default:
		err = fmt.Errorf("%q: unknown line", line)
	}
	return err
}

// Root is the directory of the module, found from this file.
func Root() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", errors.New("adversary: built without paths, so the source is not found")
	}
	return filepath.Dir(filepath.Dir(file)), nil
}

// Overlay writes the patched files into dir and returns the file for "go build
// -overlay". A patch that does not apply to the source as it is now is an error.
func Overlay(dir string, changes ...Mutant) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	texts := map[string]string{}
	for _, m := range changes {
		for _, p := range m.patches {
			if err := p.apply(root, texts); err != nil {
				return "", fmt.Errorf("mutant %s: %w", m.Name, err)
			}
		}
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for name, text := range texts {
		at := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(root, name)] = at
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	at := filepath.Join(dir, "overlay.json")
	return at, os.WriteFile(at, b, 0o600)
}

func (p patch) apply(root string, texts map[string]string) error {
	text, ok := texts[p.file]
	if !ok && p.old != "" {
		b, err := os.ReadFile(filepath.Join(root, p.file))
		if err != nil {
			return err
		}
		text = string(b)
	}
	switch n := strings.Count(text, p.old); {
	case p.old == "":
		text += p.new
	case n != 1:
		return fmt.Errorf("%s: the patch applies %d times, want once:\n%s", p.file, n, p.old)
	default:
		text = strings.Replace(text, p.old, p.new, 1)
	}
	texts[p.file] = text
	return nil
}

// Build makes programs of the root module with changes laid over the source.
func Build(ctx context.Context, dir, bin string, changes ...Mutant) error {
	overlay, err := Overlay(dir, changes...)
	if err != nil {
		return err
	}
	root, err := Root()
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, m := range changes {
		for _, program := range m.Programs {
			if done[program] {
				continue
			}
			done[program] = true
			cmd := exec.CommandContext(ctx, "go", "build", "-p", "2", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
				"-overlay", overlay, "-o", filepath.Join(bin, program), "./cmd/"+program)
			cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local")
			if program == "agentkeys-custodian" || program == "agentkeys-rotator" {
				cmd.Env = append(cmd.Env, "GOEXPERIMENT=runtimesecret") // as scripts/build.sh does
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("build %s with %s: %w\n%s", program, m.Name, err, out)
			}
		}
	}
	return nil
}
