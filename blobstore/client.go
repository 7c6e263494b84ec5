package blobstore

import (
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// newHTTPClient keeps enough idle connections for every concurrent request of a
// custodian; the default of two per host would open a new one for nearly every
// read. Credentials never travel through a proxy named in the environment.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   512,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ForceAttemptHTTP2:     false,
		DisableCompression:    true,
	}}
}

// newS3 makes the one client that all sessions share; credentials come with each
// operation. The SDK neither retries (the caller's context and retry rule do) nor
// computes checksums, since every reader checks the ciphertext hash.
func newS3(endpoint, region string, client *http.Client) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint:               endpointOrDefault(endpoint),
		Region:                     region,
		UsePathStyle:               true,
		HTTPClient:                 client,
		Retryer:                    aws.NopRetryer{},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

func newSTS(endpoint, region string, client *http.Client) *sts.Client {
	return sts.New(sts.Options{
		BaseEndpoint: endpointOrDefault(endpoint),
		Region:       region,
		HTTPClient:   client,
		Credentials:  aws.AnonymousCredentials{},
		Retryer:      aws.NopRetryer{},
	})
}

func endpointOrDefault(endpoint string) *string {
	if endpoint == "" {
		return nil
	}
	return &endpoint
}
