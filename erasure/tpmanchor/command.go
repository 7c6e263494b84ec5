package tpmanchor

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"example.org/agentkeys/erasure"
	"github.com/google/go-tpm/tpm2"
)

// NewAuth makes an auth value of 32 random bytes, none of them zero.
func NewAuth() []byte {
	auth := make([]byte, 32)
	for rand.Read(auth); bytes.IndexByte(auth, 0) >= 0; {
		rand.Read(auth)
	}
	return auth
}

// checkAuth refuses zero bytes: a TPM cuts them off the end of an auth value, and
// go-tpm 0.9.8 cuts at the first one wherever it is, so the two would disagree, or
// agree on a short key.
func checkAuth(auth, owner []byte) error {
	if len(auth) < 16 || len(auth) > 32 {
		return fmt.Errorf("tpm anchor: auth value has %d bytes, want 16 to 32", len(auth))
	}
	if bytes.IndexByte(auth, 0) >= 0 {
		return errors.New("tpm anchor: auth value has a zero byte, which cuts it short: make another")
	}
	if bytes.IndexByte(owner, 0) >= 0 {
		return errors.New("tpm anchor: owner auth has a zero byte, which cuts it short: change it")
	}
	return nil
}

// storageKey is the primary key of the owner hierarchy, which every session's salt is
// encrypted to. It comes out of the TPM's seed the same each time.
type storageKey struct {
	public tpm2.TPMTPublic
	name   []byte
}

// withStorageKey loads the storage key while use runs.
func (a *Anchor) withStorageKey(use func(handle tpm2.TPMHandle, key storageKey) error) (err error) {
	// An owner's password must not cross the bus, so it is proved, in a session
	// without a salt: there is no key to encrypt one to yet.
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(a.owner))},
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(a.tpm)
	if err != nil {
		return err
	}
	defer func() {
		_, flushErr := tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(a.tpm)
		err = errors.Join(err, flushErr)
	}()
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return err
	}
	// The name is the hash of the public area. Computed here: what the TPM says its
	// name is proves nothing.
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return err
	}
	return use(rsp.ObjectHandle, storageKey{*public, name.Buffer})
}

func (a *Anchor) findStorageKey() (key storageKey, err error) {
	err = a.withStorageKey(func(_ tpm2.TPMHandle, found storageKey) error {
		key = found
		return nil
	})
	return key, err
}

// hides is which first parameter a session encrypts.
type hides int

const (
	nothing hides = iota
	sent
	answered
)

// chip is the TPM while the storage key is loaded.
type chip struct {
	*Anchor
	key tpm2.TPMHandle
}

// begin runs one call of the anchor.
func (a *Anchor) begin(use func(c chip) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.withStorageKey(func(handle tpm2.TPMHandle, _ storageKey) error { return use(chip{a, handle}) })
}

// session proves auth, knows that the TPM answers, and hides a parameter. The salt goes
// to the key found at the start: one that was swapped since cannot open it.
func (c chip) session(auth []byte, what hides) tpm2.Session {
	options := []tpm2.AuthOption{tpm2.Auth(auth), tpm2.Salted(c.key, c.salt.public)}
	switch what {
	case sent:
		options = append(options, tpm2.AESEncryption(128, tpm2.EncryptIn))
	case answered:
		options = append(options, tpm2.AESEncryption(128, tpm2.EncryptOut))
	}
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, options...)
}

func (a *Anchor) handle(at int) tpm2.TPMHandle { return a.index + tpm2.TPMHandle(at) }

// public is what an index of ours looks like: read and written with its auth alone,
// in one piece. The owner may remove it and cannot read it. Without NoDA a wrong auth
// would lock out the whole TPM.
func (a *Anchor) public(at int) tpm2.TPMSNVPublic {
	return tpm2.TPMSNVPublic{NVIndex: a.handle(at), NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(slotSize),
		Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, WriteAll: true, NoDA: true, NT: tpm2.TPMNTOrdinary}}
}

// look says whether an index exists and was written, and its name.
func (a *Anchor) look(at int) (s slot, name tpm2.TPM2BName, err error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: a.handle(at)}.Execute(a.tpm)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return s, name, nil
	}
	if err != nil {
		return s, name, fmt.Errorf("tpm anchor: look at index: %w", err)
	}
	got, err := rsp.NVPublic.Contents()
	if err != nil {
		return s, name, fmt.Errorf("tpm anchor: look at index: %w", err)
	}
	s.defined, s.written = true, got.Attributes.Written
	want := a.public(at)
	want.Attributes.Written = s.written
	if string(tpm2.Marshal(want)) != string(tpm2.Marshal(*got)) {
		return s, name, fmt.Errorf("tpm anchor: index %#x is somebody else's: choose another", uint32(a.handle(at)))
	}
	computed, err := tpm2.NVName(got)
	if err != nil {
		return s, name, fmt.Errorf("tpm anchor: look at index: %w", err)
	}
	return s, *computed, nil
}

func (c chip) read() (held slots, err error) {
	for i := range held {
		s, name, err := c.look(i)
		if err == nil && s.written {
			s, err = c.readSlot(i, name)
		}
		if err != nil {
			return held, err
		}
		held[i] = s
	}
	return held, nil
}

func (c chip) readSlot(at int, name tpm2.TPM2BName) (s slot, err error) {
	rsp, err := tpm2.NVRead{
		AuthHandle: tpm2.AuthHandle{Handle: c.handle(at), Name: name, Auth: c.session(c.auth, answered)},
		NVIndex:    tpm2.NamedHandle{Handle: c.handle(at), Name: name},
		Size:       uint16(slotSize),
	}.Execute(c.tpm)
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return s, fmt.Errorf("tpm anchor: index %#x holds a root under another auth value: restore that, or give this anchor an index of its own: %w", uint32(c.handle(at)), err)
	}
	if err != nil {
		return s, fmt.Errorf("tpm anchor: read index: %w", err)
	}
	defer clear(rsp.Data.Buffer)
	s, ok := parseSlot(rsp.Data.Buffer)
	if !ok {
		return s, fmt.Errorf("tpm anchor: index %#x holds no root: evict the anchor", uint32(c.handle(at)))
	}
	return s, nil
}

func (c chip) define(at int) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: c.session(c.owner, sent)},
		Auth:       tpm2.TPM2BAuth{Buffer: c.auth},
		PublicInfo: tpm2.New2B(c.public(at)),
	}.Execute(c.tpm)
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return fmt.Errorf("tpm anchor: define index: the TPM's owner auth is another one: %w", err)
	}
	if err != nil {
		return fmt.Errorf("tpm anchor: define index: %w", err)
	}
	return nil
}

func (c chip) write(at int, root erasure.Root, now time.Time) error {
	_, name, err := c.look(at)
	if err != nil {
		return err
	}
	data := appendSlot(root, now)
	defer clear(data)
	_, err = tpm2.NVWrite{
		AuthHandle: tpm2.AuthHandle{Handle: c.handle(at), Name: name, Auth: c.session(c.auth, sent)},
		NVIndex:    tpm2.NamedHandle{Handle: c.handle(at), Name: name},
		Data:       tpm2.TPM2BMaxNVBuffer{Buffer: data},
	}.Execute(c.tpm)
	if err != nil {
		return fmt.Errorf("tpm anchor: write index: %w", err)
	}
	return nil
}

// undefine forgets what an index holds, for good, and looks whether it is gone.
func (c chip) undefine(at int) error {
	_, name, err := c.look(at)
	if err != nil {
		return err
	}
	// Nothing to hide, but without the salt and with an empty owner auth anything on
	// the bus could answer that it is done.
	_, err = tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: c.session(c.owner, nothing)},
		NVIndex:    tpm2.NamedHandle{Handle: c.handle(at), Name: name},
	}.Execute(c.tpm)
	if err != nil {
		return fmt.Errorf("tpm anchor: undefine index: %w", err)
	}
	if s, _, err := c.look(at); err != nil || s.defined {
		return fmt.Errorf("tpm anchor: index is still there after it was undefined: evict the anchor (%v)", err)
	}
	return nil
}
