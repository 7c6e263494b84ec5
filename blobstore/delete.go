package blobstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// batch is how many objects S3 lists or deletes in one request.
const batch = 1000

// delete removes keys and, in a bucket that keeps versions, everything under them.
// One request is enough in an unversioned bucket: a delete that left a marker or
// named a version says that there is more to remove.
func (a area) delete(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := a.check(key); err != nil {
			return err
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), batch)
		if err := a.deleteBatch(ctx, keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (a area) deleteBatch(ctx context.Context, keys []string) error {
	if len(keys) == 1 {
		return a.deleteOne(ctx, keys[0])
	}
	ids := make([]types.ObjectIdentifier, len(keys))
	for i := range keys {
		ids[i].Key = &keys[i]
	}
	deleted, err := a.deleteObjects(ctx, ids)
	if err != nil {
		return err
	}
	var versioned []string
	for _, d := range deleted {
		if aws.ToBool(d.DeleteMarker) || d.VersionId != nil {
			versioned = append(versioned, aws.ToString(d.Key))
		}
	}
	// A role lists below one prefix at a time.
	for _, p := range a.prefixes {
		if err := a.deleteVersions(ctx, below(p, versioned)); err != nil {
			return err
		}
	}
	return nil
}

func below(prefix string, keys []string) (under []string) {
	for _, k := range keys {
		if strings.HasPrefix(k, prefix) {
			under = append(under, k)
		}
	}
	return under
}

func (a area) deleteOne(ctx context.Context, key string) error {
	versioned := false
	err := a.run(ctx, func(p aws.CredentialsProvider) error {
		out, err := a.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &a.bucket, Key: &key}, with(p))
		if err != nil {
			return classify("delete "+key, err)
		}
		versioned = aws.ToBool(out.DeleteMarker) || aws.ToString(out.VersionId) != ""
		return nil
	})
	if err != nil || !versioned {
		return err
	}
	return a.deleteVersions(ctx, []string{key})
}

// deleteVersions removes every version and marker of keys. It walks the listing
// below their common prefix once: a listing per key would take as many requests as
// there are keys.
func (a area) deleteVersions(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	first, last := slices.Min(keys), slices.Max(keys)
	wanted := make(map[string]bool, len(keys))
	for _, k := range keys {
		wanted[k] = true
	}
	var versions, markers []types.ObjectIdentifier
	for at := (marker{}); ; {
		page, err := a.versions(ctx, commonPrefix(first, last), at)
		if err != nil {
			return err
		}
		ids, n := identify(page)
		for i, id := range ids {
			switch {
			case !wanted[aws.ToString(id.Key)]:
			case i < len(ids)-n:
				versions = append(versions, id)
			default:
				markers = append(markers, id)
			}
		}
		at = marker{page.NextKeyMarker, page.NextVersionIdMarker}
		if !aws.ToBool(page.IsTruncated) || at.key == nil || *at.key > last {
			break
		}
	}
	for chunk := range slices.Chunk(append(versions, markers...), batch) {
		if _, err := a.deleteObjects(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func commonPrefix(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// deleteObjects removes up to 1,000 objects or versions and fails with the first
// refusal.
func (a area) deleteObjects(ctx context.Context, ids []types.ObjectIdentifier) (deleted []types.DeletedObject, err error) {
	err = a.run(ctx, func(p aws.CredentialsProvider) error {
		out, err := a.s3.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: &a.bucket, Delete: &types.Delete{Objects: ids},
		}, with(p))
		if err != nil {
			return classify("delete objects", err)
		}
		deleted = out.Deleted
		for _, e := range out.Errors {
			return refusal(e)
		}
		return nil
	})
	return deleted, err
}

func refusal(e types.Error) error {
	kind := sentinel(aws.ToString(e.Code))
	if kind == nil {
		kind = ErrUnavailable
	}
	return fmt.Errorf("delete %s: %w: %s", aws.ToString(e.Key), kind, aws.ToString(e.Message))
}
