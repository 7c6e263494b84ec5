package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"example.org/agentkeys"
	"example.org/agentkeys/attest"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
	"github.com/spf13/cobra"
)

const actFlags = " --node http://127.0.0.1:26657 --chain-id ID --authority-key-file authority.key"

func enclaveCommand() *cobra.Command {
	c := &cobra.Command{Use: "enclave", Short: "Enclave processes that the chain listens to"}
	c.AddCommand(enclaveAllow(), enclaveRegister(), enclaveRevoke())
	return c
}

func parseRole(s string) (statement.EnclaveRole, error) {
	switch s {
	case "custodian":
		return statement.EnclaveCustodian, nil
	case "rotator":
		return statement.EnclaveRotator, nil
	}
	return 0, errors.New("--role: want custodian or rotator")
}

// enclaveAllow puts the measurement of a program on the allow-list.
func enclaveAllow() *cobra.Command {
	var f authorityFlags
	var role string
	var remove bool
	c := &cobra.Command{Use: "allow PROGRAM", Short: "Allow (or with --remove forbid) the software measurement of a program", Args: cobra.ExactArgs(1),
		Example: "  agentkeys-operator enclave allow bin/agentkeys-rotator --role rotator" + actFlags,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := parseRole(role)
			if err != nil {
				return err
			}
			m, err := attest.MeasureFile(args[0])
			if err != nil {
				return err
			}
			if remove {
				return f.act(cmd.Context(), statement.RemoveMeasurement{Role: r, Platform: statement.PlatformSoftware, Measurement: m})
			}
			return f.act(cmd.Context(), statement.AllowMeasurement{Role: r, Platform: statement.PlatformSoftware, Measurement: m})
		}}
	f.add(c)
	c.Flags().StringVar(&role, "role", "", "custodian or rotator")
	c.Flags().BoolVar(&remove, "remove", false, "take it off the list; running processes need enclave revoke too")
	return c
}

// enclaveRegister registers a custodian by its evidence, as /v1/evidence gives it.
func enclaveRegister() *cobra.Command {
	var f authorityFlags
	var key string
	c := &cobra.Command{Use: "register EVIDENCE-FILE", Short: "Register a custodian's key with its evidence", Args: cobra.ExactArgs(1),
		Long:    "Registers a custodian. The file holds the bytes of its evidence; --key is its statement key. Check both against\nthe custodian itself before: this act is what makes the vault believe it.",
		Example: "  agentkeys-operator enclave register evidence.bin --key HEX" + actFlags,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := agentkeys.ParseProcessKey(key)
			if err != nil {
				return fmt.Errorf("--key: %w", err)
			}
			b, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			e, err := attest.Parse(b)
			if err != nil {
				return err
			}
			return f.act(cmd.Context(), statement.RegisterEnclave{Role: statement.EnclaveCustodian, Key: k, Platform: e.Platform,
				Measurement: e.Measurement, Evidence: statement.Hash(b)})
		}}
	f.add(c)
	c.Flags().StringVar(&key, "key", "", "statement key, 64 hex digits")
	return c
}

func enclaveRevoke() *cobra.Command {
	var f authorityFlags
	var role string
	c := &cobra.Command{Use: "revoke KEY", Short: "Make a process's signatures worthless from now on", Args: cobra.ExactArgs(1),
		Example: "  agentkeys-operator enclave revoke HEX --role rotator" + actFlags,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := parseRole(role)
			if err != nil {
				return err
			}
			k, err := agentkeys.ParseProcessKey(args[0])
			if err != nil {
				return fmt.Errorf("key: %w", err)
			}
			return f.act(cmd.Context(), statement.RevokeEnclave{Role: r, Key: k})
		}}
	f.add(c)
	c.Flags().StringVar(&role, "role", "", "custodian or rotator")
	return c
}

func anchorCommand() *cobra.Command {
	c := &cobra.Command{Use: "anchor", Short: "Anchors of the share trees"}
	var kind string
	for _, v := range []struct {
		use, short string
		act        func(id statement.AnchorID) (statement.Body, error)
	}{
		{"add", "Make an anchor known; its custodian's first commit makes it live", func(id statement.AnchorID) (statement.Body, error) {
			t, err := statement.ParseAnchorKind(kind)
			return statement.AddAnchor{Anchor: id, Type: t}, err
		}},
		{"retire", "Take an anchor out of use; what it held is not proven erased", func(id statement.AnchorID) (statement.Body, error) { return statement.RetireAnchor{Anchor: id}, nil }},
		{"evict", "Remove a dead anchor, so that destruction can go on", func(id statement.AnchorID) (statement.Body, error) { return statement.EvictAnchor{Anchor: id}, nil }},
	} {
		var f authorityFlags
		sub := &cobra.Command{Use: v.use + " ID", Short: v.short, Args: cobra.ExactArgs(1),
			Example: "  agentkeys-operator anchor " + v.use + " 00112233445566778899aabbccddeeff" + actFlags,
			RunE: func(cmd *cobra.Command, args []string) error {
				b, err := hex.DecodeString(args[0])
				if err != nil || len(b) != 16 {
					return errors.New("anchor id: want 32 hex digits")
				}
				body, err := v.act(statement.AnchorID(b))
				if err != nil {
					return err
				}
				return f.act(cmd.Context(), body)
			}}
		f.add(sub)
		if v.use == "add" {
			sub.Flags().StringVar(&kind, "kind", "file", "what the custodian's --anchor says: file, tpm, pkcs11 or kms")
		}
		c.AddCommand(sub)
	}
	c.AddCommand(anchorList())
	return c
}

// anchorList shows the rows as the node gives them.
func anchorList() *cobra.Command {
	var node string
	c := &cobra.Command{Use: "list", Short: "List anchors, as the node says, without proof", Args: cobra.NoArgs,
		Example: "  agentkeys-operator anchor list --node http://127.0.0.1:26657",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := ledger.NewNode(node)
			if err != nil {
				return err
			}
			rows, err := anchorRows(cmd.Context(), n)
			for _, a := range rows {
				fmt.Fprintln(cmd.OutOrStdout(), a)
			}
			return err
		}}
	c.Flags().StringVar(&node, "node", "http://127.0.0.1:26657", "RPC address of the node")
	return c
}

// anchorRow is an anchor as the node shows it.
type anchorRow struct {
	id  statement.AnchorID
	row rules.Anchor
}

func (a anchorRow) String() string {
	state := map[rules.AnchorState]string{rules.AnchorJoining: "joining", rules.AnchorLive: "live", rules.AnchorRetired: "retired", rules.AnchorEvicted: "evicted"}[a.row.State]
	return fmt.Sprintf("%x  %-6s  %-8s generation %d  keeper %s", a.id, statement.AnchorKindName(a.row.Type), state, a.row.Generation, a.row.Keeper)
}

func anchorRows(ctx context.Context, n *ledger.Node) (rows []anchorRow, err error) {
	a, err := n.Query(ctx, "/store/vault/key", rules.AnchorsKey(), 0, false)
	if err != nil {
		return nil, err
	}
	list, err := rules.ParseAnchors(a.Value)
	if err != nil {
		return nil, err
	}
	for _, id := range list {
		if a, err = n.Query(ctx, "/store/vault/key", rules.AnchorKey(id), 0, false); err != nil {
			return rows, err
		}
		row, err := rules.ParseAnchor(a.Value)
		if err != nil {
			return rows, err
		}
		rows = append(rows, anchorRow{id, row})
	}
	return rows, nil
}
