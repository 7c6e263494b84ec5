package erasure

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"example.org/agentkeys"
)

// place is where a tree lives: in every name, key and AAD of it.
type place struct {
	vault  agentkeys.VaultID
	anchor AnchorID
}

func (p place) prefix() string { return "tree/" + p.anchor.String() + "/" }

func (p place) indexName(number uint64, tag [16]byte) string {
	return fmt.Sprintf("%sindex/%020d/%x", p.prefix(), number, tag)
}

func (p place) shardName(number byte, hash agentkeys.Hash) string {
	return fmt.Sprintf("%sshard/%02x/%s", p.prefix(), number, hash)
}

func (p place) recordPrefix(number uint64, tag [16]byte) string {
	return fmt.Sprintf("%srecord/%020d/%x/", p.prefix(), number, tag)
}

// rootTag names a root in object names without revealing it. It does not depend
// on the shielding key, so the index is found before its wrap version is known.
func (p place) rootTag(root *Root) (tag [16]byte) {
	info := append(agentkeys.DomainTag("tree/name", p.vault), p.anchor[:]...)
	b, err := hkdf.Key(sha256.New, root[:], nil, string(info), len(tag))
	if err != nil {
		panic(err) // only for lengths beyond 255 hashes
	}
	copy(tag[:], b)
	return tag
}

// generation is one root with what it opens. All of its objects use the wrap
// version that its index names.
type generation struct {
	place
	number    uint64
	version   uint32
	root      Root
	tag       [16]byte
	indexKey  [32]byte
	recordKey [32]byte
	nameKey   [32]byte
	index     index
	hash      agentkeys.Hash   // SHA-256 of the index object
	dirty     [shardCount]bool // shards with records of this generation
}

// newGeneration derives the keys: tree key = HKDF-SHA256(ikm = root, salt =
// shielding key, info = domain tag), expanded for each use.
func newGeneration(p place, number uint64, version uint32, root Root, shielding [32]byte) *generation {
	g := &generation{place: p, number: number, version: version, root: root, tag: p.rootTag(&root)}
	treeKey, err := hkdf.Key(sha256.New, root[:], shielding[:], string(agentkeys.DomainTag("tree", p.vault)), 32)
	if err != nil {
		panic(err) // only for lengths beyond 255 hashes
	}
	g.expand(&g.indexKey, treeKey, "tree/index")
	g.expand(&g.recordKey, treeKey, "tree/record")
	g.expand(&g.nameKey, treeKey, "tree/record-name")
	clear(treeKey)
	return g
}

func (g *generation) expand(key *[32]byte, treeKey []byte, purpose string) {
	info := append(agentkeys.DomainTag(purpose, g.vault), g.anchor[:]...)
	info = binary.BigEndian.AppendUint64(info, g.number)
	b, err := hkdf.Expand(sha256.New, treeKey, string(info), len(key))
	if err != nil {
		panic(err) // only for lengths beyond 255 hashes
	}
	copy(key[:], b)
	clear(b)
}

func (g *generation) indexFrame() frame {
	return frame{place: g.place, kind: kindIndex, version: g.version, number: g.number, id: g.tag}
}

func (g *generation) recordFrame(id [16]byte) frame {
	return frame{place: g.place, kind: kindRecord, version: g.version, number: g.number, id: id}
}

// recordID is the same for the same share id, so that create-only puts decide
// between two shares for one id; without the name key it says nothing.
func (g *generation) recordID(id ShareID) (out [16]byte) {
	m := hmac.New(sha256.New, g.nameKey[:])
	m.Write(id.append(nil))
	copy(out[:], m.Sum(nil))
	return out
}

func (g *generation) recordName(id [16]byte) string {
	return fmt.Sprintf("%s%x", g.recordPrefix(g.number, g.tag), id)
}

// openIndex authenticates an index object and takes it over.
func (g *generation) openIndex(object []byte) error {
	plain, err := g.indexFrame().open(g.indexKey, object)
	if err != nil {
		return err
	}
	defer clear(plain)
	if err := g.index.parse(plain); err != nil {
		return err
	}
	if g.index.generation != g.number || g.index.version != g.version {
		return fmt.Errorf("share index: %w", agentkeys.ErrLayout)
	}
	g.hash = sha256.Sum256(object)
	return nil
}

// wipe zeroes the root and every key, shard keys included.
func (g *generation) wipe() { *g = generation{} }
