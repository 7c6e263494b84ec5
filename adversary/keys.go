package adversary

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"example.org/agentkeys"
)

// key is 32 bytes that may be a key.
type key = [32]byte

// mac is HMAC-SHA256 of at most 192 bytes, without an allocation: it runs for every
// 32 bytes of an image.
func mac(k *key, message ...[]byte) key {
	var in [64 + 192]byte
	var out [64 + 32]byte
	for i := range 64 {
		in[i], out[i] = 0x36, 0x5c
	}
	for i, b := range k {
		in[i] ^= b
		out[i] ^= b
	}
	n := 64
	for _, m := range message {
		if len(m) > len(in)-n {
			panic("mac: message too long")
		}
		n += copy(in[n:], m)
	}
	sum := sha256.Sum256(in[:n])
	copy(out[64:], sum[:])
	return sha256.Sum256(out[:])
}

var one = []byte{1}

// expand is the first block of HKDF-Expand.
func expand(prk *key, info []byte) key { return mac(prk, info, one) }

// derive is HKDF-SHA256 of 32 bytes.
func derive(salt, ikm *key, info []byte) key {
	prk := mac(salt, ikm[:])
	return expand(&prk, info)
}

// place is a share tree: docs/spec/erasure.md.
type place struct {
	vault  agentkeys.VaultID
	anchor [16]byte
}

func (p place) info(purpose string, generation uint64) []byte {
	b := append(agentkeys.DomainTag(purpose, p.vault), p.anchor[:]...)
	return binary.BigEndian.AppendUint64(b, generation)
}

func (p place) treeKey(root, shielding *key) key {
	return derive(shielding, root, agentkeys.DomainTag("tree", p.vault))
}

// Kinds of tree objects.
const (
	indexObject  = 1
	shardObject  = 2
	recordObject = 3
)

// object is a sealed object of a share tree.
type object struct {
	Piece
	place
	kind    byte
	version uint32
	number  uint64 // generation, or number of the shard
	id      [16]byte
	nonce   []byte
	sealed  []byte
	header  []byte
	info    []byte // of the key, from the tree key; nil for shards
}

// parseObject reads name and front of an object under tree/; ok is false for others.
func parseObject(vault agentkeys.VaultID, p Piece) (o object, ok bool) {
	parts := strings.Split(p.Name, "/")
	if p.From != "store" || len(parts) < 5 || parts[0] != "tree" || len(p.Bytes) < 37 || string(p.Bytes[:4]) != "AKt1" {
		return o, false
	}
	o = object{Piece: p, place: place{vault: vault}, kind: p.Bytes[4], version: binary.BigEndian.Uint32(p.Bytes[5:]),
		header: p.Bytes[:9], nonce: p.Bytes[9:21], sealed: p.Bytes[21:]}
	if n, err := hex.Decode(o.anchor[:], []byte(parts[1])); n != 16 || err != nil {
		return o, false
	}
	base, purpose := 10, ""
	switch {
	case parts[2] == "index" && o.kind == indexObject:
		purpose = "tree/index"
	case parts[2] == "record" && o.kind == recordObject:
		purpose = "tree/record"
	case parts[2] == "shard" && o.kind == shardObject:
		base = 16
	default:
		return o, false
	}
	n, err := strconv.ParseUint(parts[3], base, 64)
	o.number = n
	if purpose != "" {
		o.info = o.place.info(purpose, o.number)
		hexID := parts[len(parts)-1]
		if n, err := hex.Decode(o.id[:], []byte(hexID)); n != 16 || err != nil {
			return o, false
		}
	}
	return o, err == nil
}

// tag is the root tag in the name of an index or record.
func (o object) tag() (tag [16]byte) {
	if o.kind != shardObject {
		_, _ = hex.Decode(tag[:], []byte(strings.Split(o.Name, "/")[4]))
	}
	return tag
}

func (o object) open(k *key) ([]byte, bool) {
	aad := append(agentkeys.DomainTag("tree/object", o.vault), o.header...)
	aad = binary.BigEndian.AppendUint64(append(aad, o.anchor[:]...), o.number)
	return unseal(k, o.nonce, o.sealed, append(aad, o.id[:]...))
}

// unseal is AES-256-GCM.
func unseal(k *key, nonce, sealed, aad []byte) ([]byte, bool) {
	plain, err := gcm(k).Open(nil, nonce, sealed, aad)
	return plain, err == nil
}

func gcm(k *key) cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // only for key sizes other than 16, 24, 32
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // only for block sizes other than 16
	}
	return aead
}

// shardKeys reads an index: 30 bytes, then rows of shard 1, shares 4, key 32, hash 32.
func shardKeys(index []byte) (keys []key) {
	for rows := index[min(30, len(index)):]; len(rows) >= 69; rows = rows[69:] {
		keys = append(keys, key(rows[5:37]))
	}
	return keys
}

// shareEntry is a share with its name.
type shareEntry struct {
	user    agentkeys.Wallet
	epoch   agentkeys.Epoch
	version uint32
	share   key
}

// entries reads a record, or a shard behind its count: entries of 60 bytes.
func entries(b []byte) (all []shareEntry) {
	for b = b[len(b)%60:]; len(b) >= 60; b = b[60:] {
		r := agentkeys.NewReader(b[:60])
		var e shareEntry
		r.Copy(e.user[:])
		e.epoch, e.version = agentkeys.Epoch(r.U32()), r.U32()
		r.Copy(e.share[:])
		all = append(all, e)
	}
	return all
}

// wrapInfo is the HKDF info of a wrapping key and the front of its AAD.
func wrapInfo(vault agentkeys.VaultID, user agentkeys.Wallet, epoch agentkeys.Epoch, version uint32) []byte {
	b := append(agentkeys.DomainTag("wrap", vault), user[:]...)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, uint32(epoch)), version)
}
