package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/statement"
)

// tampered: whoever owns the store changes objects. Reads say so, the others stay
// readable, and rotation goes on without what is lost.
func tampered(t *testing.T, v *vault) {
	p := v.enrol(t)
	for _, n := range []agentkeys.Service{"flipped", "swapped", "swapped2", "old", "gone"} {
		p.store(t, n)
	}
	oldBytes := read(t, v.object(t, p, "old"))
	p.replace(t, "old", "value-of-old-secret-2")
	change(t, v.object(t, p, "flipped"), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	one, two := v.object(t, p, "swapped"), v.object(t, p, "swapped2")
	oneBytes, twoBytes := read(t, one), read(t, two)
	change(t, one, func([]byte) []byte { return twoBytes })
	change(t, two, func([]byte) []byte { return oneBytes })
	change(t, v.object(t, p, "old"), func([]byte) []byte { return oldBytes })
	if err := os.Remove(v.object(t, p, "gone")); err != nil {
		t.Fatal(err)
	}
	v.kill(t, "agentkeys-custodian") // nothing is in its cache now
	within(t, 20*time.Second, "the custodian answers", func() bool { _, err := p.c.List(t.Context()); return err == nil })
	for name, code := range map[agentkeys.Service]string{"flipped": "tampered", "swapped": "tampered", "swapped2": "tampered", "old": "tampered", "gone": "object_missing"} {
		_, err := p.read(t.Context(), name)
		says(t, "read "+string(name), err, code)
	}
	p.mustRead(t, "first")

	p.ask(t)
	lost := map[string]bool{}
	within(t, 40*time.Second, "the others are moved and the lost ones reported", func() bool {
		clear(lost)
		l := p.list(t)
		now, _ := active(l)
		for _, it := range l.Credentials {
			if it.Missing != 0 {
				lost[it.Service] = true
			}
			if it.Service == "first" && it.Epoch != now {
				return false
			}
		}
		return now == 2 && len(lost) == 5
	})
	p.mustRead(t, "first")
	// The owner gives the lost ones up, and the epoch ends.
	for name := range lost {
		p.drop(t, agentkeys.Service(name))
	}
	p.rotated(t, 1)
	p.mustRead(t, "first")
}

// object is the file of a shared slot's object.
func (v *vault) object(t *testing.T, p *person, name agentkeys.Service) string {
	t.Helper()
	it, err := p.c.Item(t.Context(), name, agentkeys.Wallet{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(v.bucket(), p.key.Wallet().String(), agentkeys.Epoch(it.Epoch).String(), it.ServiceID, "*.enc"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if envelope.HashOf(read(t, f)).String() == it.Hash {
			return f
		}
	}
	t.Fatalf("%s: none of %d objects has the hash that its row names", name, len(files))
	return ""
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	write(t, path, string(f(read(t, path))))
}

func (p *person) drop(t *testing.T, name agentkeys.Service) {
	t.Helper()
	it, err := p.c.Item(t.Context(), name, agentkeys.Wallet{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := agentkeys.ParseServiceID(it.ServiceID)
	if err != nil {
		t.Fatal(err)
	}
	p.submit(t, statement.Delete{User: p.key.Wallet(), Agent: p.key.Wallet(), Service: id, Version: it.Version})
}
