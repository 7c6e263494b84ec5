package devcloud

import (
	"errors"
	"io/fs"
	"os"
	"sync"
)

// dirSyncer makes directory entries durable. Callers that wait for the same
// directory share an fsync: one that began after a caller arrived covers it.
type dirSyncer struct {
	flush func(path string) error

	mu   sync.Mutex
	dirs map[string]*dirQueue
}

func newDirSyncer(flush func(path string) error) *dirSyncer {
	return &dirSyncer{flush: flush, dirs: map[string]*dirQueue{}}
}

type dirQueue struct {
	turn            sync.Mutex // held during an fsync
	users           int        // guarded by dirSyncer.mu, like the tickets
	issued, covered uint64
}

// sync returns once everything that was in dir at the call is durable there.
func (d *dirSyncer) sync(dir string) error {
	q, ticket := d.enter(dir)
	defer d.leave(dir, q)
	q.turn.Lock()
	defer q.turn.Unlock()
	d.mu.Lock()
	covered, upTo := q.covered, q.issued
	d.mu.Unlock()
	if covered >= ticket {
		return nil
	}
	if err := d.flush(dir); err != nil {
		return err
	}
	d.mu.Lock()
	q.covered = upTo
	d.mu.Unlock()
	return nil
}

func (d *dirSyncer) enter(dir string) (*dirQueue, uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.dirs[dir]
	if q == nil {
		q = &dirQueue{}
		d.dirs[dir] = q
	}
	q.users++
	q.issued++
	return q, q.issued
}

func (d *dirSyncer) leave(dir string, q *dirQueue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(d.dirs, dir)
	}
}

// syncPath flushes a file or a directory.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// gone reports that a path vanished: whoever deleted it makes that durable.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
