package devcloud

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/golang-jwt/jwt/v5"
)

// identity is what a checked token says.
type identity struct {
	subject, audience string
	tags              map[string]string
}

// tagText is the character set of IAM session tags. It has no *, ?, $ or braces,
// which would act as patterns once a tag stands in a policy.
var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

type claims struct {
	jwt.RegisteredClaims
	Authorized string    `json:"azp"`
	Tags       *tagClaim `json:"https://aws.amazon.com/tags"`
}

type tagClaim struct {
	Principal map[string][]string `json:"principal_tags"`
}

// identify checks an OIDC token (ES256 only) against the issuer's keys, issuer,
// audience and times.
func (k *keySet) identify(token, issuer, audience string) (identity, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		return k.key(id)
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithStrictDecoding())
	if err != nil {
		return identity{}, err
	}
	// With azp or several audiences STS would match another claim than the one
	// checked above; AgentKeys issues neither.
	if len(c.Audience) != 1 || c.Authorized != "" || c.Subject == "" {
		return identity{}, errors.New("token: want one audience, a subject and no azp")
	}
	tags, err := c.Tags.tags()
	return identity{c.Subject, audience, tags}, err
}

func (t *tagClaim) tags() (map[string]string, error) {
	if t == nil {
		return nil, nil
	}
	if len(t.Principal) > 50 {
		return nil, errors.New("token: more than 50 tags")
	}
	tags := map[string]string{}
	for k, v := range t.Principal {
		if len(v) != 1 || len(k) == 0 || len(k) > 128 || len(v[0]) > 256 {
			return nil, fmt.Errorf("token: tag %q: want one value of at most 256 bytes", k)
		}
		if !tagText.MatchString(k) || !tagText.MatchString(v[0]) {
			return nil, fmt.Errorf("token: tag %q has characters that tags cannot have", k)
		}
		tags[k] = v[0]
	}
	return tags, nil
}
