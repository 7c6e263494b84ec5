//go:build linux

package rotator_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
)

// image reads all that a process has in memory. Only root may.
func image(t *testing.T, pid int) (parts [][]byte) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(mode, "rw") {
			continue
		}
		b := make([]byte, to-from)
		n, _ := mem.ReadAt(b, int64(from)) // what was never touched cannot be read
		parts = append(parts, b[:n])
	}
	return parts
}

func holds(parts [][]byte, secret []byte) (n int) {
	for _, p := range parts {
		n += bytes.Count(p, secret)
	}
	return n
}

// TestMemoryAfterJobs: when the courier is quiet, the program has no wrapping key,
// data key, key of a blob or plaintext of a job in its memory, wherever heap and
// stacks have been. Its own keys and the vault id are there.
func TestMemoryAfterJobs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to read the memory of a process that is shut in")
	}
	c, outer := startProgram(t, built(t), "")
	pid := innermost(t, outer)
	m := newMove(t, c, 300)
	if _, _, ok := m.play(t, c); !ok {
		t.Fatal("it died")
	}
	wrapJob(t, c, 1, 2, true)
	secrets := map[string][]byte{"plaintext": []byte(marker), "old wrapping key": m.job.From.Reveal(), "new wrapping key": m.job.To.Reveal(),
		"old data key": m.from.Reveal(), "new data key": m.to.Reveal(),
		"old blob's key": blobKey(t, c, m.from, m.entries[0].OldBlob), "new blob's key": blobKey(t, c, m.to, m.entries[299].NewBlob)}
	var left map[string]int
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		parts := image(t, pid)
		if holds(parts, c.vault[:]) == 0 {
			t.Fatal("the image does not even hold the vault id")
		}
		left = map[string]int{}
		for name, secret := range secrets {
			if n := holds(parts, secret[:16]); n != 0 {
				left[name] = n
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("still there: %v", left)
}

func blobKey(t *testing.T, c *courier, dek envelope.DEK, blob agentkeys.BlobID) []byte {
	t.Helper()
	key, err := hkdf.Key(sha256.New, dek.Reveal(), blob[:], string(agentkeys.DomainTag("blob-key", c.vault)), 32)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
