package main

import (
	"fmt"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/internal/service"
	"example.org/agentkeys/operator"
	"github.com/spf13/cobra"
)

// rewrapCommand begins the next shielding key, or shows how far the last one is.
func rewrapCommand() *cobra.Command {
	var custodian, tokenFile string
	var status, watch bool
	var f authorityFlags
	c := &cobra.Command{Use: "rewrap", Short: "Wrap every live data key anew, under the next shielding key and fresh shares", Args: cobra.NoArgs,
		Long: "Begins the next shielding key: every live epoch gets a fresh share and its data key is wrapped under both; the old\n" +
			"shares are erased. Credentials are not touched and read all the while. It is refused while an epoch is still under an\n" +
			"older key. It may be ended at any time: the rotation goes on by itself.",
		Example: "  agentkeys-operator rewrap --watch --custodian http://127.0.0.1:8081 --token-file operator.token --relay http://127.0.0.1:8080\n" +
			"  agentkeys-operator rewrap --status --custodian http://127.0.0.1:8081 --token-file operator.token",
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := service.SecretFile(tokenFile)
			if err != nil {
				return fmt.Errorf("--token-file: %w", err)
			}
			s, err := operator.Shielding(cmd.Context(), custodian, token, !status)
			if err != nil {
				return err
			}
			if err := f.look(cmd.Context(), ""); err != nil {
				return err
			}
			for last := ""; ; {
				if line := shieldingLine(s); line != last {
					fmt.Fprintln(cmd.OutOrStdout(), line)
					last = line
				}
				if !watch || s.Behind == 0 {
					return nil
				}
				select {
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				case <-time.After(time.Second):
				}
				if s, err = operator.Shielding(cmd.Context(), custodian, token, false); err != nil {
					return fmt.Errorf("%w; the re-wrap goes on, watch it with --status --watch", err)
				}
			}
		}}
	c.Flags().StringVar(&custodian, "custodian", "http://127.0.0.1:8081", "operator address of the custodian")
	c.Flags().StringVar(&tokenFile, "token-file", "", "file with the custodian's operator token")
	c.Flags().StringVar(&f.relay, "relay", "", "address of the running operator, to look at once")
	c.Flags().BoolVar(&status, "status", false, "begin nothing, say how far it is")
	c.Flags().BoolVar(&watch, "watch", false, "show progress until every epoch is under the newest key")
	return c
}

func shieldingLine(s api.Shielding) string {
	return fmt.Sprintf("shielding key %d: %d of %d live epochs are under it", s.Version, s.Live-s.Behind, s.Live)
}
