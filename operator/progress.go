package operator

import (
	"context"
	"fmt"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
)

// Progress is how far epochs are that are due, as the node's rows say. It is for the
// operator's screen: unproven, and nothing is decided by it.
type Progress struct {
	Users    int // looked at
	Waiting  int // whose next epoch is due and not open
	Draining int // whose old epoch is not destroyed yet
	Left     int // credentials that wait in those
}

// Done reports that nothing is due and nothing drains.
func (p Progress) Done() bool { return p.Waiting == 0 && p.Draining == 0 }

func (p Progress) String() string {
	return fmt.Sprintf("%d of %d users rotated, %d draining with %d credentials left", p.Users-p.Waiting-p.Draining, p.Users, p.Draining, p.Left)
}

// ProgressOf counts one user, or all for the zero wallet.
func ProgressOf(ctx context.Context, node *ledger.Node, user agentkeys.Wallet) (p Progress, err error) {
	a, err := node.Query(ctx, "/store/vault/key", rules.SystemKey(), 0, false)
	if err != nil {
		return p, err
	}
	system, err := rules.ParseSystem(a.Value)
	if err != nil {
		return p, fmt.Errorf("system row: %w", err)
	}
	err = userRows(ctx, node, func(w agentkeys.Wallet, u rules.User, _ uint64) {
		if user.IsZero() || w == user {
			p.add(u, system.RotateBefore)
		}
	})
	return p, err
}

func (p *Progress) add(u rules.User, before uint64) {
	p.Users++
	switch a := u.Active; {
	case a.Epoch == 0:
	case u.Draining.Epoch != 0:
		p.Draining++
		p.Left += int(u.Draining.LiveCount)
	case u.Due > a.Epoch || a.Opened < before:
		p.Waiting++
	}
}
