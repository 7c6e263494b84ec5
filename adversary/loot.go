package adversary

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/seed"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

// Loot is everything kept, and every secret of one moment.
type Loot struct {
	Vault      agentkeys.VaultID
	Pieces     []Piece // all but old anchor roots
	OldAnchor  []Piece // copies of the erasable place: outside of the claim, the control
	Messages   []Message
	Blocks     [][]byte // every transaction
	Statements []statement.Signed
	Users      map[agentkeys.Wallet]User         // rows as they stand
	History    map[agentkeys.Wallet][]rules.User // every User row at every height
	Seed       seed.Seed
	Images     []Image
	NoImages   string // why there are none
}

// User is a user's row and pointers.
type User struct {
	rules.User
	Pointers map[agentkeys.Slot]rules.Pointer
}

// Scene says where things are.
type Scene struct {
	Vault      agentkeys.VaultID
	RPC        string
	Home       string         // of the custodian
	Frames     string         // what the operator wrote down
	Processes  map[int]string // whose memory is taken
	S3, STS    string
	Bucket     string
	IssuerURL  string
	Audience   string
	AnchorPath string // the live anchors
}

// Take stops the processes, takes what is there, and lets them go on.
func Take(ctx context.Context, at Scene, rec *Recorder) (*Loot, error) {
	for pid, name := range at.Processes {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return nil, fmt.Errorf("stop %s: %w", name, err)
		}
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	}
	l := &Loot{Vault: at.Vault, Users: map[agentkeys.Wallet]User{}, History: map[agentkeys.Wallet][]rules.User{}}
	if err := l.images(at.Processes); err != nil {
		return nil, err
	}
	rec.Copy()
	if err := l.files(rec.Pieces(), at.AnchorPath); err != nil {
		return nil, err
	}
	var err error
	if l.Seed, err = readSeed(at.Home); err != nil {
		return nil, err
	}
	if l.Messages, err = Messages(at.Frames); err != nil {
		return nil, err
	}
	if err := l.chain(ctx, at.RPC); err != nil {
		return nil, err
	}
	return l, l.liveStore(ctx, at)
}

// files parts old anchor roots from the rest: the roots that the anchor holds now are
// loot, and so is whatever lies beside them.
func (l *Loot) files(all []Piece, anchor string) error {
	held := map[string]bool{}
	now, err := filepath.Glob(filepath.Join(anchor, "*", "root-[ab]"))
	if err != nil || len(now) == 0 {
		return errors.New("anchors: hold no root")
	}
	for _, name := range now {
		if b, err := os.ReadFile(name); err == nil {
			held[string(b)] = true
		}
	}
	for _, p := range all {
		root := path.Base(strings.TrimSuffix(p.Name, ".new"))
		if p.From == "anchor" && (root == "root-a" || root == "root-b") && !held[string(p.Bytes)] {
			l.OldAnchor = append(l.OldAnchor, p)
		} else {
			l.Pieces = append(l.Pieces, p)
		}
	}
	return nil
}

// readSeed reads the master seed of a development custodian, as root can.
func readSeed(home string) (seed.Seed, error) {
	b, err := os.ReadFile(filepath.Join(home, "seed.dev"))
	if err != nil {
		return seed.Seed{}, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	h, err := agentkeys.ParseHash(lines[len(lines)-1])
	return seed.Seed{Secret: agentkeys.NewSecret(h[:])}, err
}

// chain reads every block, and every User row as it was at every height.
func (l *Loot) chain(ctx context.Context, rpc string) error {
	n, err := ledger.NewNode(rpc)
	if err != nil {
		return err
	}
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	for h := uint64(1); h <= st.Height; h++ {
		b, err := n.Block(ctx, h)
		if err != nil {
			return fmt.Errorf("block %d: %w", h, err)
		}
		for _, tx := range b.Txs {
			l.Blocks = append(l.Blocks, tx)
			wires, err := ledger.Statements(tx)
			if err != nil {
				continue // a transaction of the authority
			}
			for _, w := range wires {
				if s, err := statement.Parse(w); err == nil {
					l.Statements = append(l.Statements, s)
				}
			}
		}
	}
	return l.rows(ctx, n, st.Height)
}

func (l *Loot) rows(ctx context.Context, n *ledger.Node, height uint64) error {
	users, more, err := n.Users(ctx, nil, 1000)
	if err != nil || more {
		return fmt.Errorf("users: more than can be listed (%t): %w", more, err)
	}
	for _, w := range users {
		u := User{Pointers: map[agentkeys.Slot]rules.Pointer{}}
		all, err := n.AllUserRows(ctx, w)
		if err != nil {
			return err
		}
		for _, row := range all {
			if bytes.Equal(row.Key, rules.UserKey(w)) {
				u.User, err = rules.ParseUser(row.Value)
			} else if slot, ok := rules.ParsePointerKey(row.Key); ok {
				u.Pointers[slot], err = rules.ParsePointer(row.Value)
			}
			if err != nil {
				return err
			}
		}
		l.Users[w] = u
		if err := l.history(ctx, n, w, height); err != nil {
			return err
		}
	}
	return nil
}

func (l *Loot) history(ctx context.Context, n *ledger.Node, w agentkeys.Wallet, height uint64) error {
	for h := uint64(1); h <= height; h++ {
		a, err := n.Query(ctx, "/store/vault/key", rules.UserKey(w), h, false)
		if err != nil {
			return fmt.Errorf("state at block %d: %w", h, err)
		}
		if a.Code != 0 || len(a.Value) == 0 {
			continue // before the user, or a height that the node does not keep
		}
		u, err := rules.ParseUser(a.Value)
		if err != nil {
			return err
		}
		l.History[w] = append(l.History[w], u)
	}
	return nil
}

// liveStore uses the store credentials that follow from the seed: whatever the store
// still gives, of everyone, is loot too.
func (l *Loot) liveStore(ctx context.Context, at Scene) error {
	key, err := l.Seed.OIDCIssuer(at.Vault)
	if err != nil {
		return err
	}
	issuer := token.Issuer{Key: key, URL: at.IssuerURL, Audience: at.Audience}
	store, err := blobstore.New(blobstore.Config{Endpoint: at.S3, STSEndpoint: at.STS, Region: "us-east-1", Bucket: at.Bucket, Account: "000000000000"}, forged{issuer})
	if err != nil {
		return err
	}
	defer store.Close()
	for _, area := range []string{"tree/", "audit/"} {
		for obj, err := range store.System().List(ctx, area) {
			if err != nil {
				return fmt.Errorf("store: %w", err)
			}
			b, err := store.System().Get(ctx, obj.Key, 64<<20)
			if err != nil {
				return fmt.Errorf("store: %s: %w", obj.Key, err)
			}
			l.add(Piece{"store", obj.Key, b})
		}
	}
	for w := range l.Users {
		for obj, err := range store.List(ctx, w, blobstore.UserPrefix(w)) {
			if err != nil {
				return fmt.Errorf("store: %w", err)
			}
			b, err := store.Get(ctx, w, obj.Key, 1<<20)
			if err != nil {
				return fmt.Errorf("store: %s: %w", obj.Key, err)
			}
			l.add(Piece{"store", obj.Key, b})
		}
	}
	return nil
}

func (l *Loot) add(p Piece) {
	for _, have := range l.Pieces {
		if have.From == p.From && have.Name == p.Name && bytes.Equal(have.Bytes, p.Bytes) {
			return
		}
	}
	l.Pieces = append(l.Pieces, p)
}

// forged mints what the custodian would.
type forged struct{ issuer token.Issuer }

func (f forged) Token(_ context.Context, user agentkeys.Wallet, _ blobstore.Role) (string, error) {
	return f.issuer.Identity(user, time.Now())
}
