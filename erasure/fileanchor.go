package erasure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// FileAnchor keeps the roots in files: for development only, see [FileAnchor.Limit].
//
// State: at most two files root-a and root-b of 32 bytes, mode 0600, in a
// directory of its own, written by this type alone, fsynced with the directory
// before a call returns. A file of zeros, or one still named .new, is what a crash
// left of a destroyed or never staged root and is removed. Every call locks the
// directory, so that another process does not take a root on its way for such a rest.
type FileAnchor struct{ dir string }

var rootFiles = [2]string{"root-a", "root-b"}

// NewFileAnchor names the directory; nothing is read or made. See [FileAnchor.Make].
func NewFileAnchor(dir string) *FileAnchor { return &FileAnchor{dir} }

// Make makes the directory, mode 0700, if there is none.
func (a *FileAnchor) Make(context.Context) error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return fmt.Errorf("file anchor: %w", err)
	}
	return nil
}

// Kind is the kind in the Anchor row.
func (a *FileAnchor) Kind() string { return "file" }

// Limit says what this anchor does not withstand.
func (a *FileAnchor) Limit() string {
	return "file anchor, development only: it does not withstand root, a copy or snapshot of the disk taken before an erasure, " +
		"or a file system or flash drive that keeps overwritten blocks"
}

// Roots gives the roots held.
func (a *FileAnchor) Roots(context.Context) ([]Root, error) {
	unlock, err := a.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	held, err := a.read()
	if err != nil {
		return nil, err
	}
	defer clear(held[:])
	roots := make([]Root, 0, len(held))
	for i := range held {
		if held[i] != (Root{}) {
			roots = append(roots, held[i])
		}
	}
	return roots, nil
}

// Stage writes a root into the free file.
func (a *FileAnchor) Stage(_ context.Context, root Root) error {
	unlock, err := a.lock()
	if err != nil {
		return err
	}
	defer unlock()
	held, err := a.read()
	if err != nil {
		return err
	}
	defer clear(held[:])
	free := slices.Index(held[:], Root{})
	switch {
	case root == (Root{}):
		return errors.New("file anchor: zero root")
	case slices.Contains(held[:], root):
		return nil
	case free < 0:
		return errors.New("file anchor: holds two roots already: finish the commit first")
	}
	path := filepath.Join(a.dir, rootFiles[free])
	if err := writeSynced(path+".new", root[:], os.O_CREATE|os.O_TRUNC); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("file anchor: %w", err)
	}
	return a.syncDir()
}

// Destroy overwrites the file of the root, fsyncs, unlinks it and fsyncs the
// directory.
func (a *FileAnchor) Destroy(_ context.Context, root Root) error {
	unlock, err := a.lock()
	if err != nil {
		return err
	}
	defer unlock()
	held, err := a.read()
	if err != nil {
		return err
	}
	defer clear(held[:])
	at := slices.Index(held[:], root)
	if at < 0 || root == (Root{}) {
		return nil
	}
	if held[1-at] == (Root{}) {
		return errors.New("file anchor: refuses to destroy the only root")
	}
	return a.remove(rootFiles[at])
}

// lock waits for every other call on this directory, in this process and in others,
// and lasts until unlock or the end of the process.
func (a *FileAnchor) lock() (unlock func(), err error) {
	d, err := os.Open(a.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("file anchor: %s is not there: bring it back, or have the authority evict the anchor", a.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("file anchor: %w", err)
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		d.Close()
		return nil, fmt.Errorf("file anchor: lock: %w", err)
	}
	return func() { d.Close() }, nil
}

// read gives both files, zero for one that is not there.
func (a *FileAnchor) read() (held [2]Root, err error) {
	for i, name := range rootFiles {
		if err := a.remove(name + ".new"); err != nil {
			return held, err
		}
		path := filepath.Join(a.dir, name)
		info, err := os.Lstat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return held, fmt.Errorf("file anchor: %w", err)
		}
		if !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 || info.Size() != int64(len(held[i])) {
			return held, fmt.Errorf("file anchor: %s: want a file of 32 bytes with mode 0600", name)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return held, fmt.Errorf("file anchor: %w", err)
		}
		copy(held[i][:], b)
		clear(b)
		if held[i] == (Root{}) {
			if err := a.remove(name); err != nil {
				return held, err
			}
		}
	}
	return held, nil
}

func (a *FileAnchor) remove(name string) error {
	path := filepath.Join(a.dir, name)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := writeSynced(path, make([]byte, len(Root{})), 0); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("file anchor: %w", err)
	}
	return a.syncDir()
}

func (a *FileAnchor) syncDir() error {
	d, err := os.Open(a.dir)
	if err != nil {
		return fmt.Errorf("file anchor: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("file anchor: sync: %w", err)
	}
	return nil
}

func writeSynced(path string, b []byte, flag int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flag, 0o600)
	if err != nil {
		return fmt.Errorf("file anchor: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("file anchor: write: %w", err)
	}
	return nil
}
