package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Object is one row of a listing.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
}

type (
	operation func(aws.CredentialsProvider) error
	runner    func(context.Context, operation) error
)

// area is the part of the bucket that one session may touch. Keys outside its
// prefixes are refused here as well as by the store.
type area struct {
	s3       *s3.Client
	bucket   string
	prefixes []string // empty: the store alone decides
	lists    bool     // the role may list, so a refusal can be told from absence
	run      runner
}

func (a area) check(key string) error {
	if len(a.prefixes) == 0 {
		return nil
	}
	for _, p := range a.prefixes {
		if len(key) >= len(p) && strings.HasPrefix(key, p) {
			return nil
		}
	}
	return fmt.Errorf("%w: %q", ErrKey, key)
}

// with binds one operation of the shared client to a session.
func with(p aws.CredentialsProvider) func(*s3.Options) {
	return func(o *s3.Options) { o.Credentials = p }
}

func (a area) get(ctx context.Context, key string, maxBytes int64) (body []byte, err error) {
	if err := a.check(key); err != nil {
		return nil, err
	}
	err = a.run(ctx, func(p aws.CredentialsProvider) error {
		out, err := a.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &a.bucket, Key: &key}, with(p))
		if err != nil {
			return classify("get "+key, err)
		}
		defer out.Body.Close()
		body, err = readBody(out.Body, aws.ToInt64(out.ContentLength), maxBytes)
		if err != nil && !errors.Is(err, ErrTooLarge) {
			return classify("get "+key, err)
		}
		return err
	})
	if errors.Is(err, ErrDenied) && a.lists {
		err = a.deniedOrAbsent(ctx, key, err)
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// readBody reads exactly the announced length. A shorter body is an outage, never
// a short object.
func readBody(r io.Reader, length, maxBytes int64) ([]byte, error) {
	if length > maxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, length, maxBytes)
	}
	if length < 0 {
		return nil, errors.New("no content length")
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	return body, err
}

// deniedOrAbsent asks the listing, because S3 answers 403 for a missing key to
// whoever may list only below a prefix.
func (a area) deniedOrAbsent(ctx context.Context, key string, denied error) error {
	for o, err := range a.list(ctx, key) {
		if err != nil || o.Key == key {
			return denied
		}
	}
	return fmt.Errorf("get %s: %w", key, ErrNotFound)
}

func (a area) put(ctx context.Context, key string, body []byte) error {
	if err := a.check(key); err != nil {
		return err
	}
	return a.run(ctx, func(p aws.CredentialsProvider) error {
		_, err := a.s3.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &a.bucket, Key: &key,
			Body:          bytes.NewReader(body),
			ContentLength: aws.Int64(int64(len(body))),
			IfNoneMatch:   aws.String("*"),
		}, with(p))
		return classify("put "+key, err)
	})
}

func (a area) list(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := a.check(prefix); err != nil {
			yield(Object{}, err)
			return
		}
		var token *string
		for {
			page, err := a.page(ctx, prefix, token)
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, o := range page.Contents {
				row := Object{aws.ToString(o.Key), aws.ToInt64(o.Size), aws.ToTime(o.LastModified)}
				if !yield(row, nil) {
					return
				}
			}
			if token = page.NextContinuationToken; token == nil || !aws.ToBool(page.IsTruncated) {
				return
			}
		}
	}
}

func (a area) page(ctx context.Context, prefix string, token *string) (page *s3.ListObjectsV2Output, err error) {
	err = a.run(ctx, func(p aws.CredentialsProvider) error {
		page, err = a.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
			Bucket: &a.bucket, Prefix: &prefix, ContinuationToken: token, MaxKeys: aws.Int32(batch),
		}, with(p))
		return classify("list "+prefix, err)
	})
	return page, err
}
