package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"example.org/agentkeys/api"
	"github.com/spf13/cobra"
)

func statusCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "status", Short: "One screen: vault, session, proxy, and what is red", Args: exactly(0, "no arguments"), Example: "  agentkeys status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.overview(cmd.Context())
			if err != nil {
				return err
			}
			return a.data(s, func(w io.Writer) { a.printOverview(w, s) })
		}}
}

// overview is status.
type overview struct {
	api.Vault
	Session string   `json:"session"`
	Proxy   string   `json:"proxy"`
	Holds   string   `json:"holds"`
	Red     []string `json:"red"`
}

func (a *app) overview(ctx context.Context) (s overview, err error) {
	c, p, err := a.dial()
	if err != nil {
		return s, err
	}
	if s.Vault, err = c.Info(ctx); err != nil {
		return s, err
	}
	if s.VaultID != p.VaultID {
		return s, errors.New("status: this custodian serves another vault than the profile names")
	}
	s.Red = []string{}
	s.Session, s.Proxy = "none; agentkeys login", "not running; agentkeys proxy start"
	if self := insideRun(); self != "" {
		s.Session = "inside run --agent " + self + ": the owner's is not used here"
	}
	if kept, err := a.resumed(); err == nil {
		w, err := kept.WhoAmI(ctx)
		if api.Passing(err) {
			s.Session = "not known now"
			s.Red = append(s.Red, err.Error())
		}
		if err == nil {
			s.Session = w.Role + ", until " + when(w.Expires)
			if l, err := kept.List(ctx); err == nil {
				s.Holds = held(l)
				s.Red = append(s.Red, expiring(l)...)
				if !l.Complete {
					s.Red = append(s.Red, "the list of credentials is not proven complete; agentkeys verify")
				}
			}
		}
	}
	f := a.examineProxy(ctx)
	if f.State != "warn" {
		s.Proxy = f.Says
	}
	if f.State == "FAIL" {
		s.Red = append(s.Red, "proxy: "+f.Says)
	}
	if list, err := a.todos(); err == nil {
		for _, d := range list {
			if d.Done == 0 {
				s.Red = append(s.Red, d.Service+" was seen by "+d.Agent+", which is revoked; "+replaceLine(d.Service, d.Slot))
			}
		}
	}
	return s, nil
}

// held counts what is there.
func held(l api.Listing) string {
	agents := 0
	for _, g := range l.Agents {
		if g.Role == "agent" && g.Expires > l.Time {
			agents++
		}
	}
	state := fmt.Sprintf("epoch %d", activeEpoch(l))
	if l.Due > activeEpoch(l) {
		state += ", a new one is due"
	}
	return fmt.Sprintf("%d credentials, %d agents admitted, %s", len(l.Credentials), max(agents-1, 0), state)
}

func (a *app) printOverview(w io.Writer, s overview) {
	fmt.Fprintf(w, "vault    %s… on chain %s: answers, verified to block %d\n", s.VaultID[:8], s.ChainID, s.Height)
	fmt.Fprintf(w, "session  %s\nproxy    %s\n", s.Session, s.Proxy)
	if s.Holds != "" {
		fmt.Fprintf(w, "holds    %s\n", s.Holds)
	}
	for _, r := range s.Red {
		fmt.Fprintf(w, "%s      %s\n", a.paint(red, "RED"), r)
	}
	fmt.Fprintf(w, "Not protected: %s\n", s.Protected)
}
