package adversary

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Piece is one version of something that was copied.
type Piece struct {
	From  string // "store", "anchor", ...; see [Recorder.Watch]
	Name  string // path below what is watched
	Bytes []byte
}

func (p Piece) String() string { return p.From + "/" + p.Name }

// Recorder copies every version of every file under the directories it watches. The
// development store, the custodian's home and the anchor are directories, so that is
// every object, every sealed file and every log at every step. [Thief.Try] notices when
// something that the chain names was missed.
type Recorder struct {
	dirs map[string]string // by name

	mu     sync.Mutex
	stat   map[string]stamp
	newest map[string]int    // of pieces, by path
	seen   map[[32]byte]bool // of name and content
	pieces []Piece
}

type stamp struct {
	size int64
	at   time.Time
}

// NewRecorder watches directories, each under a name.
func NewRecorder(dirs map[string]string) *Recorder {
	return &Recorder{dirs: dirs, stat: map[string]stamp{}, newest: map[string]int{}, seen: map[[32]byte]bool{}}
}

// recordEvery is far below the time for which any object or root is there.
const recordEvery = 5 * time.Millisecond

// Run copies until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		r.Copy()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(recordEvery):
		}
	}
}

// Copy takes what is there now. What vanishes meanwhile was seen before or never was
// acknowledged.
func (r *Recorder) Copy() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, dir := range r.dirs {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if d.IsDir() {
				if strings.HasPrefix(d.Name(), ".sgwtmp") {
					return filepath.SkipDir
				}
				return nil
			}
			r.copy(name, dir, path, d)
			return nil
		})
	}
}

func (r *Recorder) copy(from, dir, path string, d fs.DirEntry) {
	info, err := d.Info()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return
	}
	now := stamp{info.Size(), info.ModTime()}
	if r.stat[path] == now {
		return
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return
	}
	r.stat[path] = now
	id := sha256.Sum256(append([]byte(from+"/"+name+"\x00"), b...))
	if r.seen[id] {
		return
	}
	r.seen[id] = true
	// What only grew, as logs do, is kept once.
	if i, ok := r.newest[path]; ok && bytes.HasPrefix(b, r.pieces[i].Bytes) {
		r.pieces[i].Bytes = b
		return
	}
	r.newest[path] = len(r.pieces)
	r.pieces = append(r.pieces, Piece{from, name, b})
}

// Pieces gives everything recorded.
func (r *Recorder) Pieces() []Piece {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.pieces)
}

// Message is one that the operator carried: of the rotator's descriptor ("rotator 12.1
// in" and "out", bytes as they came), or of the custodian ("custodian in /v1/...").
type Message struct {
	Channel string
	Bytes   []byte
}

// Messages reads what the recording operator wrote down; the last one may be cut off
// by a crash.
func Messages(file string) (all []Message, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("adversary: the operator wrote nothing down; is it the recording one?")
	}
	if err != nil {
		return nil, fmt.Errorf("adversary: %w", err)
	}
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+n+4 {
			break
		}
		m := Message{Channel: string(b[2 : 2+n])}
		size := int(binary.BigEndian.Uint32(b[2+n:]))
		if b = b[2+n+4:]; len(b) < size {
			break
		}
		m.Bytes, b = b[:size], b[size:]
		all = append(all, m)
	}
	return all, nil
}
