package ledger

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keptBlock is the JSON of a trusted block in state and evidence files, in the spelling
// of the node's RPC.
type keptBlock struct {
	Header     Header      `json:"header"`
	Commit     Commit      `json:"commit"`
	Validators []Validator `json:"validators"`
}

// keptState is the state file. MAC is HMAC-SHA256 over the bytes of Block.
type keptState struct {
	Block json.RawMessage `json:"block"`
	MAC   []byte          `json:"mac,omitempty"`
}

// evidence is the file beside the state file that holds two valid headers of one height,
// or one header and another that descends from a rival of it.
type evidence struct {
	ChainID string       `json:"chain_id"`
	Blocks  [2]keptBlock `json:"blocks"`
}

func keep(b *LightBlock) keptBlock { return keptBlock{b.Header, b.Commit, b.Validators.Members()} }

func (c *Client) evidenceFile() string { return c.cfg.StateFile + ".fork.json" }

// load returns nil when there is no state file.
func (c *Client) load() (*LightBlock, error) {
	if c.cfg.StateFile == "" {
		return nil, nil
	}
	if _, err := os.Stat(c.evidenceFile()); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrFork, c.evidenceFile())
	}
	b, err := os.ReadFile(c.cfg.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: state file: %w", err)
	}
	block, err := c.parseState(b)
	if err != nil {
		return nil, fmt.Errorf("ledger: state file %s: %w; remove it to begin at the configured height", c.cfg.StateFile, err)
	}
	return block, nil
}

func (c *Client) parseState(b []byte) (*LightBlock, error) {
	var s keptState
	var k keptBlock
	if err := strictJSON(b, &s); err != nil {
		return nil, err
	}
	if c.cfg.StateKey.Len() > 0 && !hmac.Equal(s.MAC, c.mac(s.Block)) {
		return nil, errors.New("not written with this key")
	}
	if err := strictJSON(s.Block, &k); err != nil {
		return nil, err
	}
	set, err := NewValidators(k.Validators)
	if err != nil {
		return nil, err
	}
	block := &LightBlock{k.Header, k.Commit, set}
	return block, c.rules.Check(block)
}

func strictJSON(b []byte, out any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return err
	}
	if d.More() {
		return errors.New("trailing bytes")
	}
	return nil
}

func (c *Client) mac(b []byte) []byte {
	m := hmac.New(sha256.New, c.cfg.StateKey.Reveal())
	m.Write(b)
	return m.Sum(nil)
}

// save persists the trusted block if it is newer than the file. It is on disk when save
// returns.
func (c *Client) save() error {
	c.advancing.Lock()
	defer c.advancing.Unlock()
	if !c.dirty || c.cfg.StateFile == "" {
		return nil
	}
	block, err := json.Marshal(keep(c.block))
	if err != nil {
		return fmt.Errorf("ledger: state file: %w", err)
	}
	s := keptState{Block: block}
	if c.cfg.StateKey.Len() > 0 {
		s.MAC = c.mac(block)
	}
	if err := writeJSON(c.cfg.StateFile, s); err != nil {
		return err
	}
	c.dirty = false
	return nil
}

// forked keeps both headers and returns [ErrFork]. The evidence must be on disk before
// anything else happens; if that fails the client still refuses.
func (c *Client) forked(ours, other *LightBlock) error {
	if c.cfg.StateFile == "" {
		return ErrFork
	}
	e := evidence{c.cfg.ChainID, [2]keptBlock{keep(ours), keep(other)}}
	if err := writeJSON(c.evidenceFile(), e); err != nil {
		return fmt.Errorf("%w (%v)", ErrFork, err)
	}
	return fmt.Errorf("%w: %s", ErrFork, c.evidenceFile())
}

// writeJSON replaces a file in one step: temporary file, fsync, rename, fsync of the
// directory.
func writeJSON(path string, v any) (err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer dir.Close()
	return dir.Sync()
}
