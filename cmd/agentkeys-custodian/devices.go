package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"example.org/agentkeys/blobstore"
	"example.org/agentkeys/custodian"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/kmsanchor"
	"example.org/agentkeys/erasure/pkcs11anchor"
	"example.org/agentkeys/erasure/tpmanchor"
	"example.org/agentkeys/internal/service"
	"example.org/agentkeys/statement"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// limitOf is what anchors of a kind do not withstand.
func limitOf(kind uint8) string {
	switch kind {
	case statement.AnchorTPM:
		return (&tpmanchor.Anchor{}).Limit()
	case statement.AnchorPKCS11:
		return (&pkcs11anchor.Anchor{}).Limit()
	case statement.AnchorKMS:
		return (&kmsanchor.Anchor{}).Limit()
	}
	return (&erasure.FileAnchor{}).Limit()
}

// devices is what anchors in hardware and in a cloud need of the process.
type devices struct {
	state  *custodian.State
	store  *blobstore.Store
	region string
}

// open gives the anchors. No device has to answer yet.
func (d devices) open(all anchorFlags) (kept []custodian.KeptAnchor, err error) {
	for _, a := range all {
		var anchor erasure.Anchor
		switch a.kind {
		case statement.AnchorTPM:
			anchor = &late{open: func() (erasure.Anchor, func() error, error) { return d.tpm(a) }}
		case statement.AnchorPKCS11:
			anchor = &late{open: once(func() (erasure.Anchor, error) { return d.pkcs11(a) })}
		case statement.AnchorKMS:
			anchor, err = d.kms(a)
		default:
			anchor = erasure.NewFileAnchor(a.where)
		}
		if err != nil {
			return nil, err
		}
		kept = append(kept, custodian.KeptAnchor{ID: a.id, Kind: a.kind, Anchor: anchor})
	}
	return kept, nil
}

// late is an anchor whose device is opened when it is needed: one that is away must not
// keep the others from being read, and may come back at any time.
type late struct {
	open func() (a erasure.Anchor, done func() error, err error)
}

func (l *late) use(f func(erasure.Anchor) error) error {
	a, done, err := l.open()
	if err != nil {
		return err
	}
	return errors.Join(f(a), done())
}

func (l *late) Roots(ctx context.Context) (roots []erasure.Root, err error) {
	err = l.use(func(a erasure.Anchor) (err error) { roots, err = a.Roots(ctx); return err })
	return roots, err
}

func (l *late) Stage(ctx context.Context, root erasure.Root) error {
	return l.use(func(a erasure.Anchor) error { return a.Stage(ctx, root) })
}

func (l *late) Destroy(ctx context.Context, root erasure.Root) error {
	return l.use(func(a erasure.Anchor) error { return a.Destroy(ctx, root) })
}

// Make is that of the anchor, if it has one.
func (l *late) Make(ctx context.Context) error {
	return l.use(func(a erasure.Anchor) error {
		if m, ok := a.(erasure.Maker); ok {
			return m.Make(ctx)
		}
		return nil
	})
}

// once keeps what could be opened; a library is loaded once in a process.
func once(open func() (erasure.Anchor, error)) func() (erasure.Anchor, func() error, error) {
	var mu sync.Mutex
	var opened erasure.Anchor
	return func() (erasure.Anchor, func() error, error) {
		mu.Lock()
		defer mu.Unlock()
		if opened == nil {
			a, err := open()
			if err != nil {
				return nil, nil, err
			}
			opened = a
		}
		return opened, func() error { return nil }, nil
	}
}

// tpm opens the device for one call: between calls it is nobody's. The auth value of the
// indices is made at the first call, and the storage key that answered then is pinned.
func (d devices) tpm(a anchorFlag) (erasure.Anchor, func() error, error) {
	cfg, err := a.tpm()
	if err != nil {
		return nil, nil, err
	}
	if p := a.options["owner-file"]; p != "" {
		owner, err := service.SecretFile(p)
		if err != nil {
			return nil, nil, fmt.Errorf("tpm anchor: owner auth: %w", err)
		}
		cfg.Owner = []byte(owner)
	}
	tpm, err := openTPM(a.where)
	if err != nil {
		return nil, nil, fmt.Errorf("tpm anchor: %w", err)
	}
	cfg.TPM = tpm
	kept, err := d.state.Device("anchor-"+a.id.String(), func() ([]byte, error) {
		first := cfg
		first.Auth = tpmanchor.NewAuth()
		found, err := tpmanchor.New(first)
		if err != nil {
			return nil, err
		}
		return append(first.Auth, found.StorageKey()...), nil
	})
	if err == nil && len(kept) <= authSize {
		err = fmt.Errorf("tpm anchor: the file anchor-%s in --home is damaged; restore it", a.id)
	}
	if err != nil {
		return nil, nil, errors.Join(err, tpm.Close())
	}
	defer clear(kept)
	cfg.Auth, cfg.StorageKey = kept[:authSize], kept[authSize:]
	anchor, err := tpmanchor.New(cfg)
	if err != nil {
		return nil, nil, errors.Join(err, tpm.Close())
	}
	return anchor, tpm.Close, nil
}

// authSize is what [tpmanchor.NewAuth] makes.
const authSize = 32

// openTPM opens a device of the kernel, or the socket of a TPM in software.
func openTPM(path string) (transport.TPMCloser, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&os.ModeSocket != 0 {
		return linuxudstpm.Open(path)
	}
	return linuxtpm.Open(path)
}

func (d devices) pkcs11(a anchorFlag) (erasure.Anchor, error) {
	return pkcs11anchor.New(pkcs11anchor.Config{Library: a.options["library"], Token: a.options["token"], Dir: a.where, ID: a.id,
		PIN: func() (string, error) { return service.SecretFile(a.options["pin-file"]) }})
}

// kms goes in the custodian's own session: there is no lasting key of the account here.
func (d devices) kms(a anchorFlag) (erasure.Anchor, error) {
	opt := kms.Options{Region: d.region, Credentials: d.store.Credentials()}
	if r := a.options["region"]; r != "" {
		opt.Region = r
	}
	if e := a.options["endpoint"]; e != "" {
		opt.BaseEndpoint = aws.String(e)
	}
	cfg := kmsanchor.Config{Client: kms.New(opt), Dir: a.where, ID: a.id}
	if p := a.options["policy-file"]; p != "" {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("kms anchor: policy: %w", err)
		}
		cfg.Policy = string(b)
	}
	return kmsanchor.New(cfg)
}
