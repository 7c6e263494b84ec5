package custodian

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys"
)

// Bounds of the ended sessions whose time is not over: no user fills the place of the
// others.
const (
	maxEnded       = 1 << 16
	maxEndedOfUser = 1 << 13
)

var errManyEnded = errors.New("too many sessions were ended before their time")

// ended are sessions that were ended before their time. Durable: the file "ended" of
// the custodian's home, a line each (id, end, user), fsynced before the end is
// acknowledged. A line goes some time after its session's.
type ended struct {
	path string

	mu   sync.RWMutex
	file *os.File
	by   map[[16]byte]endedSession
	full int // from that many lines on the file is written anew
	size int // lines
}

type endedSession struct {
	expires uint64
	user    agentkeys.Wallet
}

// openEnded reads what earlier starts left.
func openEnded(home string) (*ended, error) {
	e := &ended{path: filepath.Join(home, "ended"), by: map[[16]byte]endedSession{}}
	b, err := os.ReadFile(e.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("ended sessions: %w", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		// One that does not parse is empty, or was cut off and never acknowledged.
		if id, s, ok := parseEnded(lines.Text()); ok {
			e.by[id] = s
		}
	}
	return e, e.tidy()
}

func endedLine(id [16]byte, s endedSession) string {
	return fmt.Sprintf("%x %d %s\n", id, s.expires, s.user)
}

func parseEnded(line string) (id [16]byte, s endedSession, ok bool) {
	f := strings.Split(line, " ")
	if len(f) != 3 {
		return id, s, false
	}
	b, err1 := hex.DecodeString(f[0])
	expires, err2 := strconv.ParseUint(f[1], 10, 64)
	user, err3 := agentkeys.ParseWallet(f[2])
	if errors.Join(err1, err2, err3) != nil || len(b) != len(id) {
		return id, s, false
	}
	return [16]byte(b), endedSession{expires, user}, true
}

// tidy writes the file anew without the sessions whose time is over.
func (e *ended) tidy() error {
	now := uint64(time.Now().Unix())
	var kept bytes.Buffer
	for id, s := range e.by {
		if s.expires <= now {
			delete(e.by, id)
			continue
		}
		kept.WriteString(endedLine(id, s))
	}
	if err := writeDurable(e.path, kept.Bytes()); err != nil {
		return fmt.Errorf("ended sessions: %w", err)
	}
	file, err := os.OpenFile(e.path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("ended sessions: %w", err)
	}
	if e.file != nil {
		err = e.file.Close()
	}
	e.file, e.size, e.full = file, len(e.by), 2*len(e.by)+maxEndedOfUser
	return err
}

// add ends a session for good.
func (e *ended) add(id [16]byte, user agentkeys.Wallet, expires uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, done := e.by[id]; done {
		return nil
	}
	if e.size >= e.full || e.crowded(user) {
		if err := e.tidy(); err != nil {
			return err
		}
	}
	if e.crowded(user) {
		return errManyEnded
	}
	s := endedSession{expires, user}
	// The line break before it parts it from what a full disk cut off.
	if _, err := e.file.WriteString("\n" + endedLine(id, s)); err != nil {
		return err
	}
	if err := e.file.Sync(); err != nil {
		return err
	}
	e.by[id] = s
	e.size++
	return nil
}

// crowded reports whether a user, or all together, have come to a bound.
func (e *ended) crowded(user agentkeys.Wallet) bool {
	of := 0
	for _, s := range e.by {
		if s.user == user {
			of++
		}
	}
	return of >= maxEndedOfUser || len(e.by) >= maxEnded
}

func (e *ended) has(id [16]byte) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	_, done := e.by[id]
	return done
}

func (e *ended) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
