package devcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3err"
)

// openBackend opens the object files under dir and makes the bucket.
func openBackend(ctx context.Context, c Config) (*durable, error) {
	objects := filepath.Join(c.Dir, "objects")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	attributes := meta.XattrMeta{}
	if err := attributes.Test(objects); err != nil {
		return nil, fmt.Errorf("data directory: %s has no user extended attributes, choose another file system: %w", c.Dir, err)
	}
	opts := posix.PosixOpts{Concurrency: 256, ForceNoObjLockFile: true}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)
	if c.Versioned {
		opts.VersioningDir = filepath.Join(c.Dir, "versions")
		if err := os.MkdirAll(opts.VersioningDir, 0o700); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
	}
	p, err := posix.New(objects, newBucketCache(attributes), opts)
	if err != nil {
		return nil, fmt.Errorf("object files: %w", err)
	}
	d := newDurable(p, syncPath)
	return d, d.makeBucket(ctx, c)
}

// makeBucket makes the bucket at the first start. Its owner is a name that no
// session has.
func (d *durable) makeBucket(ctx context.Context, c Config) error {
	acl, err := json.Marshal(auth.ACL{Owner: "devcloud"})
	if err != nil {
		return err
	}
	//lint:ignore SA1029 the key is the gateway library's
	owned := context.WithValue(ctx, "bucket-owner", auth.Account{Access: "devcloud"})
	err = d.CreateBucket(owned, &s3.CreateBucketInput{
		Bucket: &c.Bucket, CreateBucketConfiguration: &types.CreateBucketConfiguration{},
	}, acl)
	if errors.Is(err, s3err.GetBucketErr(s3err.ErrBucketAlreadyOwnedByYou, c.Bucket)) {
		err = nil
	}
	if err == nil && c.Versioned {
		err = d.PutBucketVersioning(ctx, c.Bucket, types.BucketVersioningStatusEnabled)
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", c.Bucket, err)
	}
	return errors.Join(syncPath("."), syncPath(c.Bucket))
}

// serveS3 runs the gateway on addr until ctx ends. The root account has random
// credentials that nobody learns: all access goes through roles.
func serveS3(ctx context.Context, be *durable, iam *sessions, addr string, listening func()) error {
	// The gateway cannot be stopped before it listens: it would begin to listen
	// after it returned.
	up := make(chan struct{})
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-up:
			stop()
		case <-serving.Done():
		}
	})()
	return embedgw.RunVersityGW(serving, be, &embedgw.Config{
		RootUserAccess:    "root" + random(16),
		RootUserSecret:    random(32),
		Region:            Region,
		Ports:             []string{addr},
		MaxConnections:    4096,
		MaxRequests:       4096,
		MultipartMaxParts: 10000,
		KeepAlive:         true,
		Quiet:             true,
		DisableACLs:       true,
		IAMService:        iam,
		S3Options: []s3api.Option{s3api.WithOnListen(func() {
			close(up)
			listening()
		})},
	})
}
