package custodian

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"example.org/agentkeys"
	"example.org/agentkeys/seed"
)

// ErrLocked is returned when another process works on the same home directory.
var ErrLocked = errors.New("home: another custodian is running here; stop it, or give this one its own --home")

const devLabel = "development: root can read it"

// State is the home directory of one custodian instance, mode 0700, locked while
// it is open. Its files are written once, at first start, each by writing beside,
// fsync and rename, and then only read:
//
//	seed.dev      master seed, software sealing
//	instance.key  Ed25519 key of statements and receipts; never from the seed
//	tls.pem       self-signed certificate and key, so that the pin survives
//	operator.token
//	anchor-<id>   auth value and pinned storage key of a TPM
//
// boots (a number) is rewritten at each start. outbox/ belongs to [outbox], ledger
// state to the ledger client.
type State struct {
	Home     string
	Seed     seed.Seed
	Instance ed25519.PrivateKey
	Token    agentkeys.Secret // the operator shows this, hex
	Boots    uint64           // starts of this instance, this one included
	Wrap     uint32           // wrap version to start with, from 1: the newest shielding key that was ever begun
	tlsPEM   []byte
	lock     *os.File
}

// OpenState locks home and reads it, or makes its keys at first start. Software
// sealing is for development: without it there is no other sealing in this build.
func OpenState(home string, development bool) (*State, error) {
	if !development {
		return nil, errors.New("seed: this build can seal in software only; start with --development, or use an enclave build")
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("home: %w", err)
	}
	lock, err := lockHome(home)
	if err != nil {
		return nil, err
	}
	s := &State{Home: home, lock: lock}
	if err := s.load(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

// Close gives up the lock.
func (s *State) Close() error {
	s.Seed.Wipe()
	clear(s.Instance)
	s.Token.Wipe()
	return s.lock.Close()
}

// LedgerKey authenticates the ledger's state file, so that whoever can write the home
// directory cannot choose what is trusted: SHA-256 of "ledger state" and the
// instance key's seed.
func (s *State) LedgerKey() agentkeys.Secret {
	h := sha256.Sum256(append([]byte("ledger state\x00"), s.Instance.Seed()...))
	return agentkeys.NewSecret(h[:])
}

// Key is the public statement key.
func (s *State) Key() (k agentkeys.ProcessKey) {
	copy(k[:], s.Instance.Public().(ed25519.PublicKey))
	return k
}

func lockHome(home string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(home, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("home: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrLocked, home)
	}
	return f, nil
}

func (s *State) load() error {
	_, err := os.Stat(filepath.Join(s.Home, "instance.key"))
	first := errors.Is(err, fs.ErrNotExist)
	master, err := s.secret("seed.dev", first, func() []byte { return seed.New().Reveal() })
	if err != nil {
		return err
	}
	s.Seed = seed.Seed{Secret: agentkeys.NewSecret(master)}
	token, err := s.secret("operator.token", true, func() []byte { return seed.New().Reveal() })
	if err != nil {
		return err
	}
	s.Token = agentkeys.NewSecret([]byte(hex.EncodeToString(token)))
	if s.tlsPEM, err = s.certificate(); err != nil {
		return err
	}
	// The instance key comes last: once it is there, a missing seed is a loss and
	// must not be papered over by a new one.
	key, err := s.secret("instance.key", true, func() []byte { return seed.New().Reveal() })
	if err != nil {
		return err
	}
	s.Instance = ed25519.NewKeyFromSeed(key)
	clear(key)
	if s.Wrap, err = s.wrapVersion(); err != nil {
		return err
	}
	return s.countBoot()
}

func (s *State) wrapVersion() (uint32, error) {
	text, err := os.ReadFile(filepath.Join(s.Home, "wrap-version"))
	if errors.Is(err, fs.ErrNotExist) {
		return 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("home: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || n == 0 {
		return 0, errors.New("home: wrap-version is damaged; it holds one number from 1")
	}
	return uint32(n), nil
}

// SetWrapVersion makes the number of the shielding key in use durable.
func (s *State) SetWrapVersion(n uint32) error {
	return writeDurable(filepath.Join(s.Home, "wrap-version"), []byte(strconv.FormatUint(uint64(n), 10)+"\n"))
}

// Device gives what this home keeps of a device, sealed as the seed is: what fresh made the
// first time.
func (s *State) Device(name string, fresh func() ([]byte, error)) (b []byte, err error) {
	if b, err = s.sealed(name); !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if b, err = fresh(); err != nil {
		return nil, err
	}
	return b, s.seal(name, b)
}

// secret reads a file of 32 bytes, or makes it.
func (s *State) secret(name string, create bool, fresh func() []byte) ([]byte, error) {
	b, err := s.sealed(name)
	if errors.Is(err, fs.ErrNotExist) && create {
		b = fresh()
		return b, s.seal(name, b)
	}
	if err == nil && len(b) != sha256.Size {
		return nil, fmt.Errorf("home: %s is damaged; restore it", name)
	}
	return b, err
}

func (s *State) seal(name string, b []byte) error {
	return writeDurable(filepath.Join(s.Home, name), []byte(devLabel+"\n"+hex.EncodeToString(b)+"\n"))
}

// sealed reads a file of hex digits under its label.
func (s *State) sealed(name string) ([]byte, error) {
	path := filepath.Join(s.Home, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("home: %s is missing or unreadable; restore it, nothing opens without it: %w", name, err)
	}
	defer clear(text)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("home: %s is readable by others; set its mode to 0600", name)
	}
	rest, labelled := strings.CutPrefix(string(text), devLabel+"\n")
	b, err := hex.DecodeString(strings.TrimSuffix(rest, "\n"))
	if !labelled || err != nil || len(b) == 0 {
		return nil, fmt.Errorf("home: %s is damaged; restore it", name)
	}
	return b, nil
}

func (s *State) countBoot() error {
	path := filepath.Join(s.Home, "boots")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("home: %w", err)
	}
	var n uint64
	if err == nil {
		if n, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 62); err != nil {
			return errors.New("home: boots is damaged; it holds one number")
		}
	}
	s.Boots = n + 1
	return writeDurable(path, []byte(strconv.FormatUint(s.Boots, 10)+"\n"))
}

// writeDurable replaces a file in one step: written beside, fsynced, renamed, the
// directory fsynced.
func writeDurable(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("home: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("home: write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("home: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("home: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// WritePublic replaces a file that others may read, such as the public keys of the
// OIDC issuer, in one step.
func WritePublic(path string, b []byte) error { return writeDurable(path, b) }
