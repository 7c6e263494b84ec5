package blobstore

import (
	"context"
	"errors"
	"net/http"
)

// Courier reads and writes one user's objects with a session that a custodian
// handed out with a job. It cannot delete or list, and it cannot renew: when the
// session ends every call returns [ErrSession]. A missing object may come back as
// [ErrDenied], since S3 tells absence only to those who may list.
type Courier struct {
	area area
}

// NewCourier works on session. Many couriers can share one client; nil is a
// client of its own.
func NewCourier(session Session, client *http.Client) (*Courier, error) {
	if session.Bucket == "" || session.Region == "" || session.AccessKey == "" || session.SessionToken == "" {
		return nil, errors.New("courier session: bucket, region and credentials are needed")
	}
	if client == nil {
		client = newHTTPClient()
	}
	provider := session.credentials()
	return &Courier{area{
		s3:     newS3(session.Endpoint, session.Region, client),
		bucket: session.Bucket,
		run:    func(_ context.Context, op operation) error { return op(provider) },
	}}, nil
}

// NewHTTPClient makes a client that keeps many connections, to be shared by
// couriers.
func NewHTTPClient() *http.Client { return newHTTPClient() }

// Get returns an object, at most maxBytes long.
func (c *Courier) Get(ctx context.Context, key string, maxBytes int64) ([]byte, error) {
	return c.area.get(ctx, key, maxBytes)
}

// Put writes an object that must not exist yet: [ErrExists].
func (c *Courier) Put(ctx context.Context, key string, body []byte) error {
	return c.area.put(ctx, key, body)
}
