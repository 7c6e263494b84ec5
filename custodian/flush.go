package custodian

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/record"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

const flushEvery = time.Second

// flushLoop commits read records once a second, when there are any.
func (s *Server) flushLoop(ctx context.Context) error {
	for {
		if err := sleep(ctx, flushEvery); err != nil {
			return err
		}
		if err := s.flush(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("read records are not committed yet, will try again", "error", err.Error())
		}
	}
}

// tried is the batch that was signed last, and when that was for the first time:
// all tries of a batch leave the same row. Only flush uses it.
type tried struct {
	root agentkeys.Hash
	at   time.Time
}

// flush sends one segment to the store and its root to the chain. The proven row
// says what is committed; whatever a crash leaves half done is found and finished.
func (s *Server) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	if len(s.outbox.pendingFrom(0, 1)) == 0 {
		return nil
	}
	reads, ok, head, err := one(ctx, s.cfg.Chain, rules.ReadsKey(s.Key()), rules.ParseReads)
	if err != nil {
		return err
	}
	if !ok {
		reads.Next = 1
	}
	if err := s.outbox.behind(reads.Next); err != nil {
		return err
	}
	if err := s.outbox.committed(reads.Next); err != nil {
		return err
	}
	batch := s.outbox.pendingFrom(reads.Next, record.MaxSegment)
	if len(batch) == 0 {
		return nil
	}
	if batch[0].Sequence != reads.Next {
		return fmt.Errorf("audit: record %d is missing from the outbox, which goes on at %d: restore the outbox directory", reads.Next, batch[0].Sequence)
	}
	s.step("flush.segment")
	if batch, err = s.putSegment(ctx, batch); err != nil {
		return err
	}
	s.step("flush.statement")
	body := statement.RecordReads{First: batch[0].Sequence, Count: uint32(len(batch)), Root: record.Root(batch), Previous: reads.Head,
		Boots: s.cfg.State.Boots, SeenHeight: head.Height, ValidUntil: s.statementValidUntil()}
	if s.tried.root != body.Root {
		s.tried.root, s.tried.at = body.Root, time.Now()
	}
	relayed, err := s.cfg.Relay.Submit(ctx, [][]byte{s.sign(body)})
	if err != nil {
		return err
	}
	if code, reason := hint(relayed); !code.Done() {
		return fmt.Errorf("audit: %s: %s", code, reason)
	}
	next := body.First + uint64(body.Count)
	awaitHeight(ctx, s.cfg.Chain, relayed.Height)
	value, _, err := s.cfg.Chain.AwaitRow(ctx, rules.ReadsKey(s.Key()), func(v []byte) bool {
		r, ok, err := row(v, rules.ParseReads)
		return err == nil && ok && r.Next >= next
	})
	if err != nil {
		return err
	}
	after, _, err := row(value, rules.ParseReads)
	if err != nil {
		return err
	}
	if after.Next == next && after.Head != record.NextHead(s.cfg.Vault, reads.Head, body.First, body.Count, body.Root) {
		return errors.New("audit: the chain has committed other records under this key: is its home directory used twice?")
	}
	// The row may show an earlier try of the same batch, whose block was held back
	// until now, from this start or one before.
	if after.Next == next && after.Boots == s.cfg.State.Boots {
		s.fresh.proven(s.tried.at)
	}
	s.step("flush.forget")
	s.trail.add(batch)
	return s.outbox.committed(next)
}

// SegmentName is audit/<custodian key>/<first sequence, 20 digits>.seg.
func SegmentName(k agentkeys.ProcessKey, first uint64) string {
	return fmt.Sprintf("audit/%s/%020d.seg", k, first)
}

// putSegment stores the batch sealed. A segment that is there already is from a
// start that crashed before its statement: it is the same records or the beginning
// of them, and it is what gets committed.
func (s *Server) putSegment(ctx context.Context, batch []record.Record) ([]record.Record, error) {
	name := SegmentName(s.Key(), batch[0].Sequence)
	sealed, err := s.sealSegment(name, record.Segment{Custodian: s.Key(), Records: batch}.Append(nil))
	if err != nil {
		return nil, err
	}
	err = s.cfg.Objects.Put(ctx, name, sealed)
	if !errors.Is(err, blobstore.ErrExists) {
		return batch, err
	}
	old, err := s.segment(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(old.Records) > len(batch) {
		return nil, fmt.Errorf("audit: segment %s holds more records than the outbox: restore the outbox directory", name)
	}
	for i, r := range old.Records {
		if r != batch[i] {
			return nil, fmt.Errorf("audit: segment %s differs from the outbox at record %d", name, r.Sequence)
		}
	}
	return old.Records, nil
}

const maxSegmentBytes = 4 + 32 + 4 + record.MaxSegment*record.Size + 64

// segment reads and opens one segment.
func (s *Server) segment(ctx context.Context, name string) (record.Segment, error) {
	b, err := s.cfg.Objects.Get(ctx, name, maxSegmentBytes)
	if err != nil {
		return record.Segment{}, err
	}
	aead, err := s.segmentCipher()
	if err != nil {
		return record.Segment{}, err
	}
	n := aead.NonceSize()
	if len(b) < n {
		return record.Segment{}, fmt.Errorf("audit: segment %s is too short", name)
	}
	plain, err := aead.Open(nil, b[:n], b[n:], []byte(name))
	if err != nil {
		return record.Segment{}, fmt.Errorf("audit: segment %s does not open", name)
	}
	return record.ParseSegment(plain)
}

// sealSegment: nonce 12, ciphertext, tag 16; AAD = the object's name.
func (s *Server) sealSegment(name string, plain []byte) ([]byte, error) {
	aead, err := s.segmentCipher()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, plain, []byte(name)), nil
}

func (s *Server) segmentCipher() (cipher.AEAD, error) {
	key, err := s.meta.SegmentKey(s.cfg.Vault)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	b, err := aes.NewCipher(key.Reveal())
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}
