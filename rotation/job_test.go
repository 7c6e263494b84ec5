package rotation_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rotation"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// counting gives bytes that count up, so that no two fields are alike.
func counting(from byte, b []byte) []byte {
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

func testJob() rotation.Job {
	key := func(n byte) (k envelope.WrappingKey) {
		counting(n, k.User[:])
		k.Epoch, k.Version = agentkeys.Epoch(n)<<24+2, uint32(n)<<16+3
		k.Secret = agentkeys.NewSecret(counting(n+1, make([]byte, 32)))
		return k
	}
	j := rotation.Job{Kind: rotation.Move, From: key(0x10), To: key(0x50), Rows: 0x01020304}
	counting(0x80, j.FromID[:])
	counting(0xa0, j.ToID[:])
	counting(0xc0, j.FromSealed[:])
	counting(0x20, j.ToSealed[:])
	return j
}

func testChunk() []rotation.Entry {
	var out []rotation.Entry
	for n := range byte(2) {
		e := rotation.Entry{Version: 0x0102030405060708 + uint64(n)}
		for i, field := range [][]byte{e.Agent[:], e.Service[:], e.Hash[:], e.OldBlob[:], e.NewBlob[:]} {
			counting(n*0x80+byte(i)*0x10, field)
		}
		out = append(out, e)
	}
	return out
}

func TestVectors(t *testing.T) {
	made := map[string]string{
		"job":   hex.EncodeToString(testJob().Append(nil)),
		"chunk": hex.EncodeToString(rotation.AppendChunk(nil, testChunk())),
	}
	const path = "testdata/vectors.json"
	if *update {
		b, err := json.MarshalIndent(made, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]string
	if err := json.Unmarshal(b, &golden); err != nil || !reflect.DeepEqual(golden, made) {
		t.Fatalf("%v: made\n%+v, the file has\n%+v", err, made, golden)
	}
}

func TestLengths(t *testing.T) {
	for n := range rotation.JobSize + 2 {
		b := append(testJob().Append(nil), 0)[:n]
		if _, err := rotation.ParseJob(b); (err == nil) != (n == rotation.JobSize) {
			t.Errorf("job of %d bytes: %v", n, err)
		}
	}
	for n, ok := range map[int]bool{0: false, 1: true, receipt.MaxRows: true, receipt.MaxRows + 1: false} {
		b := rotation.AppendChunk(nil, make([]rotation.Entry, n))
		if got, err := rotation.ParseChunk(b); (err == nil) != ok || ok && len(got) != n {
			t.Errorf("chunk of %d: %v", n, err)
		}
		if _, err := rotation.ParseChunk(append(b, 0)); err == nil {
			t.Errorf("chunk of %d with a trailing byte passes", n)
		}
		if ok && len(b) > rotation.MaxMessage {
			t.Errorf("chunk of %d is larger than a message", n)
		}
	}
}

// Growing twice would leave wrapping keys in arrays that nobody clears: the room that
// Append makes at the start has to be enough.
func TestAppendGrowsOnce(t *testing.T) {
	room := make([]byte, 0, rotation.JobSize)
	b := testJob().Append(room)
	if &b[0] != &room[:1][0] {
		t.Error("a job does not fit the room that Append makes for it")
	}
}

func TestMessageSizes(t *testing.T) {
	var wire bytes.Buffer
	if err := rotation.WriteMessage(&wire, rotation.Envelope, make([]byte, rotation.MaxBody+1)); err == nil || wire.Len() != 0 {
		t.Errorf("too large a body: %v, %d bytes went out", err, wire.Len())
	}
	// The length is refused before there is memory for it.
	if _, _, err := rotation.ReadMessage(bytes.NewReader([]byte{rotation.Envelope, 0xff, 0xff, 0xff, 0xff})); err == nil {
		t.Error("a length of 4 GiB passes")
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte{rotation.More, 0, 0, 0, 0})
	f.Add([]byte{rotation.Feed, 0, 0, 0, 2, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		typ, body, err := rotation.ReadMessage(bytes.NewReader(b))
		var again bytes.Buffer
		if err == nil && (rotation.WriteMessage(&again, typ, body) != nil || !bytes.HasPrefix(b, again.Bytes())) {
			t.Fatal("a message has two spellings")
		}
	})
}

func FuzzParseJob(f *testing.F) {
	f.Add(testJob().Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if j, err := rotation.ParseJob(b); err == nil && !bytes.Equal(j.Append(nil), b) {
			t.Fatal("layout is not one to one")
		}
	})
}

func FuzzParseChunk(f *testing.F) {
	f.Add(rotation.AppendChunk(nil, testChunk()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := rotation.ParseChunk(b); err == nil && !bytes.Equal(rotation.AppendChunk(nil, e), b) {
			t.Fatal("layout is not one to one")
		}
	})
}
