// Package devstack runs the development stack: node, object store, custodian,
// operator (and it the rotator) as real processes under one supervisor. Software
// attestation and file anchors protect from nobody with root; see [Limit]. Start
// at [Open] and [Stack.Run].
package devstack

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/statement"
)

// Limit is what the development stack does not protect from; it is shown wherever
// the stack is.
const Limit = "1 validator, S3 on loopback, software attestation, file anchors. No protection from root, nor from programs of your user id"

// Config is dev.json: chosen once, so that profiles and pins stay true over
// restarts. The stack owns it; it is written by rename.
type Config struct {
	VaultID   string    `json:"vault_id"`
	ChainID   string    `json:"chain_id"`
	Anchors   [2]string `json:"anchors"`          // ids, hex; either may die and everything still reads
	Anchor    string    `json:"anchor,omitempty"` // the one anchor of a state from before there were two
	More      []More    `json:"more_anchors,omitempty"`
	Authority string    `json:"authority"`
	Relayer   string    `json:"relayer"`
	Ports     Ports     `json:"ports"`
	Trust     Trust     `json:"trust"`
	Custodian Custodian `json:"custodian"`
	NoSandbox bool      `json:"no_sandbox,omitempty"` // of the rotator, as the last start wanted it
}

// Open says why the rotator's sandbox is open, "" when it is not.
func (c Config) Open() string {
	switch {
	case runtime.GOOS != "linux":
		return "the rotator runs without a sandbox: this system has none"
	case c.NoSandbox:
		return "the rotator runs without its sandbox, by --no-sandbox; start again without that to have it"
	}
	return ""
}

// Ports on the loopback address.
type Ports struct {
	RPC, S3, STS, API, Operator, Relay int
}

// Trust is the header that everything is verified from, read once from the stack's
// own node at its first start.
type Trust struct {
	Height uint64 `json:"height"`
	Hash   string `json:"hash"`
}

// Custodian is what the custodian said of itself when it was last ready.
type Custodian struct {
	Pin         string `json:"pin"`
	Key         string `json:"key"`
	Evidence    string `json:"evidence"`
	Measurement string `json:"measurement"`
}

// Names inside the store.
const (
	bucket   = "agentkeys-vault-dev"
	issuer   = "http://agentkeys.invalid/oidc"
	audience = "agentkeys-vault"
	region   = "us-east-1"
)

// ReadConfig reads dev.json of a directory.
func ReadConfig(dir string) (c Config, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "dev.json"))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s/dev.json is damaged: %w; restore it or start anew: agentkeys dev reset", dir, err)
	}
	return c, nil
}

// AnchorDirs are the ids of the stack's file anchors with their directories below dir,
// which is the stack's own or a copy of its "anchor".
func (c Config) AnchorDirs(anchorDir string) (map[erasure.AnchorID]string, error) {
	ids := c.Anchors[:]
	if c.Anchor != "" {
		ids = []string{c.Anchor}
	}
	out := map[erasure.AnchorID]string{}
	for i, id := range ids {
		b, err := hex.DecodeString(id)
		if err != nil || len(b) != len(erasure.AnchorID{}) {
			return nil, errors.New("dev.json: an anchor's id is damaged")
		}
		out[erasure.AnchorID(b)] = filepath.Join(anchorDir, strconv.Itoa(i+1))
		if c.Anchor != "" {
			out[erasure.AnchorID(b)] = anchorDir
		}
	}
	return out, nil
}

// More is an anchor beside the stack's own files.
type More struct {
	ID    string `json:"id"`
	Place string `json:"place"` // KIND:PLACE
}

func (m More) parse() (id statement.AnchorID, kind uint8, err error) {
	b, err := hex.DecodeString(m.ID)
	if err != nil || len(b) != len(id) {
		return id, 0, errors.New("dev.json: an anchor's id is damaged")
	}
	name, _, _ := strings.Cut(m.Place, ":")
	kind, err = statement.ParseAnchorKind(name)
	return statement.AnchorID(b), kind, err
}

// addAnchors gives an id to each place that has none yet.
func (c *Config) addAnchors(places []string) error {
	for _, place := range places {
		if slices.ContainsFunc(c.More, func(m More) bool { return m.Place == place }) {
			continue
		}
		m := More{newAnchorID(), place}
		if _, _, err := m.parse(); err != nil {
			return fmt.Errorf("--anchor %s: %w", place, err)
		}
		// One that is away later is waited for; one that never was there is a slip of the pen.
		if path, ok := strings.CutPrefix(place, "tpm:"); ok {
			path, _, _ = strings.Cut(path, "?")
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("--anchor %s: %w; want the device of a TPM 2.0, such as /dev/tpmrm0", place, err)
			}
		}
		c.More = append(c.More, m)
	}
	return nil
}

func newAnchorID() string {
	var id statement.AnchorID
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// Vault is the parsed vault id.
func (c Config) Vault() (agentkeys.VaultID, error) { return agentkeys.ParseVaultID(c.VaultID) }

// RPC is the node's address.
func (c Config) RPC() string { return url("http", c.Ports.RPC) }

// API is the custodian's address for clients.
func (c Config) API() string { return url("https", c.Ports.API) }

// Relay is the operator's address.
func (c Config) Relay() string { return url("http", c.Ports.Relay) }

// CustodianForOperator is the custodian's address for the operator.
func (c Config) CustodianForOperator() string { return url("http", c.Ports.Operator) }

// await waits for the ports to be free: those of a stack that was killed are, once
// its processes have noticed.
func (p Ports) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, portsWithin)
	defer cancel()
	for _, port := range []int{p.RPC, p.S3, p.STS, p.API, p.Operator, p.Relay} {
		for {
			l, err := net.Listen("tcp", addr(port))
			if err == nil {
				l.Close()
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("dev: port %d is in use; stop what listens on %s, or choose another in dev.json and run dev start again: %w", port, addr(port), err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

const portsWithin = 10 * time.Second

func url(scheme string, port int) string { return scheme + "://" + addr(port) }
func addr(port int) string               { return fmt.Sprintf("127.0.0.1:%d", port) }

func newConfig() (c Config, err error) {
	var vault agentkeys.VaultID
	rand.Read(vault[:])
	c.VaultID = vault.String()
	for i := range c.Anchors {
		c.Anchors[i] = newAnchorID()
	}
	c.ChainID = "agentkeys-dev-" + c.VaultID[:8]
	ports, err := freePorts(6)
	if err != nil {
		return c, err
	}
	c.Ports = Ports{ports[0], ports[1], ports[2], ports[3], ports[4], ports[5]}
	return c, nil
}

// freePorts asks the system for ports; all are held until the last is known, so
// they differ.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("ports: %w", err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// save replaces dev.json in one step.
func (c Config) save(dir string) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "dev.json"), append(b, '\n'))
}

func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
