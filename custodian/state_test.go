package custodian

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestStateSurvivesRestart(t *testing.T) {
	home := t.TempDir()
	s, err := OpenState(home, true)
	check(t, err)
	seed, key, boots := bytes.Clone(s.Seed.Reveal()), s.Key(), s.Boots
	pin, err := s.Pin()
	check(t, err)
	if _, err := OpenState(home, true); !errors.Is(err, ErrLocked) {
		t.Fatalf("a second process got in: %v", err)
	}
	check(t, s.Close())
	s, err = OpenState(home, true)
	check(t, err)
	defer s.Close()
	again, err := s.Pin()
	check(t, err)
	if !bytes.Equal(s.Seed.Reveal(), seed) || s.Key() != key || again != pin || s.Boots != boots+1 {
		t.Fatal("seed, key, pin or boots are not what they were")
	}
	for _, name := range []string{"seed.dev", "instance.key", "operator.token", "tls.pem"} {
		info, err := os.Stat(filepath.Join(home, name))
		check(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
}

func TestStateRefuses(t *testing.T) {
	if _, err := OpenState(t.TempDir(), false); err == nil {
		t.Error("software sealing without --development")
	}
	tests := map[string]func(home string) error{
		"a lost seed":       func(h string) error { return os.Remove(filepath.Join(h, "seed.dev")) },
		"a damaged seed":    func(h string) error { return os.WriteFile(filepath.Join(h, "seed.dev"), []byte("x"), 0o600) },
		"a seed for all":    func(h string) error { return os.Chmod(filepath.Join(h, "seed.dev"), 0o644) },
		"a damaged key":     func(h string) error { return os.Truncate(filepath.Join(h, "instance.key"), 40) },
		"a damaged counter": func(h string) error { return os.WriteFile(filepath.Join(h, "boots"), []byte("-1"), 0o600) },
	}
	for name, harm := range tests {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			s, err := OpenState(home, true)
			check(t, err)
			check(t, s.Close())
			check(t, harm(home))
			if s, err := OpenState(home, true); err == nil {
				s.Close()
				t.Fatal("accepted")
			}
		})
	}
}

// A start that stopped before the instance key was written begins anew.
func TestInterruptedFirstStart(t *testing.T) {
	home := t.TempDir()
	s, err := OpenState(home, true)
	check(t, err)
	seed := bytes.Clone(s.Seed.Reveal())
	check(t, s.Close())
	check(t, os.Remove(filepath.Join(home, "instance.key")))
	s, err = OpenState(home, true)
	check(t, err)
	defer s.Close()
	if !bytes.Equal(s.Seed.Reveal(), seed) {
		t.Fatal("the seed changed")
	}
}
