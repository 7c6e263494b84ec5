package blobstore

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Session is a set of temporary credentials for one bucket. It is a secret until
// Expiry: fmt and slog print only its place and its end; JSON carries it whole,
// because that is how a courier gets it.
type Session struct {
	Endpoint     string    `json:"endpoint"`
	Region       string    `json:"region"`
	Bucket       string    `json:"bucket"`
	AccessKey    string    `json:"access_key"`
	Secret       string    `json:"secret"`
	SessionToken string    `json:"session_token"`
	Expiry       time.Time `json:"expiry"`
}

// String leaves the credentials out.
func (s Session) String() string {
	return fmt.Sprintf("session %s/%s until %s", s.Endpoint, s.Bucket, s.Expiry.UTC().Format(time.RFC3339))
}

// Format leaves the credentials out for every verb.
func (s Session) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue leaves the credentials out.
func (s Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (s Session) credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(s.AccessKey, s.Secret, s.SessionToken)
}
