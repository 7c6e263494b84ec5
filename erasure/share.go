package erasure

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"example.org/agentkeys"
)

// Share is the erasable secret of one [ShareID]: 32 random bytes, never zero.
// Clear copies after use.
type Share [32]byte

// Root is what an anchor holds: 32 random bytes that open one generation of one
// tree.
type Root [32]byte

// AnchorID names an anchor: 16 random bytes, 32 lower-case hex digits in text.
type AnchorID [16]byte

// ShareID says whose share it is. WrapVersion is the number of the shielding key
// it is used with; like epochs, wrap versions begin at 1.
type ShareID struct {
	User        agentkeys.Wallet
	Epoch       agentkeys.Epoch
	WrapVersion uint32
}

func (a AnchorID) String() string { return hex.EncodeToString(a[:]) }

func (id ShareID) String() string {
	return fmt.Sprintf("%s/%s/%d", id.User, id.Epoch, id.WrapVersion)
}

const redacted = "[redacted]"

// Format gives "[redacted]" for every verb.
func (Share) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText gives "[redacted]".
func (Share) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format gives "[redacted]" for every verb.
func (Root) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText gives "[redacted]".
func (Root) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// entrySize is user 20, epoch 4, wrap version 4, share 32.
const entrySize = 60

type entry struct {
	id    ShareID
	share Share
}

// shard spreads users over 256 shards by the last byte, which vanity addresses
// leave random.
func (id ShareID) shard() byte { return id.User[len(id.User)-1] }

func (id ShareID) valid() bool {
	return !id.User.IsZero() && id.Epoch != 0 && id.WrapVersion != 0
}

func (id ShareID) compare(other ShareID) int {
	return cmp.Or(
		bytes.Compare(id.User[:], other.User[:]),
		cmp.Compare(id.Epoch, other.Epoch),
		cmp.Compare(id.WrapVersion, other.WrapVersion),
	)
}

func (id ShareID) append(b []byte) []byte {
	b = append(b, id.User[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(id.Epoch))
	return binary.BigEndian.AppendUint32(b, id.WrapVersion)
}

func (e *entry) append(b []byte) []byte { return append(e.id.append(b), e.share[:]...) }

func (e *entry) read(r *agentkeys.Reader) {
	r.Copy(e.id.User[:])
	e.id.Epoch = agentkeys.Epoch(r.U32())
	e.id.WrapVersion = r.U32()
	r.Copy(e.share[:])
	if !e.id.valid() || e.share == (Share{}) {
		r.Fail()
	}
}

// parseRecord reads the plaintext of a record: one entry.
func parseRecord(b []byte) (entry, error) {
	r := agentkeys.NewReader(b)
	var e entry
	e.read(r)
	if err := r.Close(); err != nil {
		return entry{}, fmt.Errorf("share record: %w", err)
	}
	return e, nil
}
