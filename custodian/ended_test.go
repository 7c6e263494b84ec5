package custodian

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys"
)

func sessionID(n uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

func in(d time.Duration) uint64 { return uint64(time.Now().Add(d).Unix()) }

func TestEndedSessionsAreDurable(t *testing.T) {
	dir, user := t.TempDir(), agentkeys.Wallet{7}
	e, err := openEnded(dir)
	check(t, err)
	check(t, e.add(sessionID(1), user, in(time.Hour)))
	_, err = e.file.WriteString("\n0200000000000000000000000000") // a full disk cut this one off
	check(t, err)
	check(t, e.add(sessionID(3), user, in(time.Hour)))
	check(t, e.add(sessionID(4), user, in(-time.Second)))
	check(t, e.close())
	e, err = openEnded(dir)
	check(t, err)
	defer func() { check(t, e.close()) }()
	for n, want := range map[uint64]bool{1: true, 2: false, 3: true, 4: false} {
		if e.has(sessionID(n)) != want {
			t.Errorf("session %d is ended: %v, want %v", n, !want, want)
		}
	}
	if e.by[sessionID(1)].user != user {
		t.Error("whose session it was is forgotten")
	}
}

// One user's do not take the place of the others', and go when their time is over.
func TestEndedSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := openEnded(t.TempDir())
		check(t, err)
		defer func() { check(t, e.close()) }()
		user := agentkeys.Wallet{7}
		for n := range uint64(maxEndedOfUser) { // as if added
			e.by[sessionID(n)] = endedSession{in(time.Hour), user}
		}
		if err := e.add(sessionID(maxEndedOfUser), user, in(time.Hour)); !errors.Is(err, errManyEnded) {
			t.Errorf("one too many: %v", err)
		}
		check(t, e.add(sessionID(maxEndedOfUser), agentkeys.Wallet{8}, in(2*time.Hour)))
		time.Sleep(time.Hour + time.Second)
		check(t, e.add(sessionID(maxEndedOfUser+1), user, in(time.Hour)))
		if len(e.by) != 2 || !e.has(sessionID(maxEndedOfUser)) {
			t.Errorf("%d are kept", len(e.by))
		}
	})
}

// The file does not grow with sessions whose time is over.
func TestEndedSessionsAreTidiedAway(t *testing.T) {
	dir, user := t.TempDir(), agentkeys.Wallet{7}
	e, err := openEnded(dir)
	check(t, err)
	defer func() { check(t, e.close()) }()
	check(t, e.add(sessionID(1), user, in(time.Hour)))
	check(t, e.add(sessionID(2), user, in(-time.Second)))
	e.size = e.full
	check(t, e.add(sessionID(3), user, in(time.Hour)))
	b, err := os.ReadFile(e.path)
	check(t, err)
	if got := len(strings.Fields(string(b))) / 3; got != 2 || e.size != 2 || e.has(sessionID(2)) {
		t.Errorf("%d lines, counted %d: %q", got, e.size, b)
	}
}

func FuzzParseEnded(f *testing.F) {
	f.Add(strings.TrimSpace(endedLine(sessionID(9), endedSession{5, agentkeys.Wallet{7}})))
	f.Add("")
	f.Add("00 1 x")
	f.Fuzz(func(t *testing.T, line string) {
		id, s, ok := parseEnded(line)
		if !ok {
			return
		}
		if id2, s2, ok := parseEnded(strings.TrimSpace(endedLine(id, s))); !ok || id2 != id || s2 != s {
			t.Errorf("%q reads differently when it is written again", line)
		}
	})
}
