package devstack

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"example.org/agentkeys"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// authority sends acts with the stack's authority key until it is closed.
type authority struct {
	sender  *ledger.Sender
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (s *Stack) authority(ctx context.Context) (*authority, error) {
	sender, err := AuthoritySender(s.opt.Dir, s.cfg)
	if err != nil {
		return nil, err
	}
	a := &authority{sender: sender}
	ctx, a.cancel = context.WithCancel(ctx)
	a.running.Go(func() { _ = a.sender.Run(ctx) })
	return a, nil
}

// AuthoritySender sends transactions of a stack's authority account, which is rich and
// otherwise idle while the stack runs.
func AuthoritySender(dir string, c Config) (*ledger.Sender, error) {
	b, err := os.ReadFile(filepath.Join(dir, "keys", "authority.key"))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	key, err := hex.DecodeString(lines[len(lines)-1])
	if err != nil {
		return nil, errors.New("keys/authority.key is damaged")
	}
	signer, err := ledger.NewSigner(agentkeys.NewSecret(key))
	if err != nil {
		return nil, err
	}
	node, err := ledger.NewNode(c.RPC())
	if err != nil {
		return nil, err
	}
	return ledger.NewSender(node, signer, c.ChainID, "uagent"), nil
}

func (a *authority) close() {
	a.cancel()
	a.running.Wait()
}

func (a *authority) send(ctx context.Context, acts ...statement.Body) error {
	var parts [][]byte
	for _, b := range acts {
		parts = append(parts, statement.AppendAct(nil, b))
	}
	_, results, err := a.sender.Send(ctx, ledger.MsgAuthority, parts)
	if err != nil {
		return err
	}
	for _, r := range results {
		if c := rules.Code(r.Code); !c.Done() {
			return fmt.Errorf("act refused: %s: %s", c, r.Reason)
		}
	}
	return nil
}

func newAccount() ([]byte, *ledger.Signer, error) {
	for {
		key := agentkeys.VaultID{}
		if _, err := randRead(key[:]); err != nil {
			return nil, nil, err
		}
		if signer, err := ledger.NewSigner(agentkeys.NewSecret(key[:])); err == nil {
			return key[:], signer, nil
		}
	}
}

// measurements allows the two enclave programs as they lie here, and adds the
// anchors.
func (s *Stack) measurements() ([]statement.Body, error) {
	var acts []statement.Body
	for role, name := range map[statement.EnclaveRole]string{statement.EnclaveCustodian: "agentkeys-custodian", statement.EnclaveRotator: "agentkeys-rotator"} {
		m, err := attest.MeasureFile(s.bins[name])
		if err != nil {
			return nil, err
		}
		acts = append(acts, statement.AllowMeasurement{Role: role, Platform: statement.PlatformSoftware, Measurement: m})
	}
	dirs, err := s.cfg.AnchorDirs("")
	for id := range dirs {
		acts = append(acts, statement.AddAnchor{Anchor: statement.AnchorID(id), Type: statement.AnchorFile})
	}
	for _, more := range s.cfg.More {
		id, kind, err := more.parse()
		if err != nil {
			return nil, err
		}
		acts = append(acts, statement.AddAnchor{Anchor: id, Type: kind})
	}
	return acts, err
}

func (s *Stack) registration() (statement.Body, error) {
	c := s.cfg.Custodian
	key, err := agentkeys.ParseProcessKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("custodian's ready line: key: %w", err)
	}
	ev, err := agentkeys.ParseHash(c.Evidence)
	if err != nil {
		return nil, fmt.Errorf("custodian's ready line: evidence: %w", err)
	}
	m, err := hex.DecodeString(c.Measurement)
	if err != nil || len(m) != 48 {
		return nil, errors.New("custodian's ready line: measurement is not 96 hex digits")
	}
	return statement.RegisterEnclave{Role: statement.EnclaveCustodian, Key: key, Platform: statement.PlatformSoftware,
		Measurement: [48]byte(m), Evidence: ev}, nil
}
