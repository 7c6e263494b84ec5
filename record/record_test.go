package record_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/record"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

var (
	vault = agentkeys.VaultID(bytes.Repeat([]byte{0x5a}, 32))
	key   = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
)

// sample is a read with bytes of its own in every field.
func sample(sequence uint64) record.Record {
	return record.Record{Sequence: sequence, Time: 0x1112131415161718, Kind: record.KindRead, Mode: 2,
		User: agentkeys.Wallet(run(0x20, 20)), Agent: agentkeys.Wallet(run(0x40, 20)), Owner: agentkeys.Wallet(run(0x60, 20)),
		Service: agentkeys.ServiceID(run(0x80, 32)), Version: 0xa1a2a3a4a5a6a7a8, Epoch: 0xb1b2b3b4, Session: [16]byte(run(0xc0, 16)),
		Height: 0xd1d2d3d4d5d6d7d8, Boot: 0xe1e2e3e4e5e6e7e8}
}

func boot(sequence uint64) record.Record {
	return record.Record{Sequence: sequence, Time: 1, Kind: record.KindBoot, Height: 3, Boot: 4}
}

func calls(sequence uint64) record.Record {
	c := sample(sequence)
	c.Kind, c.Mode, c.Calls = record.KindCalls, 1, 0xf1f2f3f4
	return c
}

func run(from byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

func TestRecordRoundTrip(t *testing.T) {
	for _, c := range []record.Record{sample(1), boot(2), calls(3)} {
		b := c.Append(nil)
		if len(b) != record.Size || record.Size != 158 {
			t.Fatalf("%d bytes", len(b))
		}
		got, err := record.Parse(b)
		if err != nil || got != c {
			t.Fatalf("%v: %+v became %+v", err, c, got)
		}
		for n := range record.Size {
			if _, err := record.Parse(b[:n]); err == nil {
				t.Errorf("%d bytes pass", n)
			}
		}
		if _, err := record.Parse(append(b, 0)); err == nil {
			t.Error("a trailing byte passes")
		}
	}
}

func TestRecordRefusesValuesOutOfRange(t *testing.T) {
	for name, change := range map[string]func(c *record.Record){
		"sequence 0":       func(c *record.Record) { c.Sequence = 0 },
		"no kind":          func(c *record.Record) { c.Kind = 0 },
		"unknown kind":     func(c *record.Record) { c.Kind = 4 },
		"read without one": func(c *record.Record) { c.Mode = 0 },
		"unknown mode":     func(c *record.Record) { c.Mode = 3 },
		"boot with a mode": func(c *record.Record) { c.Kind = record.KindBoot },
		"read with calls":  func(c *record.Record) { c.Calls = 1 },
		"boot with calls":  func(c *record.Record) { *c = boot(1); c.Calls = 1 },
		"no calls":         func(c *record.Record) { *c = calls(1); c.Calls = 0 },
		"calls that saw":   func(c *record.Record) { *c = calls(1); c.Mode = 2 },
	} {
		c := sample(1)
		change(&c)
		if _, err := record.Parse(c.Append(nil)); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func segment(first uint64, n int) record.Segment {
	s := record.Segment{Custodian: agentkeys.ProcessKey(key.Public().(ed25519.PublicKey))}
	for i := range n {
		s.Records = append(s.Records, sample(first+uint64(i)))
	}
	return s
}

func TestSegmentRoundTrip(t *testing.T) {
	for _, n := range []int{1, 2, 100} {
		s := segment(7, n)
		b := s.Append(nil)
		if len(b) != 40+n*record.Size || string(b[:4]) != "AKs1" {
			t.Fatalf("%d bytes, %q", len(b), b[:4])
		}
		got, err := record.ParseSegment(b)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("%v", err)
		}
	}
	b := segment(7, 2).Append(nil)
	for n := range b {
		if _, err := record.ParseSegment(b[:n]); err == nil {
			t.Errorf("%d of %d bytes pass", n, len(b))
		}
	}
}

func TestSegmentRefuses(t *testing.T) {
	set := func(s record.Segment, count uint32) []byte {
		b := s.Append(nil)
		binary.BigEndian.PutUint32(b[36:], count)
		return b
	}
	gap, back, wrap := segment(7, 3), segment(7, 3), segment(^uint64(0), 2)
	gap.Records[1].Sequence++
	back.Records[2].Sequence = 8
	magic := segment(7, 1).Append(nil)
	magic[3] = '2'
	for name, b := range map[string][]byte{
		"nothing": nil, "no records": record.Segment{}.Append(nil), "a gap": gap.Append(nil), "a sequence twice": back.Append(nil),
		"sequences that wrap": wrap.Append(nil), "another magic": magic, "a count too low": set(segment(7, 2), 1),
		"a count too high": set(segment(7, 2), 3), "an absurd count": set(segment(7, 1), 1<<32-1),
		"a trailing byte": append(segment(7, 1).Append(nil), 0), "too many": segment(1, record.MaxSegment+1).Append(nil),
	} {
		if _, err := record.ParseSegment(b); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	if _, err := record.ParseSegment(segment(1, record.MaxSegment).Append(nil)); err != nil {
		t.Error("the largest segment is refused")
	}
}

func TestReadReceipt(t *testing.T) {
	r := record.SignReceipt(key, vault, sample(3))
	if !r.Verify(vault) || r.Verify(agentkeys.VaultID{}) {
		t.Fatal("must verify for this vault, and only for it")
	}
	b := r.Append(nil)
	got, err := record.ParseReceipt(b)
	if err != nil || got != r || len(b) != 32+record.Size+64 {
		t.Fatalf("%v: %+v", err, got)
	}
	message := slices.Concat([]byte("agentkeys/read-receipt/v1\x00"), vault[:], b[32:32+record.Size])
	if !ed25519.Verify(b[:32], message, b[len(b)-64:]) {
		t.Fatal("the signature is not over the message of the page")
	}
	for n := range b {
		if _, err := record.ParseReceipt(b[:n]); err == nil {
			t.Errorf("%d bytes pass", n)
		}
	}
	if _, err := record.ParseReceipt(append(bytes.Clone(b), 0)); err == nil {
		t.Error("a trailing byte passes")
	}
	for i := range b {
		b[i] ^= 1
		if r, err := record.ParseReceipt(b); err == nil && r.Verify(vault) {
			t.Errorf("byte %d is not signed", i)
		}
		b[i] ^= 1
	}
	for i := range 64 {
		if (record.ReadReceipt{Record: record.Record{Time: uint64(i)}}).Verify(vault) {
			t.Fatal("zeros are a signature")
		}
	}
}

func TestHeadsChain(t *testing.T) {
	root, previous := agentkeys.Hash{1}, agentkeys.Hash{2}
	got := record.NextHead(vault, previous, 0x0102030405060708, 0x090a0b0c, root)
	want := sha256.Sum256(slices.Concat([]byte("agentkeys/reads/v1\x00"), vault[:], previous[:], run(1, 12), root[:]))
	if got != want {
		t.Fatalf("%s", got)
	}
	for name, h := range map[string]agentkeys.Hash{
		"vault": record.NextHead(agentkeys.VaultID{}, previous, 1, 1, root), "previous": record.NextHead(vault, root, 1, 1, root),
		"first": record.NextHead(vault, previous, 2, 1, root), "count": record.NextHead(vault, previous, 1, 2, root),
		"root": record.NextHead(vault, previous, 1, 1, previous),
	} {
		if h == record.NextHead(vault, previous, 1, 1, root) {
			t.Errorf("%s does not count", name)
		}
	}
}

func TestVectors(t *testing.T) {
	type vector struct {
		Name    string   `json:"name"`
		Vault   string   `json:"vault"`
		Seed    string   `json:"private_key"`
		Records []string `json:"records"`
		Segment string   `json:"segment"`
		Root    string   `json:"root"`
		Head    string   `json:"head"` // after this batch, the first of the custodian
		Receipt string   `json:"receipt"`
	}
	var made []vector
	for name, records := range map[string][]record.Record{"boot": {boot(1)}, "boot and reads": {boot(1), sample(2), sample(3), calls(4)}} {
		v := vector{Name: name, Vault: vault.String(), Seed: hex.EncodeToString(key.Seed()), Root: record.Root(records).String()}
		for _, c := range records {
			v.Records = append(v.Records, hex.EncodeToString(c.Append(nil)))
		}
		s := record.Segment{Custodian: agentkeys.ProcessKey(key.Public().(ed25519.PublicKey)), Records: records}
		v.Segment = hex.EncodeToString(s.Append(nil))
		v.Head = record.NextHead(vault, agentkeys.Hash{}, 1, uint32(len(records)), record.Root(records)).String()
		v.Receipt = hex.EncodeToString(record.SignReceipt(key, vault, records[len(records)-1]).Append(nil))
		made = append(made, v)
	}
	slices.SortFunc(made, func(a, b vector) int { return len(a.Name) - len(b.Name) })
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
	var golden []vector
	if err := json.Unmarshal(b, &golden); err != nil || !reflect.DeepEqual(golden, made) {
		t.Fatalf("%v: made\n%+v, the file has\n%+v", err, made, golden)
	}
}

func FuzzRecordSegment(f *testing.F) {
	f.Add(segment(7, 2).Append(nil))
	f.Add(record.Segment{Records: []record.Record{boot(1)}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := record.ParseSegment(b)
		if err == nil && !bytes.Equal(s.Append(nil), b) {
			t.Fatalf("%x has two spellings", b)
		}
	})
}

func FuzzReadReceipt(f *testing.F) {
	f.Add(record.SignReceipt(key, vault, sample(3)).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := record.ParseReceipt(b)
		if err == nil && !bytes.Equal(r.Append(nil), b) {
			t.Fatalf("%x has two spellings", b)
		}
	})
}
