package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/auditor"
	"example.org/agentkeys/client"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/seed"
	"github.com/spf13/cobra"
)

// verifyFlags are the files that verify reads and writes.
type verifyFlags struct {
	bundle, save, viewing, giveViewing string
	login                              bool
}

func verifyCommand(a *app) *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{Use: "verify", Short: "Check the whole vault from its first block, and say what that proves and what not", Args: exactly(0, "no arguments"),
		Long: `Fetches every block and a proof of every row from the profile's node, then checks them without the network:
headers by the light rules from the header that the profile trusts, every statement by applying it again, every
row byte for byte. With --bundle it reads a saved file and asks nobody. The exit code is 1 when anything does
not hold. Read records are included while you are logged in, or with --records.`,
		Example: "  agentkeys verify --save vault.bundle\n  agentkeys verify --bundle vault.bundle --viewing-key alice.key --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.bundle != "" && (f.save != "" || f.login) {
				return usageError{errors.New("--bundle reads a saved file; --save and --records are for fetching")}
			}
			if f.giveViewing != "" {
				return a.giveViewingKey(cmd.Context(), f.giveViewing)
			}
			return a.verify(cmd.Context(), f)
		}}
	c.Flags().StringVar(&f.bundle, "bundle", "", "check this file instead of asking the node")
	c.Flags().StringVar(&f.save, "save", "", "keep what was fetched in this file")
	c.Flags().StringVar(&f.viewing, "viewing-key", "", "name services by the viewing key in this file")
	c.Flags().StringVar(&f.giveViewing, "write-viewing-key", "", "write your viewing key to this file, for an auditor, and stop; it cannot be withdrawn")
	c.Flags().BoolVar(&f.login, "records", false, "log in for your read records if you are not")
	return c
}

func (a *app) verify(ctx context.Context, f verifyFlags) error {
	p, err := a.loadProfile()
	if err != nil {
		return err
	}
	trust, err := a.trust(p)
	if err != nil {
		return err
	}
	var viewing []auditor.Viewing
	if f.viewing != "" {
		k, err := readViewingKey(f.viewing)
		if err != nil {
			return err
		}
		defer k.Key.Wipe()
		viewing = append(viewing, k)
	}
	b, err := a.bundle(ctx, p, trust, f)
	if err != nil {
		return err
	}
	trust.Now = time.Now()
	r := auditor.Verify(b, trust, viewing...)
	if err := a.data(r, func(w io.Writer) { printReport(w, r) }); err != nil {
		return err
	}
	if err := a.keepForks(r); err != nil {
		return err
	}
	if !r.OK() {
		return exitCode(exitError)
	}
	return a.keepSeen(r)
}

// bundle reads the file, or fetches and keeps it.
func (a *app) bundle(ctx context.Context, p profile, t auditor.Trust, f verifyFlags) (*auditor.Bundle, error) {
	if f.bundle != "" {
		file, err := os.Open(f.bundle)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return auditor.Read(file)
	}
	node, err := ledger.NewNode(p.Node)
	if err != nil {
		return nil, err
	}
	b, err := auditor.Fetch(ctx, node, t.ChainID, t.Vault, a.progress())
	if err != nil {
		return nil, err
	}
	if err := a.addRecords(ctx, b, f.login); err != nil {
		return nil, err
	}
	if f.save == "" {
		return b, nil
	}
	raw, err := b.Encode()
	if err != nil {
		return nil, err
	}
	return b, replaceFile(f.save, raw)
}

// replaceFile writes a file whole or not at all, readable by its owner alone: a
// bundle says who used what.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// progress says how far the fetching is, once a second and not in the first.
func (a *app) progress() auditor.Progress {
	last := time.Now()
	return func(what string, done, of int) {
		if time.Since(last) > time.Second {
			last = time.Now()
			fmt.Fprintf(a.err, "fetching %s: %d of %d\n", what, done, of)
		}
	}
}

// addRecords brings the owner's read records. Without a session there are none: an
// auditor has no wallet here.
func (a *app) addRecords(ctx context.Context, b *auditor.Bundle, login bool) error {
	cl, err := a.session(ctx, login)
	if err != nil || cl == nil {
		return err
	}
	var records [][]byte
	err = eachRead(ctx, cl, func(r readRecord) { records = append(records, r.Append(nil)) })
	b.AddRecords(records)
	return err
}

// session is the owner's, nil when there is none alive and login is false.
func (a *app) session(ctx context.Context, login bool) (*client.Client, error) {
	if login {
		return a.owner(ctx)
	}
	if insideRun() != "" {
		return nil, nil
	}
	cl, _, err := a.dial()
	if err != nil {
		return nil, err
	}
	var s client.State
	if a.readJSON(&s, "sessions", a.profileName+".json") != nil || cl.Resume(s) != nil {
		return nil, nil
	}
	if _, err := cl.WhoAmI(ctx); err != nil {
		fmt.Fprintln(a.err, "without read records: your session has ended; for them: agentkeys verify --records")
		return nil, nil
	}
	return cl, nil
}

// trust is what the profile and earlier runs know.
func (a *app) trust(p profile) (t auditor.Trust, err error) {
	t = auditor.Trust{ChainID: p.ChainID}
	if t.Vault, err = agentkeys.ParseVaultID(p.VaultID); err != nil {
		return t, fmt.Errorf("profile %s: vault id: %w", a.profileName, err)
	}
	if t.Header.Hash, err = agentkeys.ParseHash(p.Hash); err != nil {
		return t, fmt.Errorf("profile %s: trusted hash: %w", a.profileName, err)
	}
	t.Header.Height = p.Height
	var s seenHeader
	if err := a.readJSON(&s, "seen", a.profileName+".json"); err == nil {
		seen, err := s.parse("your last verify")
		if err != nil {
			return t, err
		}
		if s.ChainID == p.ChainID {
			t.Seen = append(t.Seen, seen)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return t, err
	}
	if p.Dev == "" {
		return t, nil
	}
	seen, err := custodianSeen(filepath.Join(p.Dev, "custodian", "ledger.json"))
	if err == nil {
		t.Seen = append(t.Seen, seen)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return t, err
}

// seenHeader is the newest header that verify found good, kept for the next time.
type seenHeader struct {
	ChainID string `json:"chain_id"`
	Height  uint64 `json:"height"`
	Hash    string `json:"hash"`
}

func (s seenHeader) parse(source string) (auditor.Seen, error) {
	h, err := agentkeys.ParseHash(s.Hash)
	if err != nil {
		return auditor.Seen{}, fmt.Errorf("seen header of %s: %w", source, err)
	}
	return auditor.Seen{Height: s.Height, Hash: h, Source: source}, nil
}

// custodianSeen is the newest header that the development custodian verified.
func custodianSeen(path string) (auditor.Seen, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return auditor.Seen{}, err
	}
	var s struct {
		Block struct {
			Header ledger.Header `json:"header"`
		} `json:"block"`
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return auditor.Seen{}, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return auditor.Seen{Height: s.Block.Header.Height, Hash: s.Block.Header.Hash(), Source: "the custodian"}, nil
}

// keepSeen never goes back to a lower height: an old bundle is no news.
func (a *app) keepSeen(r *auditor.Report) error {
	var old seenHeader
	if err := a.readJSON(&old, "seen", a.profileName+".json"); err == nil && old.ChainID == r.ChainID && old.Height >= r.Height {
		return nil
	}
	return a.writeJSON(seenHeader{r.ChainID, r.Height, r.Hash}, "seen", a.profileName+".json")
}

// keepForks writes the evidence of each fork.
func (a *app) keepForks(r *auditor.Report) error {
	for _, f := range r.Forks {
		name := fmt.Sprintf("%s-%d-%s.json", a.profileName, f.Height, f.Hash.String()[:16])
		if err := a.writeJSON(f, "forks", name); err != nil {
			return err
		}
		fmt.Fprintln(a.err, "evidence of a fork: "+a.path("forks", name)+"; ask other nodes for their header")
	}
	return nil
}

// A viewing key file is "<user> <64 hex digits>".
func readViewingKey(path string) (v auditor.Viewing, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return v, err
	}
	defer clear(b)
	words := strings.Fields(string(b))
	bad := fmt.Errorf("viewing key: %s must hold the user's address and 64 hex digits; its owner makes one: agentkeys verify --write-viewing-key FILE", path)
	if len(words) != 2 {
		return v, bad
	}
	key, err := hex.DecodeString(words[1])
	if err != nil || len(key) != 32 {
		return v, bad
	}
	if v.User, err = agentkeys.ParseWallet(words[0]); err != nil {
		return v, bad
	}
	v.Key = seed.TagKey{Secret: agentkeys.NewSecret(key)}
	return v, nil
}

func (a *app) giveViewingKey(ctx context.Context, path string) error {
	cl, err := a.owner(ctx)
	if err != nil {
		return err
	}
	k, err := cl.TagKey(ctx)
	if err != nil {
		return err
	}
	defer k.Wipe()
	text := append(hex.AppendEncode([]byte(cl.User().String()+" "), k.Reveal()), '\n')
	defer clear(text)
	if err := replaceFile(path, text); err != nil {
		return err
	}
	fmt.Fprintln(a.err, "Whoever has this file reads the names of your services, also later ones. It cannot be withdrawn.")
	return nil
}
