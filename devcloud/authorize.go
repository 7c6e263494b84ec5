package devcloud

import (
	"strings"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/iamapi/policy"
	"github.com/versity/versitygw/s3err"
)

// EvaluatePolicy decides every action on every resource by the access policy of
// the session's role. The gateway's bucket has no policy and no ACL, so what is
// not allowed here is refused.
func (s *sessions) EvaluatePolicy(access, token string, actions []auth.Action, resources []string, condition map[string][]string) (auth.PolicyEvaluation, error) {
	n, err := s.find(access, token)
	if err != nil {
		return auth.PolicyEvaluation{}, err
	}
	// The gateway takes "no action was refused" for a yes.
	if len(actions) == 0 || len(resources) == 0 {
		return auth.PolicyEvaluation{}, s3err.GetAPIError(s3err.ErrAccessDenied)
	}
	context := n.context(condition)
	ev := auth.PolicyEvaluation{PrincipalArn: n.arn}
	fill(&ev.Decisions, len(resources), len(actions), func(i, j int) policy.Decision {
		return policy.EvaluateIdentityPolicies(n.role.access[string(actions[j])], policy.RequestContext{
			Action: string(actions[j]), Resource: resources[i], Condition: context,
		})
	})
	return ev, nil
}

// context adds who is asking to what the gateway saw of the request. Keys about
// the principal come from here alone.
func (n *session) context(request map[string][]string) map[string][]string {
	context := make(map[string][]string, len(request)+2*len(n.tags)+1)
	for k, v := range request {
		if !strings.HasPrefix(strings.ToLower(k), "aws:principal") {
			context[k] = v
		}
	}
	context["aws:PrincipalArn"] = []string{n.role.arn}
	for k, v := range n.tags {
		context[tagPrefix+k] = []string{v}
		context[tagAlias+k] = []string{v}
	}
	return context
}

// fill makes a matrix of the gateway's decision type, which has no exported name;
// its values are those of [policy.Decision].
func fill[T ~int](dst *[][]T, rows, cols int, decide func(i, j int) policy.Decision) {
	m := make([][]T, rows)
	for i := range m {
		m[i] = make([]T, cols)
		for j := range m[i] {
			m[i][j] = T(decide(i, j))
		}
	}
	*dst = m
}
