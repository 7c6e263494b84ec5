package blobstore

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"example.org/agentkeys"
)

// Emptied reports what emptying a prefix removed and what it could not. Left
// holds at most one page of keys; when it is not empty somebody keeps writing or
// the store refuses, and that is an alarm.
type Emptied struct {
	Versions int // objects, or their versions in a versioned bucket
	Markers  int // delete markers
	Uploads  int // unfinished multipart uploads
	Left     []string
}

// EmptyPrefix removes everything under <user>/<epoch>/: objects, versions, delete
// markers and unfinished uploads. It is safe to repeat.
func (s *Store) EmptyPrefix(ctx context.Context, user agentkeys.Wallet, epoch agentkeys.Epoch) (Emptied, error) {
	prefix := EpochPrefix(user, epoch)
	own := s.of(user)
	uploads, left, err := s.abortUploads(ctx, own, prefix)
	if err != nil {
		return Emptied{Uploads: uploads}, err
	}
	done, err := own.purge(ctx, prefix)
	done.Uploads = uploads
	done.Left = append(done.Left, left...)
	return done, err
}

// maxPages is how many pages of a prefix one call removes: whoever keeps filling it must
// not keep the caller for ever. What is left then is told, and goes at the next call.
const maxPages = 256

// purge deletes the versions and markers under prefix, page by page, always from
// the front: what is deleted leaves the listing. A page that begins like the one
// before shows that something does not go away.
func (a area) purge(ctx context.Context, prefix string) (Emptied, error) {
	var done Emptied
	var front types.ObjectIdentifier
	for pages := 0; ; pages++ {
		page, err := a.versions(ctx, prefix, marker{})
		if err != nil {
			return done, err
		}
		ids, markers := identify(page)
		if len(ids) == 0 {
			return done, nil
		}
		if same(ids[0], front) || pages == maxPages {
			done.Left = keysOf(ids)
			return done, nil
		}
		front = ids[0]
		if _, err := a.deleteObjects(ctx, ids); err != nil {
			done.Left = keysOf(ids)
			return done, err
		}
		done.Versions += len(ids) - markers
		done.Markers += markers
	}
}

func same(a, b types.ObjectIdentifier) bool {
	return b.Key != nil && *a.Key == *b.Key && aws.ToString(a.VersionId) == aws.ToString(b.VersionId)
}

// marker is where a page of versions begins; the zero marker is the front.
type marker struct{ key, version *string }

func (a area) versions(ctx context.Context, prefix string, from marker) (page *s3.ListObjectVersionsOutput, err error) {
	err = a.run(ctx, func(p aws.CredentialsProvider) error {
		page, err = a.s3.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{
			Bucket: &a.bucket, Prefix: &prefix, MaxKeys: aws.Int32(batch), KeyMarker: from.key, VersionIdMarker: from.version,
		}, with(p))
		return classify("list versions "+prefix, err)
	})
	return page, err
}

// identify gives the entries of a page, versions before delete markers: a marker
// removed first would bring the object under it back for a moment, or for good if
// the caller dies in between.
func identify(page *s3.ListObjectVersionsOutput) (ids []types.ObjectIdentifier, markers int) {
	for _, v := range page.Versions {
		ids = append(ids, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
	}
	for _, m := range page.DeleteMarkers {
		ids = append(ids, types.ObjectIdentifier{Key: m.Key, VersionId: m.VersionId})
	}
	return ids, len(page.DeleteMarkers)
}

func keysOf(ids []types.ObjectIdentifier) []string {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = aws.ToString(id.Key)
	}
	return keys
}

// abortUploads ends unfinished uploads under prefix. S3 cannot restrict their
// listing to a prefix, so it is the custodian's session that lists and the user's
// that aborts. AgentKeys never starts such an upload; junk must not outlive an
// epoch either.
func (s *Store) abortUploads(ctx context.Context, own area, prefix string) (aborted int, left []string, err error) {
	system := s.area(sessionKey{role: RoleCustodian})
	front := ""
	for pages := 0; ; pages++ {
		uploads, err := system.uploads(ctx, prefix)
		if err != nil || len(uploads) == 0 {
			return aborted, nil, err
		}
		if id := aws.ToString(uploads[0].UploadId); id == front || pages == maxPages {
			return aborted, []string{aws.ToString(uploads[0].Key)}, nil
		} else {
			front = id
		}
		for _, u := range uploads {
			if err := own.abort(ctx, u); err != nil {
				return aborted, nil, err
			}
			aborted++
		}
	}
}

func (a area) uploads(ctx context.Context, prefix string) (under []types.MultipartUpload, err error) {
	err = a.run(ctx, func(p aws.CredentialsProvider) error {
		page, err := a.s3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{
			Bucket: &a.bucket, Prefix: &prefix, MaxUploads: aws.Int32(batch),
		}, with(p))
		if err != nil {
			return classify("list uploads "+prefix, err)
		}
		under = under[:0]
		for _, u := range page.Uploads {
			if strings.HasPrefix(aws.ToString(u.Key), prefix) {
				under = append(under, u)
			}
		}
		return nil
	})
	return under, err
}

func (a area) abort(ctx context.Context, u types.MultipartUpload) error {
	return a.run(ctx, func(p aws.CredentialsProvider) error {
		_, err := a.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
			Bucket: &a.bucket, Key: u.Key, UploadId: u.UploadId,
		}, with(p))
		return classify("abort upload "+aws.ToString(u.Key), err)
	})
}
