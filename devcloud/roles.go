package devcloud

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/versity/versitygw/iamapi/policy"
	"github.com/versity/versitygw/iamapi/types"

	"example.org/agentkeys/blobstore"
)

const (
	actionAssume = "sts:AssumeRoleWithWebIdentity"
	actionTag    = "sts:TagSession"
	tagPrefix    = "aws:PrincipalTag/"
	tagAlias     = "aws:PrincipalTag-"
)

// role is one of the roles of docs/spec/store.md with its two documents in the
// form that versitygw's evaluator takes.
type role struct {
	arn   string
	trust []types.PolicyEntry
	// access has a document per action with only the statements about that action:
	// the evaluator parses its document at every request.
	access map[string][]types.PolicyEntry
}

func loadRoles(c Config) (map[string]role, error) {
	roles := map[string]role{}
	for _, r := range blobstore.Roles() {
		trust, err := identityForm(c.grantor().TrustPolicy(r), "arn:aws:iam::"+Account+":oidc-provider/"+c.provider())
		if err != nil {
			return nil, fmt.Errorf("role %s: %w", r, err)
		}
		access, err := byAction(principalTags.ReplaceAllString(c.grantor().AccessPolicy(r), "$${"+tagAlias+"$1}"))
		if err != nil {
			return nil, fmt.Errorf("role %s: %w", r, err)
		}
		arn := r.ARN(Account)
		roles[arn] = role{arn, entry("trust", trust), access}
	}
	return roles, nil
}

// principalTags finds ${aws:PrincipalTag/name}. The evaluator's own pattern for
// variables has no slash, so such a variable would stay literal text.
var principalTags = regexp.MustCompile(`\$\{aws:PrincipalTag/([A-Za-z0-9_]+)\}`)

func entry(name, document string) []types.PolicyEntry {
	return []types.PolicyEntry{{PolicyName: name, PolicyDocument: document}}
}

// identityForm makes a trust document evaluable like any other: the evaluator for
// trust documents knows neither sts:TagSession nor aws:RequestTag. Every statement
// must name provider as its only principal, and nothing else.
func identityForm(document, provider string) (string, error) {
	var doc struct {
		Version   string
		Statement []map[string]any
	}
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		return "", fmt.Errorf("trust policy: %w", err)
	}
	for _, s := range doc.Statement {
		p, ok := s["Principal"].(map[string]any)
		if !ok || len(p) != 1 || p["Federated"] != provider {
			return "", fmt.Errorf("trust policy: principal must be %s", provider)
		}
		delete(s, "Principal")
		s["Resource"] = "*"
	}
	out, err := json.Marshal(doc)
	return string(out), err
}

// byAction splits an access document. It takes plain Allow statements with action
// names in full, so that a part decides as the whole would.
func byAction(document string) (map[string][]types.PolicyEntry, error) {
	var doc policy.Document
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		return nil, fmt.Errorf("access policy: %w", err)
	}
	if err := doc.Validate(); err != nil {
		return nil, fmt.Errorf("access policy: %w", err)
	}
	parts := map[string][]statement{}
	for _, s := range doc.Statement {
		if s.Effect != "Allow" || len(s.NotAction)+len(s.NotResource) > 0 {
			return nil, fmt.Errorf("access policy: statement %q: want Allow, Action and Resource", s.Sid)
		}
		for _, a := range s.Action {
			if strings.ContainsAny(a, "*?") {
				return nil, fmt.Errorf("access policy: action %q: want its full name", a)
			}
			parts[a] = append(parts[a], statement{s.Effect, a, s.Resource, s.Condition})
		}
	}
	access := map[string][]types.PolicyEntry{}
	for a, statements := range parts {
		part, err := json.Marshal(map[string]any{"Version": doc.Version, "Statement": statements})
		if err != nil {
			return nil, fmt.Errorf("access policy: %w", err)
		}
		access[a] = entry("access", string(part))
	}
	return access, nil
}

type statement struct {
	Effect    string
	Action    string
	Resource  []string
	Condition json.RawMessage `json:",omitempty"`
}

// trusts says whether an identity with these claims and tags may take the role.
func (r role) trusts(provider string, id identity, sessionName string) bool {
	context := map[string][]string{
		provider + ":aud":     {id.audience},
		provider + ":sub":     {id.subject},
		"sts:RoleSessionName": {sessionName},
	}
	for k, v := range id.tags {
		context["aws:RequestTag/"+k] = []string{v}
		context["aws:TagKeys"] = append(context["aws:TagKeys"], k)
	}
	actions := []string{actionAssume}
	if len(id.tags) > 0 {
		actions = append(actions, actionTag)
	}
	for _, a := range actions {
		if policy.EvaluateIdentityPolicies(r.trust, policy.RequestContext{
			Action: a, Resource: r.arn, Condition: context,
		}) != policy.DecisionAllow {
			return false
		}
	}
	return true
}
