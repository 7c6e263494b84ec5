package erasure

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"testing"

	"example.org/agentkeys"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

const vectorFile = "testdata/vectors.json"

// vector is one generation with an object of each kind; bytes are hex.
type vector struct {
	Vault, Anchor, Root, Shielding, ShardKey, Nonce string
	Generation                                      uint64
	WrapVersion                                     uint32

	RootTag, TreeKey, IndexKey, RecordKey, NameKey string
	IndexName, ShardName, RecordName               string
	IndexPlain, ShardPlain, RecordPlain            string
	IndexObject, ShardObject, RecordObject         string
}

func filled[T ~[16]byte | ~[32]byte](first byte) (out T) {
	v := reflect.ValueOf(&out).Elem()
	for i := range v.Len() {
		v.Index(i).SetUint(uint64(first) + uint64(i))
	}
	return out
}

func makeVector(first byte) vector {
	p := place{filled[agentkeys.VaultID](first), filled[AnchorID](first + 1)}
	root, shielding, key := filled[Root](first+2), filled[[32]byte](first+3), filled[[32]byte](first+4)
	nonce := [nonceSize]byte{first, 11: 0xee}
	g := newGeneration(p, uint64(first)+7, uint32(first)+1, root, shielding)
	entries := []entry{
		{ShareID{agentkeys.Wallet{0: 1, 19: 0x2a}, 1, 1}, filled[Share](first + 5)},
		{ShareID{agentkeys.Wallet{0: 1, 19: 0x2a}, 2, 1}, filled[Share](first + 6)},
	}
	shardPlain := appendShard(entries)
	shard := shardFrame(p, 0x2a).sealWith(key, nonce, bytes.Clone(shardPlain))
	g.index = index{generation: g.number, term: 3, height: 1234, version: g.version}
	g.index.shards[0x2a] = shardRef{2, key, sha256.Sum256(shard)}
	indexPlain, recordPlain, rid := g.index.append(), entries[1].append(nil), g.recordID(entries[1].id)
	h := hex.EncodeToString
	return vector{
		Vault: h(p.vault[:]), Anchor: h(p.anchor[:]), Root: h(root[:]), Shielding: h(shielding[:]), ShardKey: h(key[:]),
		Nonce: h(nonce[:]), Generation: g.number, WrapVersion: g.version,
		RootTag: h(g.tag[:]), TreeKey: h(treeKeyByHand(p, root, shielding)),
		IndexKey: h(g.indexKey[:]), RecordKey: h(g.recordKey[:]), NameKey: h(g.nameKey[:]),
		IndexName: p.indexName(g.number, g.tag), ShardName: p.shardName(0x2a, sha256.Sum256(shard)), RecordName: g.recordName(rid),
		IndexPlain: h(indexPlain), ShardPlain: h(shardPlain), RecordPlain: h(recordPlain),
		IndexObject: h(g.indexFrame().sealWith(g.indexKey, nonce, bytes.Clone(indexPlain))), ShardObject: h(shard),
		RecordObject: h(g.recordFrame(rid).sealWith(g.recordKey, nonce, bytes.Clone(recordPlain))),
	}
}

// mac and treeKeyByHand are RFC 5869 written out, to hold the derivation against
// something other than itself.
func mac(key []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func treeKeyByHand(p place, root Root, shielding [32]byte) []byte {
	return mac(mac(shielding[:], root[:]), agentkeys.DomainTag("tree", p.vault), []byte{1})
}

func TestVectors(t *testing.T) {
	made := []vector{makeVector(0), makeVector(0x40)}
	if *update {
		b, _ := json.MarshalIndent(made, "", "  ")
		if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var want []vector
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(made, want) {
		t.Errorf("bytes changed:\n got %+v\nwant %+v", made, want)
	}
}

func TestKeysFollowRFC5869(t *testing.T) {
	p := place{filled[agentkeys.VaultID](1), filled[AnchorID](2)}
	root, shielding := filled[Root](3), filled[[32]byte](4)
	g := newGeneration(p, 9, 1, root, shielding)
	treeKey := treeKeyByHand(p, root, shielding)
	for purpose, got := range map[string][32]byte{"tree/index": g.indexKey, "tree/record": g.recordKey, "tree/record-name": g.nameKey} {
		want := mac(treeKey, agentkeys.DomainTag(purpose, p.vault), p.anchor[:], binary.BigEndian.AppendUint64(nil, 9), []byte{1})
		if !bytes.Equal(got[:], want) {
			t.Errorf("%s: %x, want %x", purpose, got, want)
		}
	}
	tag := mac(mac(make([]byte, 32), root[:]), agentkeys.DomainTag("tree/name", p.vault), p.anchor[:], []byte{1})
	if !bytes.Equal(g.tag[:], tag[:16]) {
		t.Errorf("root tag: %x, want %x", g.tag, tag[:16])
	}
}

func TestObjectsAreBoundToTheirPlace(t *testing.T) {
	g := newGeneration(place{filled[agentkeys.VaultID](1), filled[AnchorID](2)}, 9, 1, filled[Root](3), filled[[32]byte](4))
	f := g.recordFrame([16]byte{5})
	object := f.seal(g.recordKey, make([]byte, entrySize))
	if _, err := f.open(g.recordKey, object); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(f *frame){
		"vault":   func(f *frame) { f.vault[0]++ },
		"anchor":  func(f *frame) { f.anchor[0]++ },
		"kind":    func(f *frame) { f.kind = kindShard },
		"version": func(f *frame) { f.version++ },
		"number":  func(f *frame) { f.number++ },
		"id":      func(f *frame) { f.id[0]++ },
	} {
		other := f
		change(&other)
		if _, err := other.open(g.recordKey, object); err == nil {
			t.Errorf("opens with another %s", name)
		}
	}
	for i := range object {
		object[i] ^= 0x10
		if _, err := f.open(g.recordKey, object); err == nil {
			t.Errorf("opens with byte %d altered", i)
		}
		object[i] ^= 0x10
	}
	for n := range object {
		if _, err := f.open(g.recordKey, object[:n]); err == nil {
			t.Errorf("opens cut to %d bytes", n)
		}
	}
}

func TestParsersRefuse(t *testing.T) {
	good := appendShard([]entry{{shareID(1, 1), Share{1}}, {shareID(1, 2), Share{2}}})
	x := index{generation: 1, version: 1}
	x.shards[3], x.shards[9] = shardRef{shares: 1}, shardRef{shares: 2}
	goodIndex := x.append()
	swap := func(b []byte, from, size int) []byte {
		out := bytes.Clone(b[:from])
		return append(append(append(out, b[from+size:from+2*size]...), b[from:from+size]...), b[from+2*size:]...)
	}
	edit := func(b []byte, at int, v byte) []byte { out := bytes.Clone(b); out[at] = v; return out }
	for name, b := range map[string][]byte{
		"empty": nil, "trailing": append(bytes.Clone(good), 0), "short": good[:len(good)-1], "no entry": make([]byte, 4),
		"order": swap(good, 4, entrySize), "twice": append(edit(good[:64], 3, 2), good[4:64]...),
		"count": edit(good, 3, 3), "other shard": edit(good, 4+19, 2), "epoch 0": edit(good, 4+23, 0),
		"wrap version 0": edit(good, 4+27, 0), "zero share": edit(good, 4+28, 0), "huge count": edit(good, 0, 0xff),
	} {
		if _, err := parseShard(1, b); err == nil {
			t.Errorf("shard, %s: accepted", name)
		}
	}
	for name, b := range map[string][]byte{
		"empty": nil, "trailing": append(bytes.Clone(goodIndex), 0), "short": goodIndex[:len(goodIndex)-1],
		"order": swap(goodIndex, indexSize, shardRefSize), "twice": edit(goodIndex, indexSize+shardRefSize, 3),
		"generation 0": edit(goodIndex, 7, 0), "wrap version 0": edit(goodIndex, 27, 0), "count": edit(goodIndex, 29, 3),
		"no shares": edit(goodIndex, indexSize+4, 0),
	} {
		if err := new(index).parse(b); err == nil {
			t.Errorf("index, %s: accepted", name)
		}
	}
	if _, err := parseShard(1, good); err != nil {
		t.Error(err)
	}
	if err := new(index).parse(goodIndex); err != nil {
		t.Error(err)
	}
	if _, err := parseRecord(append(bytes.Clone(good[4:64]), 0)); err == nil {
		t.Error("record with a trailing byte accepted")
	}
}

// FuzzParse: what a parser accepts is exactly what it would write.
func FuzzParse(f *testing.F) {
	x := index{generation: 1, version: 1}
	x.shards[3] = shardRef{shares: 1}
	e := entry{shareID(1, 1), Share{1}}
	f.Add(byte(kindIndex), x.append())
	f.Add(byte(kindShard), appendShard([]entry{e}))
	f.Add(byte(kindRecord), e.append(nil))
	f.Fuzz(func(t *testing.T, k byte, b []byte) {
		var again []byte
		switch kind(k) {
		case kindIndex:
			var x index
			if x.parse(b) != nil {
				return
			}
			again = x.append()
		case kindShard:
			entries, err := parseShard(1, b)
			if err != nil {
				return
			}
			again = appendShard(entries)
		case kindRecord:
			e, err := parseRecord(b)
			if err != nil {
				return
			}
			again = e.append(nil)
		default:
			return
		}
		if !bytes.Equal(again, b) {
			t.Errorf("kind %d: %x parses, and writes %x", k, b, again)
		}
	})
}
