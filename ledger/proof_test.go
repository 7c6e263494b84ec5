package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"reflect"
	"strconv"
	"testing"
)

// rowKey is the key of row i in the recorded chain.
func rowKey(i int) []byte {
	row := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	user := sha256.Sum256([]byte(strconv.Itoa(i / 10)))
	return append(append([]byte{1}, user[:20]...), row[:]...)
}

// recordedAppHash commits to the state after block 4, in which the answers were given.
func recordedAppHash(t testing.TB) []byte { return recordedBlock(t, "one", "5").Header.AppHash }

func TestRecordedPresence(t *testing.T) {
	a, app := recordedAnswer(t, "one/present.json"), recordedAppHash(t)
	if !bytes.Equal(a.Key, rowKey(7)) || a.Height != 4 {
		t.Fatalf("recorded answer is of height %d, key %x", a.Height, a.Key)
	}
	if err := VerifyRow(app, "vault", a.Key, a.Value, *a.Proof); err != nil {
		t.Fatal(err)
	}
	edited := func(op int, edit func(o *ProofOp)) Proof {
		ops := append([]ProofOp(nil), a.Proof.Ops...)
		edit(&ops[op])
		return Proof{ops}
	}
	changed := bytes.Clone(a.Value)
	changed[3] ^= 1
	for name, err := range map[string]error{
		"value":        VerifyRow(app, "vault", a.Key, changed, *a.Proof),
		"no value":     VerifyRow(app, "vault", a.Key, nil, *a.Proof),
		"key":          VerifyRow(app, "vault", rowKey(8), a.Value, *a.Proof),
		"store":        VerifyRow(app, "bank", a.Key, a.Value, *a.Proof),
		"app hash":     VerifyRow(recordedBlock(t, "one", "2").Header.AppHash, "vault", a.Key, a.Value, *a.Proof),
		"no hash":      VerifyRow(nil, "vault", a.Key, a.Value, *a.Proof),
		"absence":      VerifyAbsent(app, "vault", a.Key, *a.Proof),
		"op key":       VerifyRow(app, "vault", a.Key, a.Value, edited(0, func(o *ProofOp) { o.Key = rowKey(8) })),
		"op store":     VerifyRow(app, "vault", a.Key, a.Value, edited(1, func(o *ProofOp) { o.Key = []byte("bank") })),
		"proven store": VerifyRow(app, "bank", a.Key, a.Value, edited(1, func(o *ProofOp) { o.Key = []byte("bank") })),
		"op type":      VerifyRow(app, "vault", a.Key, a.Value, edited(0, func(o *ProofOp) { o.Type = opSimple })),
		"no proof":     VerifyRow(app, "vault", a.Key, a.Value, Proof{}),
		"first op":     VerifyRow(app, "vault", a.Key, a.Value, Proof{a.Proof.Ops[:1]}),
		"swapped":      VerifyRow(app, "vault", a.Key, a.Value, Proof{[]ProofOp{a.Proof.Ops[1], a.Proof.Ops[0]}}),
		"three ops":    VerifyRow(app, "vault", a.Key, a.Value, Proof{append(a.Proof.Ops[:2:2], a.Proof.Ops[1])}),
	} {
		if err == nil {
			t.Errorf("another %s was accepted", name)
		}
	}
}

func TestRecordedAbsence(t *testing.T) {
	app := recordedAppHash(t)
	for _, name := range []string{"middle", "left", "right"} {
		a := recordedAnswer(t, "one/absent_"+name+".json")
		if len(a.Value) != 0 {
			t.Fatalf("%s: recorded row has a value", name)
		}
		if err := VerifyAbsent(app, "vault", a.Key, *a.Proof); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if VerifyRow(app, "vault", a.Key, []byte{1}, *a.Proof) == nil {
			t.Errorf("%s: an absent row was proven present", name)
		}
		for i := range 300 {
			p := *a.Proof
			p.Ops = append([]ProofOp(nil), p.Ops...)
			p.Ops[0].Key = rowKey(i)
			if VerifyAbsent(app, "vault", rowKey(i), p) == nil {
				t.Fatalf("%s: row %d was proven absent", name, i)
			}
		}
	}
}

// TestPresentRowCannotBeProvenAbsent joins every pair of neighbours that surround a
// present row, or leaves one out.
func TestPresentRowCannotBeProvenAbsent(t *testing.T) {
	middle := recordedAnswer(t, "one/absent_middle.json")
	sides := proofSides(t, middle.Proof.Ops[0].Data)
	present := recordedAnswer(t, "one/present.json")
	inner, err := parseOneof(present.Proof.Ops[0].Data, oneofExist)
	if err != nil {
		t.Fatal(err)
	}
	candidates := [][]byte{nil, sides[0], sides[1], inner}
	for _, name := range []string{"left", "right"} {
		for _, s := range proofSides(t, recordedAnswer(t, "one/absent_"+name+".json").Proof.Ops[0].Data) {
			if s != nil {
				candidates = append(candidates, s)
			}
		}
	}
	accepted := 0
	for _, left := range candidates {
		for _, right := range candidates {
			for i := range 300 {
				if _, err := absentRoot(absence(rowKey(i), left, right), rowKey(i)); err == nil {
					t.Fatalf("row %d was proven absent between %x and %x", i, left, right)
				}
			}
			if _, err := absentRoot(absence(middle.Key, left, right), middle.Key); err == nil {
				accepted++
			}
		}
	}
	if accepted != 1 {
		t.Errorf("%d pairs prove the absent row, want the one recorded", accepted)
	}
}

func absence(key, left, right []byte) []byte {
	b := appendMessage(nil, 1, key)
	if left != nil {
		b = appendMessage(b, 2, left)
	}
	if right != nil {
		b = appendMessage(b, 3, right)
	}
	return appendMessage(nil, oneofNonexist, b)
}

func proofSides(t *testing.T, data []byte) (sides [2][]byte) {
	t.Helper()
	inner, err := parseOneof(data, oneofNonexist)
	if err != nil {
		t.Fatal(err)
	}
	r := wireReader{b: inner}
	for f, ok := r.next(); ok; f, ok = r.next() {
		if f.id > 1 {
			sides[f.id-2] = f.data
		}
	}
	return sides
}

func TestEveryBitOfAProofCounts(t *testing.T) {
	app := recordedAppHash(t)
	for _, name := range []string{"present", "absent_middle", "absent_left", "absent_right"} {
		a := recordedAnswer(t, "one/"+name+".json")
		for op := range a.Proof.Ops {
			for i := range len(a.Proof.Ops[op].Data) * 8 {
				a.Proof.Ops[op].Data[i/8] ^= 1 << (i % 8)
				if verifyAnswer(app, a) == nil {
					t.Fatalf("%s: op %d: bit %d of byte %d does not count", name, op, i%8, i/8)
				}
				a.Proof.Ops[op].Data[i/8] ^= 1 << (i % 8)
			}
		}
		if err := verifyAnswer(app, a); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func verifyAnswer(app []byte, a Answer) error {
	if len(a.Value) == 0 {
		return VerifyAbsent(app, "vault", a.Key, *a.Proof)
	}
	return VerifyRow(app, "vault", a.Key, a.Value, *a.Proof)
}

// TestSpecConstraints holds the node shapes against the IAVL and Tendermint specs.
func TestSpecConstraints(t *testing.T) {
	hash := bytes.Repeat([]byte{7}, 32)
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	inner := []struct {
		name string
		op   innerOp
		want bool
	}{
		{"left child", innerOp{[]byte{2, 4, 4, 32}, cat([]byte{32}, hash)}, true},
		{"right child", innerOp{cat([]byte{2, 4, 4, 32}, hash, []byte{32}), nil}, true},
		{"height below the level", innerOp{[]byte{0, 4, 4, 32}, cat([]byte{32}, hash)}, false},
		{"negative size", innerOp{[]byte{2, 3, 4, 32}, cat([]byte{32}, hash)}, false},
		{"long varint", innerOp{[]byte{0x82, 0, 4, 4, 32}, cat([]byte{32}, hash)}, false},
		{"no child length", innerOp{[]byte{2, 4, 4}, cat([]byte{32}, hash)}, false},
		{"other child length", innerOp{[]byte{2, 4, 4, 33}, cat([]byte{32}, hash)}, false},
		{"two siblings", innerOp{cat([]byte{2, 4, 4, 32}, hash, []byte{32}), cat([]byte{32}, hash)}, false},
		{"no sibling", innerOp{[]byte{2, 4, 4, 32}, nil}, false},
		{"long suffix", innerOp{[]byte{2, 4, 4, 32}, cat([]byte{32}, hash, []byte{32}, hash)}, false},
		{"overlong prefix", innerOp{cat(binary.AppendVarint(nil, 1), binary.AppendVarint(nil, 1<<40),
			binary.AppendVarint(nil, 1<<40), []byte{32}), cat([]byte{32}, hash)}, false},
	}
	for _, tt := range inner {
		if _, ok := iavlInner(tt.op, 1); ok != tt.want {
			t.Errorf("inner node, %s: %v", tt.name, ok)
		}
	}
	leaf := map[string]bool{"\x00\x02\x08": true, "\x00\x02\x08\x20": false, "\x02\x02\x08": false,
		"\x00\x04\x08": false, "\x00\x02": false, "\x00\x02\x07": false, "": false}
	for prefix, want := range leaf {
		if iavlLeaf([]byte(prefix)) != want {
			t.Errorf("leaf prefix %x: %v", prefix, !want)
		}
	}
	for name, op := range map[string]innerOp{"0x00": {[]byte{0}, hash}, "33 after": {[]byte{1}, append(hash, 1)},
		"both": {append([]byte{1}, hash...), hash}, "64": {[]byte{1}, append(hash, hash...)}, "none": {[]byte{1}, nil}} {
		e := existence{key: []byte("k"), value: hash, leafPrefix: []byte{0}, path: []innerOp{op}}
		if _, err := e.simpleRoot(); err == nil {
			t.Errorf("store inner node, %s: accepted", name)
		}
	}
}

func TestNeighboursPartLeftAndRight(t *testing.T) {
	top, low := innerOp{prefix: []byte("top")}, innerOp{prefix: []byte("low")}
	mk := func(op innerOp, at turn, below ...turn) *side {
		s := &side{turns: append(below, at)}
		s.path = append(make([]innerOp, len(below)), op)
		return s
	}
	tests := []struct {
		name        string
		left, right *side
		want        bool
	}{
		{"siblings", mk(top, fromLeft), mk(low, fromRight), true},
		{"both left", mk(top, fromLeft), mk(low, fromLeft), false},
		{"both right", mk(top, fromRight), mk(low, fromRight), false},
		{"crossed", mk(top, fromRight), mk(low, fromLeft), false},
		{"same path", mk(top, fromLeft), mk(top, fromLeft), false},
		{"left not outermost", mk(top, fromLeft, fromLeft), mk(low, fromRight), false},
		{"right not outermost", mk(top, fromLeft), mk(low, fromRight, fromRight), false},
		{"deeper neighbours", mk(top, fromLeft, fromRight), mk(low, fromRight, fromLeft), true},
		{"no path", &side{}, &side{}, false},
	}
	for _, tt := range tests {
		if got := neighbours(tt.left, tt.right); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestWireHasOneSpelling(t *testing.T) {
	kinds := map[int]int{1: wireVarint, 2: wireBytes, 3: wireFixed64, 4: wireFixed32}
	for name, tt := range map[string]struct {
		in   string
		want bool
	}{
		"in order":      {"\x08\x01\x12\x01a", true},
		"repeated":      {"\x12\x01a\x12\x01b", true},
		"fixed":         {"\x19\x01\x02\x03\x04\x05\x06\x07\x08\x25\x01\x02\x03\x04", true},
		"out of order":  {"\x12\x01a\x08\x01", false},
		"twice":         {"\x08\x01\x08\x01", false},
		"unknown":       {"\x2a\x00", false},
		"other type":    {"\x0a\x00", false},
		"long varint":   {"\x08\x81\x00", false},
		"long tag":      {"\x88\x00\x01", false},
		"long length":   {"\x12\x81\x00a", false},
		"over 64 bits":  {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", false},
		"cut varint":    {"\x08\x80", false},
		"cut bytes":     {"\x12\x05a", false},
		"huge length":   {"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a", false},
		"cut fixed":     {"\x19\x01", false},
		"field 0":       {"\x00\x01", false},
		"group":         {"\x0b", false},
		"trailing byte": {"\x08\x01\x08", false},
	} {
		err := fields([]byte(tt.in), kinds, 2, func(wireField) error { return nil })
		if (err == nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestResultsAndTxsMatchTheHeaders(t *testing.T) {
	var block struct {
		Block struct {
			Header Header
			Data   struct{ Txs [][]byte }
		}
	}
	if err := decodeAnswer(recorded(t, "one/block_2.json"), "block", false, &block); err != nil {
		t.Fatal(err)
	}
	if hash := TxsHash(block.Block.Data.Txs); !bytes.Equal(hash[:], block.Block.Header.DataHash) {
		t.Error("data hash differs from the recorded header's")
	}
	var results struct {
		Results []TxResult `json:"txs_results"`
	}
	if err := decodeAnswer(recorded(t, "one/block_results_2.json"), "block_results", false, &results); err != nil {
		t.Fatal(err)
	}
	hash := ResultsHash(results.Results)
	if !bytes.Equal(hash[:], recordedBlock(t, "one", "3").Header.LastResultsHash) {
		t.Error("results hash differs from the recorded header's")
	}
	messages, err := Messages(block.Block.Data.Txs[0])
	if err != nil || len(messages) != 1 || messages[0].Type != "/vault.v1.MsgRelay" || messages[0].Parts != nil {
		t.Errorf("a recorded transaction of another kind gives %+v, %v", messages, err)
	}
}

func FuzzProof(f *testing.F) {
	for _, name := range []string{"present", "absent_middle", "absent_left", "absent_right"} {
		a := recordedAnswer(f, "one/"+name+".json")
		f.Add(a.Key, a.Value, a.Proof.Ops[0].Data, a.Proof.Ops[1].Data)
	}
	app := recordedAppHash(f)
	present := map[string][]byte{}
	a := recordedAnswer(f, "one/present.json")
	present[string(a.Key)] = a.Value
	f.Fuzz(func(t *testing.T, key, value, row, stores []byte) {
		p := Proof{[]ProofOp{{opIAVL, key, row}, {opSimple, []byte("vault"), stores}}}
		if VerifyRow(app, "vault", key, value, p) == nil && !reflect.DeepEqual(present[string(key)], value) {
			t.Fatalf("proved %x = %x", key, value)
		}
		if VerifyAbsent(app, "vault", key, p) == nil && present[string(key)] != nil {
			t.Fatalf("proved %x absent", key)
		}
	})
}

func BenchmarkVerifyRow(b *testing.B) {
	a, app := recordedAnswer(b, "one/present.json"), recordedAppHash(b)
	for b.Loop() {
		if err := VerifyRow(app, "vault", a.Key, a.Value, *a.Proof); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyAbsent(b *testing.B) {
	a, app := recordedAnswer(b, "one/absent_middle.json"), recordedAppHash(b)
	for b.Loop() {
		if err := VerifyAbsent(app, "vault", a.Key, *a.Proof); err != nil {
			b.Fatal(err)
		}
	}
}
