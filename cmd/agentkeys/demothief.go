package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"example.org/agentkeys"
	"example.org/agentkeys/internal/thief"
)

func (d *demo) thief(ctx context.Context) error {
	vault, err := agentkeys.ParseVaultID(d.cfg.VaultID)
	if err != nil {
		return err
	}
	user, err := d.app().userWallet()
	if err != nil {
		return err
	}
	l := thief.Loot{Vault: vault, Objects: d.rec.Objects()}
	if l.Anchors, err = d.cfg.AnchorDirs(d.path("dev", "anchor")); err != nil {
		return err
	}
	if l.Statements, err = thief.Statements(ctx, d.cfg.RPC()); err != nil {
		return err
	}
	if l.Seed, err = thief.ReadSeed(d.path("dev", "custodian")); err != nil {
		return err
	}
	now, err := l.Open(ctx, user)
	if err != nil {
		return err
	}
	listing, err := d.listing(ctx)
	if err != nil {
		return err
	}
	live := agentkeys.Epoch(activeEpoch(listing))
	d.check(true, "7 THIEF", "every block, every object version ever, today's seed and anchors:", "")
	d.held-- // a heading
	var epochs []agentkeys.Epoch
	for e := range now {
		epochs = append(epochs, e)
	}
	slices.Sort(epochs)
	for _, e := range epochs {
		c := now[e]
		if e == live {
			d.check(c.Open == c.Ever && c.Ever >= 3, "", fmt.Sprintf("epoch %d (live) opens %d of %d", e, c.Open, c.Ever), "<- the honest bound")
		} else {
			d.check(c.Open == 0 && c.Ever > 0, "", fmt.Sprintf("epoch %d (destroyed) opens %d of %d", e, c.Open, c.Ever), "")
		}
	}
	if l.Anchors, err = d.cfg.AnchorDirs(d.path("anchor-copy")); err != nil {
		return err
	}
	before, err := l.Open(ctx, user)
	if err != nil {
		return err
	}
	c := before[1]
	d.check(c.Open == c.Ever && c.Open >= 3, "", fmt.Sprintf("control, a kept copy of the old anchors: epoch 1 opens %d of %d", c.Open, c.Ever), "this test can fail")
	return nil
}

func (d *demo) expose(ctx context.Context) error {
	out, err := d.must(ctx, "", "exposure")
	if err != nil {
		return err
	}
	d.check(strings.Contains(out, "reads 3 credentials"), "9 EXPOSE", strings.ReplaceAll(strings.TrimSpace(out), "\n", "\n         "), "")
	found, err := d.canary()
	if err != nil {
		return err
	}
	d.check(found == "", "", "stored values in any file, log or object of the whole play: none "+found, "")
	return nil
}

// copyAnchors is what somebody who had read the anchors then would have.
func (d *demo) copyAnchors() error {
	from, err := d.cfg.AnchorDirs(d.path("dev", "anchor"))
	if err != nil {
		return err
	}
	to, err := d.cfg.AnchorDirs(d.path("anchor-copy"))
	for id := range from {
		if err == nil {
			err = copyDir(from[id], to[id])
		}
	}
	return err
}

func copyDir(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, f.Name()), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
