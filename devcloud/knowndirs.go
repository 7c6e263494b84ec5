package devcloud

import (
	"path/filepath"
	"sync"
)

// maxKnown bounds the memory of knownDirs; beyond it everything is forgotten, which
// costs some fsyncs again.
const maxKnown = 1 << 16

// knownDirs remembers which directories are durable in their parents, so that a
// write flushes the way up to the bucket only where a directory is new. The gateway
// removes empty directories after a delete, so a delete makes it forget.
type knownDirs struct {
	mu      sync.Mutex
	durable map[string]struct{}
	deletes uint64 // ended
	running int
}

func newKnownDirs() *knownDirs { return &knownDirs{durable: map[string]struct{}{}} }

// unknown lists the directories between path and root, deepest first, that may not
// be durable in their parents, and a stamp for [knownDirs.settle].
func (k *knownDirs) unknown(root, path string) (dirs []string, stamp uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for d := filepath.Dir(path); d != root && d != "." && d != "/"; d = filepath.Dir(d) {
		if _, ok := k.durable[d]; !ok {
			dirs = append(dirs, d)
		}
	}
	return dirs, k.deletes
}

// settle records that dirs are durable, unless a delete ran since the stamp: it may
// have removed and another write re-made one of them.
func (k *knownDirs) settle(dirs []string, stamp uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running > 0 || k.deletes != stamp {
		return
	}
	if len(k.durable) > maxKnown {
		clear(k.durable)
	}
	for _, d := range dirs {
		k.durable[d] = struct{}{}
	}
}

// deleting forgets the directories above paths before a delete; the returned
// function ends the delete.
func (k *knownDirs) deleting(root string, paths []string) (end func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running++
	for _, p := range paths {
		for d := filepath.Dir(p); d != root && d != "." && d != "/"; d = filepath.Dir(d) {
			delete(k.durable, d)
		}
	}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.running--
		k.deletes++
	}
}
