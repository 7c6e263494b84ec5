package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"example.org/agentkeys/api"
	"github.com/spf13/cobra"
)

func sessionCommand(a *app) *cobra.Command {
	c := group(&cobra.Command{Use: "session", Short: "Who is logged in at your vault", Example: "  agentkeys session list\n  agentkeys session end 3f9a"})
	c.AddCommand(sessionList(a), sessionEnd(a))
	return c
}

func sessionList(a *app) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List live sessions, yours and your agents'", Args: exactly(0, "no arguments"), Example: "  agentkeys session list",
		Long: "Lists the live sessions that the custodian has issued or heard since it started: a session needs no state there\nto live.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.owner(cmd.Context())
			if err != nil {
				return err
			}
			s, err := cl.Sessions(cmd.Context())
			if err != nil {
				return err
			}
			names := a.agentNames()
			names[cl.User().String()] = "you"
			return a.data(s, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ID\tWHO\tROLE\tSINCE\tUNTIL\tLAST USED")
				for _, x := range s.Sessions {
					note := ""
					if x.Self {
						note = "  (this one)"
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s%s\n", x.ID[:8], sessionName(names, x), x.Role, when(x.Issued), when(x.Expires), when(x.Used), note)
				}
				t.Flush()
				fmt.Fprintf(w, "As the custodian knows them since %s. End one: agentkeys session end ID\n", when(s.Since))
			})
		}}
}

func sessionName(names map[string]string, x api.SessionInfo) string {
	if x.Role == "proxy" {
		return orID(names[x.Agent], "proxy")
	}
	return orID(names[x.Agent], x.Agent)
}

func sessionEnd(a *app) *cobra.Command {
	return &cobra.Command{Use: "end ID", Short: "End one session for good (you are asked for your passphrase)", Args: exactly(1, "one ID, or how it begins"),
		Long:    "Ends a session. When the command returns nothing is granted in it any more, and the proxies have dropped what they\nheld for it. Its agent may log in again; to end that as well: agentkeys agent revoke.",
		Example: "  agentkeys session end 3f9a1c22",
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := a.endSession(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.data(x, func(w io.Writer) { fmt.Fprintf(w, "%s is ended\n", x.ID[:8]) })
		}}
}

// endSession ends the one session whose id begins so.
func (a *app) endSession(ctx context.Context, id string) (x api.SessionInfo, err error) {
	cl, err := a.owner(ctx)
	if err != nil {
		return x, err
	}
	s, err := cl.Sessions(ctx)
	if err != nil {
		return x, err
	}
	found := 0
	for _, one := range s.Sessions {
		if strings.HasPrefix(one.ID, strings.ToLower(id)) {
			x = one
			found++
		}
	}
	if found != 1 {
		return x, usageError{fmt.Errorf("%d sessions begin with %s; see: agentkeys session list", found, id)}
	}
	if x.Self {
		return x, cl.EndSession(ctx, x, nil)
	}
	k, err := a.openWallet()
	if err != nil {
		return x, err
	}
	defer k.Zero()
	return x, cl.EndSession(ctx, x, &k)
}

func logoutCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "logout", Short: "End your session, here and at the custodian", Args: exactly(0, "no arguments"), Example: "  agentkeys logout",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ended, err := a.logout(cmd.Context())
			if err != nil {
				return err
			}
			return a.data(struct {
				Ended bool `json:"ended"` // also at the custodian
			}{ended}, func(w io.Writer) {
				if ended {
					fmt.Fprintln(w, "Logged out.")
				} else {
					fmt.Fprintln(w, "Forgotten here. The custodian did not hear of it; the session ends by its time.")
				}
			})
		}}
}

// logout forgets the session, and ends it where the custodian can be reached in time.
func (a *app) logout(ctx context.Context) (ended bool, err error) {
	if err := outsideRun(); err != nil {
		return false, err
	}
	c, err := a.resumed()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		ended = c.End(ctx) == nil
	}
	err = os.Remove(a.path("sessions", a.profileName+".json"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return ended, err
}

func whoamiCommand(a *app) *cobra.Command {
	var agent string
	c := &cobra.Command{Use: "whoami", Short: "Say whose session this is", Args: exactly(0, "no arguments"), Example: "  agentkeys whoami\n  agentkeys whoami --agent scribe",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if agent == "" {
				agent = insideRun()
			}
			w, err := a.whoami(cmd.Context(), agent)
			if err != nil {
				return err
			}
			return a.data(w, func(out io.Writer) {
				who := w.Role
				if agent != "" {
					who = w.Role + " " + agent + " at"
				}
				fmt.Fprintf(out, "%s %s, session until %s\n", who, w.User, time.Unix(int64(w.Expires), 0).Format(time.TimeOnly))
			})
		}}
	c.Flags().StringVar(&agent, "agent", "", "as this agent")
	return c
}

func (a *app) whoami(ctx context.Context, agent string) (api.WhoAmI, error) {
	if agent != "" {
		c, err := a.agentSession(ctx, agent, 0)
		if err != nil {
			return api.WhoAmI{}, err
		}
		return c.WhoAmI(ctx)
	}
	c, err := a.owner(ctx)
	if err != nil {
		return api.WhoAmI{}, err
	}
	return c.WhoAmI(ctx)
}
