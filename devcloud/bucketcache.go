package devcloud

import (
	"errors"
	"os"
	"sync"

	"github.com/versity/versitygw/backend/meta"
)

// bucketCache keeps the attributes of buckets in memory. The gateway reads five of
// them (ACL, policy, CORS, lock, versioning) in every request, and only this
// process writes them. Attributes of objects go straight to the files.
type bucketCache struct {
	meta.MetadataStorer

	mu     sync.RWMutex
	values map[bucketAttribute][]byte // nil: there is none
}

type bucketAttribute struct{ bucket, name string }

func newBucketCache(m meta.MetadataStorer) *bucketCache {
	return &bucketCache{MetadataStorer: m, values: map[bucketAttribute][]byte{}}
}

// RetrieveAttribute reads a bucket's attribute from the file system once.
func (c *bucketCache) RetrieveAttribute(f *os.File, bucket, object, name string) ([]byte, error) {
	if object != "" || f != nil {
		return c.MetadataStorer.RetrieveAttribute(f, bucket, object, name)
	}
	k := bucketAttribute{bucket, name}
	c.mu.RLock()
	v, ok := c.values[k]
	c.mu.RUnlock()
	if ok && v == nil {
		return nil, meta.ErrNoSuchKey
	}
	if ok {
		return v, nil
	}
	// Under the lock, so that a write in between cannot be overwritten by this read.
	c.mu.Lock()
	defer c.mu.Unlock()
	v, err := c.MetadataStorer.RetrieveAttribute(nil, bucket, "", name)
	if err == nil || errors.Is(err, meta.ErrNoSuchKey) {
		c.values[k] = v
	}
	return v, err
}

// StoreAttribute writes through.
func (c *bucketCache) StoreAttribute(f *os.File, bucket, object, name string, value []byte) error {
	if object != "" || f != nil {
		return c.MetadataStorer.StoreAttribute(f, bucket, object, name, value)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.values, bucketAttribute{bucket, name})
	return c.MetadataStorer.StoreAttribute(nil, bucket, "", name, value)
}

// DeleteAttribute writes through.
func (c *bucketCache) DeleteAttribute(bucket, object, name string) error {
	if object != "" {
		return c.MetadataStorer.DeleteAttribute(bucket, object, name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.values, bucketAttribute{bucket, name})
	return c.MetadataStorer.DeleteAttribute(bucket, "", name)
}
