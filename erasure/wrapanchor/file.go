package wrapanchor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock waits for every other call on this directory, in this process and in others.
func (a *Anchor) lock() (unlock func(), err error) {
	a.mu.Lock()
	d, err := os.Open(a.dir)
	if err == nil {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%s is not there: bring it back, or have the authority evict the anchor", a.dir)
	}
	if err != nil {
		d.Close()
		a.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", a.kind, err)
	}
	return func() { d.Close(); a.mu.Unlock() }, nil
}

func (a *Anchor) read(s *slot) error {
	path := filepath.Join(a.dir, s.file)
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > int64(len(magic)+5+maxName+maxBlob)) {
		err = errDamaged
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err == nil {
		err = s.parse(b)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", a.kind, s.file, err)
	}
	return nil
}

// write replaces a file in one step.
func (a *Anchor) write(s *slot) error {
	path := filepath.Join(a.dir, s.file)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", a.kind, err)
	}
	_, err = f.Write(s.append())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("%s: write: %w", a.kind, err)
	}
	return a.syncDir()
}

func (a *Anchor) remove(s *slot) error {
	if err := os.Remove(filepath.Join(a.dir, s.file)); err != nil {
		return fmt.Errorf("%s: %w", a.kind, err)
	}
	*s = slot{file: s.file}
	return a.syncDir()
}

func (a *Anchor) syncDir() error {
	d, err := os.Open(a.dir)
	if err != nil {
		return fmt.Errorf("%s: %w", a.kind, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("%s: sync: %w", a.kind, err)
	}
	return nil
}
