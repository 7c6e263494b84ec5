package ledger

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"
)

// precommit is the vote type that commits consist of.
const precommit = 2

// Flags of a commit signature.
const (
	flagAbsent = 1
	flagCommit = 2
	flagNil    = 3
)

// Commit is the votes that made a block final: one entry for each validator, in the
// order of the set.
type Commit struct {
	Height     uint64      `json:"height,string"`
	Round      int32       `json:"round"`
	BlockID    BlockID     `json:"block_id"`
	Signatures []CommitSig `json:"signatures"`
}

// CommitSig is the vote of one validator: absent (1), for the block (2) or nil (3).
type CommitSig struct {
	Flag      int       `json:"block_id_flag"`
	Address   Hex       `json:"validator_address"`
	Time      time.Time `json:"timestamp"`
	Signature []byte    `json:"signature"`
}

// verify checks that more than two thirds of vals signed this block id. It is
// stricter than the reference rules, which stop at two thirds: every signature must
// be good, those for nil too, so nothing in a commit can be changed unnoticed.
func (c *Commit) verify(chainID string, vals *Validators) error {
	if len(c.Signatures) != len(vals.members) {
		return fmt.Errorf("commit: %d signatures for %d validators", len(c.Signatures), len(vals.members))
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.power(vals) <= vals.total*2/3 {
		return errors.New("commit: two thirds of the validators did not sign")
	}
	prefix := c.signPrefix()
	for i := range c.Signatures {
		s, m := &c.Signatures[i], &vals.members[i]
		if s.Flag == flagAbsent {
			continue
		}
		if !bytes.Equal(s.Address, m.Address) {
			return errors.New("commit: signatures are not in the order of the validators")
		}
		if !ed25519.Verify(m.Key.Value, s.signBytes(prefix, c.BlockID, chainID), s.Signature) {
			return fmt.Errorf("commit: signature %d is wrong", i)
		}
	}
	return nil
}

func (c *Commit) check() error {
	if c.Round < 0 || c.BlockID.check() != nil {
		return errors.New("commit: round or block id malformed")
	}
	for i := range c.Signatures {
		s := &c.Signatures[i]
		switch s.Flag {
		case flagAbsent:
			if len(s.Address) != 0 || len(s.Signature) != 0 || !s.Time.IsZero() {
				return errors.New("commit: absent vote that is not empty")
			}
		case flagCommit, flagNil:
			if len(s.Address) != 20 || len(s.Signature) != ed25519.SignatureSize {
				return errors.New("commit: vote malformed")
			}
		default:
			return errors.New("commit: unknown vote flag")
		}
	}
	return nil
}

// power adds up the members of vals that claim to have signed the block, by key. It
// proves nothing before the signatures are checked against the commit's own set.
func (c *Commit) power(vals *Validators) int64 {
	members := make(map[[20]byte]int64, len(vals.members))
	for i := range vals.members {
		members[[20]byte(vals.members[i].Address)] = vals.members[i].Power
	}
	var sum int64
	for i := range c.Signatures {
		if c.Signatures[i].Flag != flagCommit {
			continue
		}
		address := [20]byte(c.Signatures[i].Address)
		sum += members[address]
		delete(members, address) // one vote counts once
	}
	return sum
}

// signPrefix encodes what all votes of the commit share: type 1, height 2, round 3.
func (c *Commit) signPrefix() []byte {
	b := appendUint(make([]byte, 0, 32), 1, precommit)
	b = appendFixed64(b, 2, c.Height)
	return appendFixed64(b, 3, uint64(c.Round))
}

// signBytes is the delimited CanonicalVote: prefix, block id 4 (none for nil), time 5,
// chain id 6.
func (s *CommitSig) signBytes(prefix []byte, id BlockID, chainID string) []byte {
	b := append(make([]byte, 0, 192), prefix...)
	if s.Flag == flagCommit {
		b = appendMessage(b, 4, id.append(make([]byte, 0, 80)))
	}
	b = appendMessage(b, 5, appendTime(make([]byte, 0, 24), s.Time))
	b = appendBytes(b, 6, chainID)
	return appendDelimited(make([]byte, 0, len(b)+2), b)
}
