package rotator_test

import (
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rotation"
)

// dead fails unless the rotator has ended: it answers nothing more and Serve has
// returned an error.
func dead(t *testing.T, c *courier) {
	t.Helper()
	if typ, _ := c.ask(rotation.Hello, nil); typ != 0 {
		t.Fatalf("it lives on and answers with type %d", typ)
	}
	c.conn.Close()
	if err := <-c.done; err == nil {
		t.Fatal("Serve returned no error")
	}
}

func zeroKey() agentkeys.Secret { return agentkeys.NewSecret(make([]byte, 32)) }

// A make job that no honest custodian sends.
func TestMakeRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*rotation.Job){
		"zero wrapping key": func(j *rotation.Job) { j.To.Secret = zeroKey() },
		"no user":           func(j *rotation.Job) { j.To.User = agentkeys.Wallet{} },
		"epoch 0":           func(j *rotation.Job) { j.To.Epoch = 0 },
		"wrap version 0":    func(j *rotation.Job) { j.To.Version = 0 },
		"kind 0":            func(j *rotation.Job) { j.Kind = 0 },
		"unknown kind":      func(j *rotation.Job) { j.Kind = 4 },
		"a move alone":      func(j *rotation.Job) { j.Kind = rotation.Move },
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			j := rotation.Job{Kind: rotation.Make, To: wrappingKey(agentkeys.Wallet{1}, 1, 1)}
			spoil(&j)
			frames := c.seal(j.Append(nil))
			if typ, _ := c.run(&frames); typ != 0 {
				t.Fatalf("answered with type %d", typ)
			}
			dead(t, c)
		})
	}
}

// A job of another layout, or with more behind it.
func TestJobLayoutRefuses(t *testing.T) {
	job := rotation.Job{Kind: rotation.Make, To: wrappingKey(agentkeys.Wallet{1}, 1, 1)}.Append(nil)
	for name, messages := range map[string][][]byte{
		"short":         {job[:len(job)-1]},
		"trailing byte": {append(job[:len(job):len(job)], 0)},
		"one byte":      {{1}},
		"not the last":  {job, job},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			frames := c.seal(messages...)
			if typ, _ := c.run(&frames); typ != 0 {
				t.Fatalf("answered with type %d", typ)
			}
			dead(t, c)
		})
	}
}

func TestWrapRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*rotation.Job){
		"zero old wrapping key": func(j *rotation.Job) { j.From.Secret = zeroKey() },
		"zero new wrapping key": func(j *rotation.Job) { j.To.Secret = zeroKey() },
		"equal wrapping keys":   func(j *rotation.Job) { j.To.Secret = j.From.Secret },
		"second user":           func(j *rotation.Job) { j.To.User = agentkeys.Wallet{2} },
		"skipped epoch":         func(j *rotation.Job) { j.To.Epoch = 3 },
		"next epoch":            func(j *rotation.Job) { j.To.Epoch = 2 },
		"lower version":         func(j *rotation.Job) { j.From.Version = 3 },
		"foreign data key id":   func(j *rotation.Job) { j.FromID[0] ^= 1 },
		"no data key id":        func(j *rotation.Job) { j.FromID = agentkeys.DEKID{} },
		"other wrapped bytes":   func(j *rotation.Job) { j.FromSealed[20] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			dek, user := envelope.NewDEK(), agentkeys.Wallet{1}
			j := rotation.Job{Kind: rotation.Wrap, From: wrappingKey(user, 1, 1), To: wrappingKey(user, 1, 2), FromID: dek.ID(c.vault)}
			var err error
			if j.FromSealed, err = j.From.Wrap(c.vault, dek); err != nil {
				t.Fatal(err)
			}
			spoil(&j)
			if w, err := j.From.Wrap(c.vault, dek); err == nil && name != "other wrapped bytes" {
				j.FromSealed = w // refused for what it is, not because its key does not open
			}
			frames := c.seal(j.Append(nil))
			if typ, _ := c.run(&frames); typ != 0 {
				t.Fatalf("answered with type %d", typ)
			}
			dead(t, c)
		})
	}
}

// A row that is not in order, or no data key's, gets no receipt and ends the rotator;
// the rows before it are done.
func TestWrapOfManyUsersRefuses(t *testing.T) {
	for name, spoil := range map[string]func(jobs []rotation.Job){
		"row repeated":      func(jobs []rotation.Job) { jobs[2] = jobs[1] },
		"row of before":     func(jobs []rotation.Job) { jobs[2] = jobs[0] },
		"another kind":      func(jobs []rotation.Job) { jobs[2].Kind = rotation.Make },
		"move behind":       func(jobs []rotation.Job) { jobs[2].Kind = rotation.Move },
		"key of the second": func(jobs []rotation.Job) { jobs[2].From.Secret = jobs[1].From.Secret },
		"second user":       func(jobs []rotation.Job) { jobs[2].To.User = agentkeys.Wallet{9} },
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			jobs := wrapJobs(t, c, 4)
			spoil(jobs)
			var messages [][]byte
			for _, j := range jobs {
				messages = append(messages, j.Append(nil))
			}
			frames := c.seal(messages...)
			for i := range 2 {
				if typ, _ := c.run(&frames); typ != rotation.Receipt {
					t.Fatalf("row %d: answer has type %d", i, typ)
				}
			}
			if typ, _ := c.run(&frames); typ != 0 {
				t.Fatalf("answered with type %d", typ)
			}
			dead(t, c)
		})
	}
}

// Rows ascend over the whole job: one of an earlier chunk does not come again.
func TestRowRepeatedInALaterChunk(t *testing.T) {
	c := start(t)
	m := newMove(t, c, receipt.MaxRows+2)
	last := len(m.entries) - 1
	m.entries[last], m.old[last] = m.entries[0], m.old[0]
	rows, _, ok := m.play(t, c)
	if ok || len(rows) != receipt.MaxRows {
		t.Fatalf("went through: %v, %d rows", ok, len(rows))
	}
	dead(t, c)
}

// A frame that was in another job, or in this one already, does not open.
func TestFrameRepeated(t *testing.T) {
	job := rotation.Job{Kind: rotation.Make, To: wrappingKey(agentkeys.Wallet{1}, 1, 1)}.Append(nil)
	t.Run("of another job", func(t *testing.T) {
		c := start(t)
		first := c.seal(job)
		again := [][]byte{append([]byte(nil), first[0]...)}
		if typ, _ := c.run(&first); typ != rotation.Receipt {
			t.Fatal("the job did not go through")
		}
		c.seal(job)
		if typ, _ := c.run(&again); typ != 0 {
			t.Fatalf("answered with type %d", typ)
		}
		dead(t, c)
	})
	t.Run("of this job", func(t *testing.T) {
		c := start(t)
		m := newMove(t, c, receipt.MaxRows)
		frames := c.seal(m.messages()...)
		frames[1] = frames[0]
		if typ, _ := c.run(&frames); typ != 0 {
			t.Fatalf("answered with type %d", typ)
		}
		dead(t, c)
	})
}

// Handshakes that are none.
func TestHandshakeRefuses(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"empty":       func([]byte) []byte { return nil },
		"short":       func(b []byte) []byte { return b[1:] },
		"long":        func(b []byte) []byte { return append(b, 0) },
		"one bit":     func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"another job": func(b []byte) []byte { b[0] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			var id agentkeys.JobID
			random(id[:])
			_, hello, err := channel.Initiate(c.vault, id, c.pub)
			if err != nil {
				t.Fatal(err)
			}
			if typ, _ := c.ask(rotation.Handshake, spoil(hello)); typ != 0 {
				t.Fatalf("answered with type %d", typ)
			}
			dead(t, c)
		})
	}
}
