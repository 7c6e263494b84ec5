package conformance

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/golang-jwt/jwt/v5"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
)

func (b *bench) assume(ctx context.Context, role blobstore.Role, token string) (blobstore.Session, error) {
	c := sts.New(sts.Options{
		BaseEndpoint: aws.String(b.Config.STSEndpoint), Region: b.Config.Region,
		Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{},
	})
	out, err := c.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(role.ARN(b.Config.Account)), RoleSessionName: aws.String("conformance"), WebIdentityToken: &token,
	})
	if err != nil {
		return blobstore.Session{}, err
	}
	return blobstore.Session{
		Endpoint: b.Config.Endpoint, Region: b.Config.Region, Bucket: b.Config.Bucket,
		AccessKey: *out.Credentials.AccessKeyId, Secret: *out.Credentials.SecretAccessKey,
		SessionToken: *out.Credentials.SessionToken, Expiry: *out.Credentials.Expiration,
	}, nil
}

// tokens spoils one claim at a time of a token that is accepted unspoilt.
func tokens(t *testing.T, b *bench) {
	user := wallet(t)
	twin, err := NewIssuer(b.Issuer.URL, b.Issuer.Audience, b.Issuer.kid)
	must(t, err)
	unknown, err := NewIssuer(b.Issuer.URL, b.Issuer.Audience, "nobody")
	must(t, err)
	tag := func(wallets ...string) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c[blobstore.TagsClaim] = Tags(wallets...) }
	}
	set := func(k string, v any) func(jwt.MapClaims) { return func(c jwt.MapClaims) { c[k] = v } }
	drop := func(k string) func(jwt.MapClaims) { return func(c jwt.MapClaims) { delete(c, k) } }
	wildcard := "0x????????????????????????????????????????"
	star := "0x" + "****************************************"
	for _, test := range []struct {
		name   string
		role   blobstore.Role
		signer *Issuer
		spoil  func(jwt.MapClaims)
	}{
		{"expired", blobstore.RoleUser, b.Issuer, set("exp", time.Now().Add(-time.Minute).Unix())},
		{"without expiry", blobstore.RoleUser, b.Issuer, drop("exp")},
		{"not yet valid", blobstore.RoleUser, b.Issuer, set("nbf", time.Now().Add(time.Hour).Unix())},
		{"foreign issuer", blobstore.RoleUser, b.Issuer, set("iss", "https://elsewhere.test")},
		{"foreign audience", blobstore.RoleUser, b.Issuer, set("aud", "elsewhere")},
		{"two audiences", blobstore.RoleUser, b.Issuer, set("aud", []string{b.Issuer.Audience, "elsewhere"})},
		{"foreign key, same id", blobstore.RoleUser, twin, nil},
		{"unknown key", blobstore.RoleUser, unknown, nil},
		{"without tags", blobstore.RoleUser, b.Issuer, drop(blobstore.TagsClaim)},
		{"courier without tags", blobstore.RoleCourier, b.Issuer, drop(blobstore.TagsClaim)},
		{"empty tag", blobstore.RoleUser, b.Issuer, tag("")},
		{"star", blobstore.RoleUser, b.Issuer, tag("*")},
		{"stars of a wallet's length", blobstore.RoleUser, b.Issuer, tag(star)},
		{"question marks", blobstore.RoleUser, b.Issuer, tag(wildcard)},
		{"variable", blobstore.RoleUser, b.Issuer, tag("${aws:PrincipalArn}")},
		{"two wallets", blobstore.RoleUser, b.Issuer, tag(user.String(), wallet(t).String())},
		{"system prefix as wallet", blobstore.RoleUser, b.Issuer, tag("tree")},
		{"prefix of a wallet", blobstore.RoleUser, b.Issuer, tag(user.String()[:10])},
		{"another tag only", blobstore.RoleUser, b.Issuer, set(blobstore.TagsClaim, map[string]any{"principal_tags": map[string][]string{"wallet": {user.String()}}})},
		{"one tag more", blobstore.RoleUser, b.Issuer, set(blobstore.TagsClaim, map[string]any{"principal_tags": map[string][]string{blobstore.TagKey: {user.String()}, "more": {"x"}}})},
		{"bare claim", blobstore.RoleUser, b.Issuer, func(c jwt.MapClaims) { delete(c, blobstore.TagsClaim); c[blobstore.TagKey] = user.String() }},
		{"user's token for the custodian role", blobstore.RoleCustodian, b.Issuer, func(c jwt.MapClaims) { c["sub"] = blobstore.RoleUser.Subject() }},
		{"tagged token for the custodian role", blobstore.RoleCustodian, b.Issuer, tag(user.String())},
		{"custodian's token for the user role", blobstore.RoleUser, b.Issuer, set("sub", blobstore.RoleCustodian.Subject())},
		{"unknown role", "admin", b.Issuer, nil},
	} {
		c := b.Issuer.Claims(user, test.role)
		if test.spoil != nil {
			test.spoil(c)
		}
		token, err := test.signer.Sign(c)
		must(t, err)
		_, err = b.assume(t.Context(), test.role, token)
		var api *awshttp.ResponseError
		if !errors.As(err, &api) || api.HTTPStatusCode()/100 != 4 {
			t.Errorf("%s: want refusal, got %v", test.name, err)
		}
	}
	for _, role := range blobstore.Roles() {
		b.session(t, user, role)
	}
	b.refusedExchange(t, user)
}

// refusedExchange checks what the store client says when STS refuses.
func (b *bench) refusedExchange(t *testing.T, user agentkeys.Wallet) {
	elsewhere, err := NewIssuer("https://elsewhere.test", b.Issuer.Audience, "k")
	must(t, err)
	store, err := blobstore.New(b.Config, elsewhere)
	must(t, err)
	_, err = store.Get(t.Context(), user, key(t, user, 1), limit)
	if !errors.Is(err, blobstore.ErrDenied) || errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("refused exchange: %v", err)
	}
}
