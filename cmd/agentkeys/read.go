package main

import (
	"context"
	"errors"

	"example.org/agentkeys/client"
	"github.com/spf13/cobra"
)

func readCommand(a *app) *cobra.Command {
	var reveal bool
	var agent, slotAgent string
	c := &cobra.Command{Use: "read NAME --reveal", Short: "Print a value; the reading is recorded as SEEN", Args: exactly(1, "one NAME"),
		Long:    "Prints a stored value to standard output. As the owner you are asked for your passphrase: it is a fresh\nsignature over this value's version. With --agent it is read as that agent, which needs a grant with --reveal.",
		Example: "  agentkeys read github --reveal\n  agentkeys read github --reveal --agent scribe",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !reveal {
				return usageError{errors.New("read hands the value over: say --reveal if you mean it")}
			}
			v, err := a.read(cmd.Context(), args[0], agent, slotAgent)
			if err != nil {
				return err
			}
			defer v.Secret.Wipe()
			if a.json {
				return a.data(struct {
					Service string `json:"service"`
					Version uint64 `json:"version"`
					Value   string `json:"value"`
				}{args[0], v.Version, string(v.Secret.Reveal())}, nil)
			}
			_, err = a.out.Write(append(v.Secret.Reveal(), '\n'))
			return err
		}}
	c.Flags().BoolVar(&reveal, "reveal", false, "hand the value over")
	c.Flags().StringVar(&agent, "agent", "", "read as this agent")
	c.Flags().StringVar(&slotAgent, "slot", "", "as the owner: the own slot of this agent")
	return c
}

func (a *app) read(ctx context.Context, arg, agent, slotAgent string) (client.Value, error) {
	name, err := serviceArg(arg)
	if err != nil {
		return client.Value{}, err
	}
	slot, err := a.slot(slotAgent)
	if err != nil {
		return client.Value{}, err
	}
	if agent != "" {
		c, err := a.agentSession(ctx, agent, 0)
		if err != nil {
			return client.Value{}, err
		}
		return c.Read(ctx, name, slot, nil)
	}
	c, err := a.owner(ctx)
	if err != nil {
		return client.Value{}, err
	}
	k, err := a.openWallet()
	if err != nil {
		return client.Value{}, err
	}
	defer k.Zero()
	return c.Read(ctx, name, slot, &k)
}
