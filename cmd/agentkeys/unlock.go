package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"example.org/agentkeys"
	"github.com/zalando/go-keyring"
)

// Where a wallet's passphrase is: with its owner, in the system's keychain, or in a
// file beside the wallet.
const (
	unlockOwner    = ""
	unlockKeychain = "keychain"
	unlockFile     = "insecure-file"
)

// unlockText says it to people, with what it is worth.
var unlockText = map[string]string{
	unlockOwner:    "your passphrase",
	unlockKeychain: "a passphrase in the system's keychain (while it is unlocked, programs of your user id may get it without a question)",
	unlockFile:     "a passphrase in a FILE beside it: INSECURE, every program of your user id is the owner",
}

// keychainService is the name of the entry; its user is the wallet's address.
const keychainService = "agentkeys wallet"

// passphraseFile is the labelled fallback, mode 0600.
type passphraseFile struct {
	Label      string `json:"label"`
	Passphrase string `json:"passphrase"`
}

const passphraseLabel = "INSECURE: whoever reads this file is the owner of the wallet beside it"

// newPassphrase gets a passphrase for a new wallet: chosen by its owner, or a random
// one kept where init was told.
func (a *app) newPassphrase(w agentkeys.Wallet) (agentkeys.Secret, error) {
	if a.newUnlock == unlockOwner {
		return a.passphrase(chooseTwice)
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	text := hex.EncodeToString(b)
	if a.newUnlock == unlockKeychain {
		if err := keyring.Set(keychainService, w.String(), text); err != nil {
			return agentkeys.Secret{}, fmt.Errorf("keychain: %w; unlock it, or choose a passphrase: agentkeys init", err)
		}
	} else if err := a.writeJSON(passphraseFile{passphraseLabel, text}, "wallet.passphrase"); err != nil {
		return agentkeys.Secret{}, err
	}
	a.pass = agentkeys.NewSecret([]byte(text))
	return a.pass, nil
}

// unlock is where this home's wallet has its passphrase.
func (a *app) unlock() string {
	var f walletFile
	if a.readJSON(&f, "wallet.json") != nil {
		return unlockOwner
	}
	return f.Unlock
}

// stored gives a passphrase that is kept for its owner; ok is false where the owner
// has it.
func (a *app) storedPassphrase() (b []byte, ok bool, err error) {
	var f walletFile
	if err := a.readJSON(&f, "wallet.json"); err != nil {
		return nil, false, nil // no wallet yet: there is nothing to open
	}
	switch f.Unlock {
	case unlockOwner:
		return nil, false, nil
	case unlockKeychain:
		text, err := keyring.Get(keychainService, f.Wallet)
		if err != nil {
			return nil, true, fmt.Errorf("keychain: %w; unlock it and try again", err)
		}
		return []byte(text), true, nil
	case unlockFile:
		var p passphraseFile
		if err := a.readJSON(&p, "wallet.passphrase"); err != nil {
			return nil, true, fmt.Errorf("wallet.passphrase: %w", err)
		}
		return []byte(p.Passphrase), true, nil
	}
	return nil, true, errors.New("wallet: the file is damaged or of a newer version")
}

// passphrase comes from where init put it, from AGENTKEYS_PASSPHRASE_FILE or, through
// ask, from the terminal; never from an argument or an environment variable's value.
func (a *app) passphrase(ask func() ([]byte, error)) (agentkeys.Secret, error) {
	if a.pass.Len() > 0 {
		return a.pass, nil
	}
	b, ok, err := a.storedPassphrase()
	if path := os.Getenv("AGENTKEYS_PASSPHRASE_FILE"); !ok && path != "" {
		if b, err = os.ReadFile(path); err != nil {
			return agentkeys.Secret{}, fmt.Errorf("passphrase: %w; AGENTKEYS_PASSPHRASE_FILE has to name a file with it", err)
		}
		b = bytes.TrimRight(b, "\r\n")
	} else if !ok {
		b, err = ask()
	}
	if err != nil {
		return agentkeys.Secret{}, err
	}
	if len(b) == 0 {
		return agentkeys.Secret{}, errors.New("passphrase: it is empty; choose one")
	}
	a.pass = agentkeys.NewSecret(b)
	return a.pass, nil
}

// askPassphrase says what is asked for: an agent that shares the user id may start a
// command on its owner's terminal.
func (a *app) askPassphrase() ([]byte, error) {
	return askTerminal(a.asked() + "Passphrase of your wallet: ")
}

// asked is the command line as it may be shown on a terminal.
func (a *app) asked() string {
	line := "agentkeys"
	for _, w := range a.typed {
		if q := strconv.QuoteToASCII(w); w == "" || q != `"`+w+`"` || strings.ContainsRune(w, ' ') {
			w = q
		}
		line += " " + w
	}
	if a.over {
		return line + "\nThere is no live session of yours, so it needs your wallet.\n"
	}
	return line + "\n"
}

// chooseTwice asks for a new passphrase twice: a slip in it would lock the wallet for
// good.
func chooseTwice() ([]byte, error) {
	first, err := askTerminal("Choose a passphrase for your wallet: ")
	if err != nil {
		return nil, err
	}
	second, err := askTerminal("The same once more: ")
	defer clear(second)
	if err == nil && !bytes.Equal(first, second) {
		err = usageError{errors.New("passphrase: the two differ; nothing was made, try again")}
	}
	if err != nil {
		clear(first)
		return nil, err
	}
	return first, nil
}
