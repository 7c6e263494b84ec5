package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"example.org/agentkeys/auditor"
)

// verify fetches a bundle, checks it without the network, and checks that the same
// check finds one dropped read record and one altered object hash.
func (d *demo) verify(ctx context.Context) error {
	if err := d.settled(ctx); err != nil {
		return err
	}
	file := d.path("vault.bundle")
	if _, err := d.must(ctx, "", "verify", "--records", "--save", file); err != nil {
		return err
	}
	r, code, err := d.verified(ctx, file)
	if err != nil {
		return err
	}
	d.check(code == 0 && r.OK(), "8 VERIFY", "offline: "+r.Summary(), "")
	b, err := openBundle(file)
	if err != nil {
		return err
	}
	if len(b.Records) < 3 {
		return errors.New("demo: the bundle holds too few read records")
	}
	b.Records = append(b.Records[:1:1], b.Records[2:]...)
	raw, err := b.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.path("dropped.bundle"), raw, 0o600); err != nil {
		return err
	}
	r, code, err = d.verified(ctx, d.path("dropped.bundle"))
	if err != nil {
		return err
	}
	found := "not found"
	if f := r.Check("reads").Findings; len(f) > 0 {
		found = f[0]
	}
	d.check(code == 1 && !r.OK(), "", "one read record dropped from a copy: FOUND: "+found, "this check can fail")
	return nil
}

// settled waits until the read records are committed, so that the bundle has all.
func (d *demo) settled(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(1500 * time.Millisecond):
		return nil
	}
}

func (d *demo) verified(ctx context.Context, file string) (r auditor.Report, code int, err error) {
	out, errOut, code := d.cli(ctx, "", "verify", "--bundle", file, "--json")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return r, code, fmt.Errorf("demo: verify: %w: %s", err, errOut)
	}
	return r, code, nil
}

func openBundle(path string) (*auditor.Bundle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return auditor.Read(f)
}
