package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// home is the directory of one node: config/ has genesis and keys, data/ has
// blocks and state. One process at a time works in it.
type home struct {
	dir  string
	lock *os.File
}

// openHome locks dir, which it makes if needed, and clears what a killed process
// left half-written.
func openHome(dir string) (*home, error) {
	for _, d := range []string{"config", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("home: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("home: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("home: %s is in use by another agentkeysd: stop it or choose another --home", dir)
		}
		return nil, fmt.Errorf("home: lock: %w", err)
	}
	h := &home{dir: dir, lock: lock}
	if err := h.sweep(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// sweep removes the temporary files of atomic writes that never got their name.
func (h *home) sweep() error {
	for _, d := range []string{"config", "data"} {
		entries, err := os.ReadDir(filepath.Join(h.dir, d))
		if err != nil {
			return fmt.Errorf("home: %w", err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), "write-file-atomic-") && e.Name() != genesisTemp {
				continue
			}
			if err := os.Remove(filepath.Join(h.dir, d, e.Name())); err != nil {
				return fmt.Errorf("home: %w", err)
			}
		}
	}
	return nil
}

func (h *home) genesisFile() string { return filepath.Join(h.dir, "config", "genesis.json") }

const genesisTemp = "genesis.json.new"

// hasChain reports whether the home holds a genesis, which is written last.
func (h *home) hasChain() (bool, error) {
	_, err := os.Stat(h.genesisFile())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// writeGenesis makes the home a chain, all or nothing.
func (h *home) writeGenesis(b []byte) (err error) {
	dir := filepath.Dir(h.genesisFile())
	temp := filepath.Join(dir, genesisTemp)
	if err := writeSynced(temp, b); err != nil {
		return err
	}
	if err := os.Rename(temp, h.genesisFile()); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// close gives the lock back.
func (h *home) close() error { return h.lock.Close() }
