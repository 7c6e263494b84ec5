//go:build cgo

package pkcs11anchor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/wrapanchor"
	"github.com/miekg/pkcs11"
)

// token is a PKCS#11 token as wrapanchor sees it. Names are the CKA_ID of a key, in
// hex. Every call has a session of its own, so that a token that was away is no matter.
type token struct {
	mu     sync.Mutex
	lib    *pkcs11.Ctx // nil once closed
	slot   uint
	label  string
	pin    func() (string, error)
	around func(call func() error) error // runs each call that changes or asks the token for a key; tests cut here
}

const ivSize, tagBits = 12, 128

// outside runs calls of C on a goroutine of its own. A caller that is scrubbed
// (agentkeys.Scrubbed) must not make them: the runtime cannot call C in secret mode. So what
// the library and its Go side leave in memory is not erased; a root is cleared by its owner.
func outside(calls func() error) error {
	done := make(chan error, 1)
	go func() { done <- calls() }()
	return <-done
}

func openToken(cfg Config) (keys wrapanchor.Keys, closeToken func() error, err error) {
	err = outside(func() (err error) {
		keys, closeToken, err = load(cfg)
		return err
	})
	return keys, closeToken, err
}

func load(cfg Config) (wrapanchor.Keys, func() error, error) {
	lib := pkcs11.New(cfg.Library)
	if lib == nil {
		return nil, nil, fmt.Errorf("pkcs11 anchor: %s cannot be loaded as a PKCS#11 library", cfg.Library)
	}
	if err := lib.Initialize(); err != nil {
		lib.Destroy()
		return nil, nil, fmt.Errorf("pkcs11 anchor: initialize: %w", err)
	}
	t := &token{lib: lib, label: "agentkeys anchor " + hex.EncodeToString(cfg.ID[:]), pin: cfg.PIN, around: func(call func() error) error { return call() }}
	err := t.find(cfg.Token)
	if err == nil {
		err = t.session(func(pkcs11.SessionHandle) error { return nil })
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("pkcs11 anchor: %w", err), t.close())
	}
	return t, func() error { return outside(t.close) }, nil
}

func (t *token) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lib == nil {
		return nil
	}
	err := t.lib.Finalize()
	t.lib.Destroy()
	t.lib = nil
	return err
}

// find looks for the one token with a label.
func (t *token) find(label string) error {
	slots, err := t.lib.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("list slots: %w", err)
	}
	found := 0
	for _, slot := range slots {
		info, err := t.lib.GetTokenInfo(slot)
		if err != nil {
			return fmt.Errorf("token info: %w", err)
		}
		if strings.TrimRight(info.Label, " \x00") == label {
			t.slot = slot
			found++
		}
	}
	if found != 1 {
		return fmt.Errorf("%d tokens are labelled %q, want one", found, label)
	}
	return nil
}

func (t *token) session(use func(pkcs11.SessionHandle) error) error {
	return outside(func() error { return t.inSession(use) })
}

func (t *token) inSession(use func(pkcs11.SessionHandle) error) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lib == nil {
		return errors.New("token is closed")
	}
	s, err := t.lib.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	// Closing the last session logs out.
	defer func() { err = errors.Join(err, t.lib.CloseSession(s)) }()
	pin, err := t.pin()
	if err != nil {
		return fmt.Errorf("PIN: %w", err)
	}
	if err := t.lib.Login(s, pkcs11.CKU_USER, pin); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return fmt.Errorf("login: %w", err)
	}
	return use(s)
}

// Name chooses the id of a key to be.
func (t *token) Name(context.Context) (string, error) {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:]), nil
}

// Seal lets the token make the key and encrypt the root: iv 12, ciphertext 32, tag 16.
func (t *token) Seal(_ context.Context, name string, root erasure.Root) (blob []byte, err error) {
	err = t.session(func(s pkcs11.SessionHandle) error {
		key, err := t.make(s, name)
		if err != nil {
			return err
		}
		iv := make([]byte, ivSize)
		rand.Read(iv)
		return t.around(func() error {
			params, mechanism := t.gcm(iv, name)
			defer params.Free()
			if err := t.lib.EncryptInit(s, mechanism, key); err != nil {
				return fmt.Errorf("encrypt: %w", err)
			}
			sealed, err := t.lib.Encrypt(s, root[:])
			if err != nil {
				return fmt.Errorf("encrypt: %w", err)
			}
			// A token that chooses its own IV puts it there.
			if used := params.IV(); len(used) == ivSize {
				iv = used
			}
			blob = append(iv, sealed...)
			return nil
		})
	})
	return blob, err
}

func (t *token) gcm(iv []byte, name string) (*pkcs11.GCMParams, []*pkcs11.Mechanism) {
	params := pkcs11.NewGCMParams(iv, []byte(t.label+"|"+name), tagBits)
	return params, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}
}

// make generates a key that never leaves the token, and looks whether it is one.
func (t *token) make(s pkcs11.SessionHandle, name string) (key pkcs11.ObjectHandle, err error) {
	id, err := hex.DecodeString(name)
	if err != nil {
		return 0, err
	}
	err = t.around(func() error {
		key, err = t.lib.GenerateKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_LABEL, t.label),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false), pkcs11.NewAttribute(pkcs11.CKA_DESTROYABLE, true),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, false), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false), pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
		})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("generate key: %w", err)
	}
	return key, t.checkKey(s, key)
}

func (t *token) checkKey(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
	for attribute, want := range map[uint]byte{pkcs11.CKA_ALWAYS_SENSITIVE: 1, pkcs11.CKA_NEVER_EXTRACTABLE: 1, pkcs11.CKA_LOCAL: 1, pkcs11.CKA_EXTRACTABLE: 0} {
		got, err := t.lib.GetAttributeValue(s, key, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
		if err != nil || len(got) != 1 || len(got[0].Value) != 1 || got[0].Value[0] != want {
			return fmt.Errorf("generate key: the token does not promise to keep it in (attribute %#x, %v): use another token", attribute, err)
		}
	}
	return nil
}

// objects gives the keys with a name.
func (t *token) objects(s pkcs11.SessionHandle, name string) ([]pkcs11.ObjectHandle, error) {
	id, err := hex.DecodeString(name)
	if err != nil {
		return nil, err
	}
	if err := t.lib.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_LABEL, t.label)}); err != nil {
		return nil, fmt.Errorf("find key: %w", err)
	}
	found, _, err := t.lib.FindObjects(s, 16)
	if err := errors.Join(err, t.lib.FindObjectsFinal(s)); err != nil {
		return nil, fmt.Errorf("find key: %w", err)
	}
	return found, nil
}

// Open lets the token decrypt.
func (t *token) Open(_ context.Context, name string, blob []byte) (root erasure.Root, err error) {
	if len(blob) < ivSize {
		return root, errors.New("decrypt: ciphertext is too short")
	}
	err = t.session(func(s pkcs11.SessionHandle) error {
		found, err := t.objects(s, name)
		if err == nil && len(found) == 0 {
			return wrapanchor.ErrGone
		}
		if err == nil && len(found) != 1 {
			return fmt.Errorf("find key: %d keys have the id %s", len(found), name)
		}
		if err != nil {
			return err
		}
		return t.around(func() error {
			params, mechanism := t.gcm(blob[:ivSize], name)
			defer params.Free()
			if err := t.lib.DecryptInit(s, mechanism, found[0]); err != nil {
				return fmt.Errorf("decrypt: %w", err)
			}
			plain, err := t.lib.Decrypt(s, blob[ivSize:])
			if err != nil {
				return fmt.Errorf("decrypt: %w", err)
			}
			defer clear(plain)
			if len(plain) != len(root) {
				return errors.New("decrypt: not a root")
			}
			copy(root[:], plain)
			return nil
		})
	})
	return root, err
}

// Destroy destroys every key with the name and looks whether one is left.
func (t *token) Destroy(_ context.Context, name string, _ []byte) error {
	return t.session(func(s pkcs11.SessionHandle) error {
		found, err := t.objects(s, name)
		if err != nil {
			return err
		}
		for _, key := range found {
			if err := t.around(func() error { return t.lib.DestroyObject(s, key) }); err != nil {
				return fmt.Errorf("destroy key: %w", err)
			}
		}
		left, err := t.objects(s, name)
		if err == nil && len(left) != 0 {
			return errors.New("destroy key: it is still there: evict the anchor")
		}
		return err
	})
}
