package blobstore

import (
	"context"
	"fmt"

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
	for _, d := range deleted {
		if aws.ToBool(d.DeleteMarker) || d.VersionId != nil {
			if err := a.deleteVersions(ctx, aws.ToString(d.Key)); err != nil {
				return err
			}
		}
	}
	return nil
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
	return a.deleteVersions(ctx, key)
}

// deleteVersions removes every version and marker of one key.
func (a area) deleteVersions(ctx context.Context, key string) error {
	removed, err := a.purge(ctx, key, func(k string) bool { return k == key })
	if err != nil {
		return err
	}
	if len(removed.Left) > 0 {
		return fmt.Errorf("delete %s: %w: versions remain", key, ErrUnavailable)
	}
	return nil
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
