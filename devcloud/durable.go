package devcloud

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// durable is the posix backend with the promise that S3 makes and posix does not:
// what was acknowledged survives a power cut. It owns the object files; they are
// flushed after they are linked and before the answer. Paths are relative to the
// working directory, as in posix.
type durable struct {
	*posix.Posix
	flush func(path string) error
	dirs  *dirSyncer
	known *knownDirs
}

var _ backend.Backend = (*durable)(nil)

func newDurable(p *posix.Posix, flush func(path string) error) *durable {
	return &durable{p, flush, newDirSyncer(flush), newKnownDirs()}
}

// PutObject acknowledges a durable object. A refused conditional write flushes the
// object that was in its way: whoever is told "exists" may go on to rely on it.
func (d *durable) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	out, err := d.Posix.PutObject(ctx, in)
	if err == nil || errors.Is(err, s3err.GetAPIError(s3err.ErrPreconditionFailed)) {
		if syncErr := d.written(*in.Bucket, *in.Key); syncErr != nil {
			return s3response.PutObjectOutput{}, syncErr
		}
	}
	return out, err
}

// CopyObject acknowledges a durable copy.
func (d *durable) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	out, err := d.Posix.CopyObject(ctx, in)
	if err == nil {
		err = d.written(*in.Bucket, *in.Key)
	}
	return out, err
}

// CompleteMultipartUpload acknowledges a durable object.
func (d *durable) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	out, version, err := d.Posix.CompleteMultipartUpload(ctx, in)
	if err == nil {
		err = d.written(*in.Bucket, *in.Key)
	}
	return out, version, err
}

// DeleteObject acknowledges a durable removal.
func (d *durable) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	path := filepath.Join(*in.Bucket, *in.Key)
	end := d.known.deleting(*in.Bucket, []string{path})
	out, err := d.Posix.DeleteObject(ctx, in)
	end()
	if err != nil {
		return out, err
	}
	return out, d.removed(*in.Bucket, []string{path})
}

// DeleteObjects acknowledges durable removals.
func (d *durable) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	paths := make([]string, len(in.Delete.Objects))
	for i, o := range in.Delete.Objects {
		paths[i] = filepath.Join(*in.Bucket, *o.Key)
	}
	end := d.known.deleting(*in.Bucket, paths)
	out, err := d.Posix.DeleteObjects(ctx, in)
	end()
	if err != nil {
		return out, err
	}
	return out, d.removed(*in.Bucket, paths)
}

// written flushes an object, its entry, and the entries of directories that may be
// new above it.
func (d *durable) written(bucket, key string) error {
	path := filepath.Join(bucket, key)
	if err := d.flush(path); err != nil && !gone(err) {
		return err
	}
	if err := d.dirs.sync(filepath.Dir(path)); err != nil && !gone(err) {
		return err
	}
	dirs, stamp := d.known.unknown(bucket, path)
	for _, dir := range dirs {
		if err := d.dirs.sync(filepath.Dir(dir)); gone(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	d.known.settle(dirs, stamp)
	return nil
}

// removed flushes, for every path, the nearest directory above it that still stands.
func (d *durable) removed(bucket string, paths []string) error {
	seen := map[string]bool{}
	for _, p := range paths {
		for dir := filepath.Dir(p); !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			err := d.dirs.sync(dir)
			if err == nil {
				break
			}
			if !gone(err) || dir == bucket {
				return err
			}
		}
	}
	return nil
}
