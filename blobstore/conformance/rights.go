package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"example.org/agentkeys/blobstore"
)

// verb is one request against a key or, for listings, a prefix.
type verb struct {
	name string
	do   func(context.Context, *s3.Client, *string, string) error
}

var (
	verbGet = verb{"get", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key})
		return err
	}}
	verbHead = verb{"head", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: &key})
		return err
	}}
	verbPut = verb{"put", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader([]byte("x"))})
		return err
	}}
	verbUpload = verb{"start upload", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: &key})
		return err
	}}
	verbDelete = verb{"delete", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: &key})
		return err
	}}
	verbDeleteMany = verb{"delete many", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		out, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{
			Objects: []types.ObjectIdentifier{{Key: &key}},
		}})
		if err == nil && len(out.Errors) > 0 {
			return &smithy.GenericAPIError{Code: aws.ToString(out.Errors[0].Code)}
		}
		return err
	}}
	verbList = verb{"list", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: &key})
		return err
	}}
	verbListOld = verb{"list v1", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.ListObjects(ctx, &s3.ListObjectsInput{Bucket: bucket, Prefix: &key})
		return err
	}}
	verbListVersions = verb{"list versions", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: bucket, Prefix: &key})
		return err
	}}
	verbListUploads = verb{"list uploads", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket, Prefix: &key})
		return err
	}}
	verbTag = verb{"tag", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: bucket, Key: &key, Tagging: &types.Tagging{
			TagSet: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
		}})
		return err
	}}
	verbPolicy = verb{"set bucket policy", func(ctx context.Context, c *s3.Client, bucket *string, _ string) error {
		_, err := c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: bucket, Policy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::*"}]}`)})
		return err
	}}
	verbDeleteBucket = verb{"delete bucket", func(ctx context.Context, c *s3.Client, bucket *string, _ string) error {
		_, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
		return err
	}}

	listings = []verb{verbList, verbListOld, verbListVersions}
	allVerbs = append([]verb{
		verbGet, verbHead, verbPut, verbUpload, verbDelete, verbDeleteMany, verbListUploads, verbTag, verbPolicy, verbDeleteBucket,
	}, listings...)
)

// copyFrom reads a foreign object into an own one.
func copyFrom(source string) verb {
	return verb{"copy", func(ctx context.Context, c *s3.Client, bucket *string, key string) error {
		_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: &key, CopySource: aws.String(*bucket + "/" + source)})
		return err
	}}
}

// refused demands an AccessDenied for every verb on every key. HEAD has no body and
// so no code, only 403.
func refused(t *testing.T, s blobstore.Session, verbs []verb, keys ...string) {
	t.Helper()
	c := raw(s)
	for _, v := range verbs {
		for _, k := range keys {
			err := v.do(t.Context(), c, &s.Bucket, k)
			var api smithy.APIError
			if !errors.As(err, &api) || api.ErrorCode() != "AccessDenied" && api.ErrorCode() != "Forbidden" {
				t.Errorf("%s %s: want refusal, got %v", v.name, k, err)
			}
		}
	}
}

func allowed(t *testing.T, s blobstore.Session, verbs []verb, key string) {
	t.Helper()
	for _, v := range verbs {
		if err := v.do(t.Context(), raw(s), &s.Bucket, key); err != nil {
			t.Errorf("%s %s: %v", v.name, key, err)
		}
	}
}

func usersIsolated(t *testing.T, b *bench) {
	alice, bob := wallet(t), wallet(t)
	theirs := b.fillEpoch(t.Context(), t, bob, 1, 1)[0]
	mine := b.fillEpoch(t.Context(), t, alice, 1, 1)[0]
	s := b.session(t, alice, blobstore.RoleUser)
	allowed(t, s, []verb{verbGet, verbHead, verbPut, verbList, verbListVersions}, mine)
	refused(t, s, allVerbs, theirs, blobstore.UserPrefix(bob)+"junk")
	refused(t, s, listings, "", "0x", blobstore.UserPrefix(bob), bob.String())
	refused(t, s, []verb{copyFrom(theirs)}, mine)
	refused(t, s, []verb{verbListUploads, verbPolicy, verbDeleteBucket, verbTag}, mine)
	// A key that climbs out of the own prefix must not reach a neighbour.
	for _, climb := range []string{blobstore.UserPrefix(alice) + "../" + theirs, blobstore.UserPrefix(alice) + "./../" + theirs} {
		if err := verbGet.do(t.Context(), raw(s), &s.Bucket, climb); err == nil {
			t.Errorf("%s was read", climb)
		}
	}
	if _, err := b.store.Get(t.Context(), alice, theirs, limit); !errors.Is(err, blobstore.ErrKey) {
		t.Errorf("client named a foreign key: %v", err)
	}
	got, err := b.store.Get(t.Context(), bob, theirs, limit)
	must(t, err)
	if string(got) != "object 0" {
		t.Errorf("the neighbour's object became %q", got)
	}
}

func courierRights(t *testing.T, b *bench) {
	user, other := wallet(t), wallet(t)
	theirs := b.fillEpoch(t.Context(), t, other, 1, 1)[0]
	mine := b.fillEpoch(t.Context(), t, user, 1, 1)[0]
	s, err := b.store.CourierSession(t.Context(), user)
	must(t, err)
	refused(t, s, []verb{verbDelete, verbDeleteMany, verbTag, verbListUploads, verbPolicy, verbDeleteBucket}, mine)
	refused(t, s, listings, mine, blobstore.UserPrefix(user), "")
	refused(t, s, allVerbs, theirs, blobstore.TreePrefix+"x", blobstore.AuditPrefix+"x")

	courier, err := blobstore.NewCourier(s, nil)
	must(t, err)
	got, err := courier.Get(t.Context(), mine, limit)
	must(t, err)
	if string(got) != "object 0" {
		t.Errorf("courier read %q", got)
	}
	fresh := key(t, user, 2)
	must(t, courier.Put(t.Context(), fresh, []byte("carried")))
	if err := courier.Put(t.Context(), fresh, []byte("twice")); !errors.Is(err, blobstore.ErrExists) {
		t.Errorf("courier replaced an object: %v", err)
	}
	if _, err := courier.Get(t.Context(), theirs, limit); !errors.Is(err, blobstore.ErrDenied) {
		t.Errorf("courier on a foreign key: %v", err)
	}
}

func custodianRights(t *testing.T, b *bench) {
	user := wallet(t)
	k := b.fillEpoch(t.Context(), t, user, 1, 1)[0]
	s := b.session(t, user, blobstore.RoleCustodian)
	verbs := []verb{verbGet, verbHead, verbPut, verbUpload, verbDelete, verbDeleteMany, verbTag, verbPolicy, verbDeleteBucket}
	refused(t, s, append(verbs, listings...), k, "junk", "treehouse/x")
	refused(t, s, listings, "", blobstore.UserPrefix(user), "tree")
	refused(t, s, []verb{copyFrom(k)}, blobstore.ProbePrefix+"copy")
}

func userOffSystem(t *testing.T, b *bench) {
	user := wallet(t)
	k := blobstore.TreePrefix + user.String()
	must(t, b.store.System().Put(t.Context(), k, []byte("share tree")))
	s := b.session(t, user, blobstore.RoleUser)
	refused(t, s, allVerbs, k, blobstore.AuditPrefix+"x", blobstore.ProbePrefix+"x")
	refused(t, s, listings, blobstore.TreePrefix, blobstore.AuditPrefix, blobstore.ProbePrefix)
	must(t, b.store.System().Delete(t.Context(), k))
}

func strangers(t *testing.T, b *bench) {
	user := wallet(t)
	k := b.fillEpoch(t.Context(), t, user, 1, 1)[0]
	good := b.session(t, user, blobstore.RoleUser)
	for name, p := range map[string]aws.CredentialsProvider{
		"anonymous":     aws.AnonymousCredentials{},
		"wrong secret":  credentials.NewStaticCredentialsProvider(good.AccessKey, "no"+good.Secret, good.SessionToken),
		"without token": credentials.NewStaticCredentialsProvider(good.AccessKey, good.Secret, ""),
		"other token":   credentials.NewStaticCredentialsProvider(good.AccessKey, good.Secret, "no"+good.SessionToken),
		"unknown key":   credentials.NewStaticCredentialsProvider("ASIA0000000000000000", good.Secret, good.SessionToken),
	} {
		c := rawWith(good, p)
		for _, v := range allVerbs {
			if err := v.do(t.Context(), c, &good.Bucket, k); err == nil {
				t.Errorf("%s: %s was allowed", name, v.name)
			}
		}
	}
	for _, path := range []string{"/", "/" + good.Bucket, "/" + good.Bucket + "/" + k, "/" + good.Bucket + "?versions"} {
		if err := unsigned(t.Context(), good.Endpoint+path); err != nil {
			t.Error(err)
		}
	}
}

func unsigned(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 400 {
		return fmt.Errorf("GET %s without a signature: %s", url, resp.Status)
	}
	return nil
}
