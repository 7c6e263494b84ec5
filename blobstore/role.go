package blobstore

import (
	_ "embed"
	"strings"
)

// Role is one of the three sets of rights that a session can have
// (docs/spec/store.md).
type Role string

const (
	// RoleUser reads, writes, deletes and lists under one user's prefix.
	RoleUser Role = "user"
	// RoleCourier reads and writes under one user's prefix. It can neither
	// delete nor list: the operator holds it during a rotation.
	RoleCourier Role = "courier"
	// RoleCustodian has no user. It owns tree/, audit/ and probe/.
	RoleCustodian Role = "custodian"
)

// TagKey names the session tag that ties a session to one user. Its value is the
// wallet in its text form.
const TagKey = "agentkeys_user_wallet"

// TagsClaim is the token claim in which STS looks for session tags.
const TagsClaim = "https://aws.amazon.com/tags"

// Subject is the sub claim that the role's trust policy asks for.
func (r Role) Subject() string {
	if r == RoleCustodian {
		return "custodian"
	}
	return "user"
}

// Tagged reports whether the role's sessions belong to one user.
func (r Role) Tagged() bool { return r == RoleUser || r == RoleCourier }

// ARN names the role in an account of 12 digits.
func (r Role) ARN(account string) string {
	return "arn:aws:iam::" + account + ":role/agentkeys-" + string(r)
}

// Roles lists all roles.
func Roles() []Role { return []Role{RoleUser, RoleCourier, RoleCustodian} }

// Grantor is what a policy document has to know about its surroundings.
type Grantor struct {
	Account  string // 12 digits
	Provider string // issuer URL without its scheme
	Audience string // aud claim
	Bucket   string
}

// TrustPolicy says who may take the role, as an IAM trust policy document.
func (g Grantor) TrustPolicy(r Role) string {
	return g.fill(map[Role]string{RoleUser: trustUser, RoleCourier: trustCourier, RoleCustodian: trustCustodian}[r])
}

// AccessPolicy says what the role may do, as an IAM identity policy document.
func (g Grantor) AccessPolicy(r Role) string {
	return g.fill(map[Role]string{RoleUser: accessUser, RoleCourier: accessCourier, RoleCustodian: accessCustodian}[r])
}

func (g Grantor) fill(document string) string {
	return strings.NewReplacer(
		"{account}", g.Account, "{provider}", g.Provider,
		"{audience}", g.Audience, "{bucket}", g.Bucket,
	).Replace(document)
}

//go:embed policy/trust-user.json
var trustUser string

//go:embed policy/trust-courier.json
var trustCourier string

//go:embed policy/trust-custodian.json
var trustCustodian string

//go:embed policy/user.json
var accessUser string

//go:embed policy/courier.json
var accessCourier string

//go:embed policy/custodian.json
var accessCustodian string
