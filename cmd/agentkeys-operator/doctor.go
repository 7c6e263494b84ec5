package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/internal/service"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/operator"
	"example.org/agentkeys/rules"
	"github.com/spf13/cobra"
)

// finding is one line of doctor.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // ok, warn, FAIL
	Says  string `json:"says"`
	Next  string `json:"next,omitempty"`
}

// examined says where doctor looks.
type examined struct {
	relay, node, chainID, custodian string
	files                           []string
	json                            bool
}

func doctorCommand() *cobra.Command {
	var x examined
	c := &cobra.Command{Use: "doctor", Short: "Look at every part, and say what is red and what to do", Args: cobra.NoArgs,
		Long: "Looks at operator, node, custodian, rotation, anchors and key files, as far as it is told where they are. What it reads of\n" +
			"the chain is the node's word, without proof. The exit code is 1 when something is FAIL.",
		Example: "  agentkeys-operator doctor --relay http://127.0.0.1:8080 --node http://127.0.0.1:26657 --custodian http://127.0.0.1:8081 \\\n" +
			"    --file operator.token --file relay.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 20*time.Second)
			defer cancel()
			all := x.examine(ctx)
			if x.json {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				if err := e.Encode(struct {
					Findings []finding `json:"findings"`
				}{all}); err != nil {
					return err
				}
			} else {
				printFindings(cmd.OutOrStdout(), all)
			}
			return failed(all)
		}}
	f := c.Flags()
	f.StringVar(&x.relay, "relay", "http://127.0.0.1:8080", "address of the running operator")
	f.StringVar(&x.node, "node", "http://127.0.0.1:26657", "RPC address of the node")
	f.StringVar(&x.chainID, "chain-id", "", "chain id that the node has to be of")
	f.StringVar(&x.custodian, "custodian", "", "operator address of the custodian")
	f.StringArrayVar(&x.files, "file", nil, "a `file` with a key or token, to look at its mode; may be repeated")
	f.BoolVar(&x.json, "json", false, "print data as JSON")
	return c
}

func printFindings(w io.Writer, all []finding) {
	for _, f := range all {
		fmt.Fprintf(w, "%-5s %-10s %s\n", f.State, f.Check, f.Says)
		if f.Next != "" {
			fmt.Fprintf(w, "%16s %s\n", "", f.Next)
		}
	}
}

func failed(all []finding) error {
	n := 0
	for _, f := range all {
		if f.State == "FAIL" {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d checks fail", n, len(all))
	}
	return nil
}

// examine looks at everything, each for itself: what is away does not hide the rest.
func (x examined) examine(ctx context.Context) (all []finding) {
	all = append(all, answers(ctx, "operator", x.relay, "agentkeys-operator start; its log says why it ended"))
	if x.custodian != "" {
		all = append(all, answers(ctx, "custodian", x.custodian, "read the custodian's log: not registered, or no anchor opens"))
	}
	node, err := ledger.NewNode(x.node)
	if err != nil {
		return append(all, finding{"node", "FAIL", err.Error(), "give --node"})
	}
	f := x.nodeAnswers(ctx, node)
	if all = append(all, f); f.State != "FAIL" {
		all = append(all, rotation(ctx, node))
		all = append(all, anchors(ctx, node)...)
	}
	for _, file := range x.files {
		all = append(all, fileMode(file))
	}
	return all
}

// answers asks a part whether it is ready.
func answers(ctx context.Context, name, url, next string) finding {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+api.PathReady, nil)
	if err != nil {
		return finding{name, "FAIL", err.Error(), ""}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return finding{name, "FAIL", url + " hangs or does not answer", next}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return finding{name, "FAIL", fmt.Sprintf("runs and is not ready: %s", b), next}
	}
	return finding{name, "ok", "ready", ""}
}

func (x examined) nodeAnswers(ctx context.Context, node *ledger.Node) finding {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := node.Status(ctx)
	switch {
	case err != nil:
		return finding{"node", "FAIL", x.node + " does not answer: nobody is let in and nothing is written", "start the node: agentkeysd start; then look at its log"}
	case x.chainID != "" && s.ChainID != x.chainID:
		return finding{"node", "FAIL", fmt.Sprintf("it is of chain %s, not %s", s.ChainID, x.chainID), "give the node of this vault"}
	case s.CatchingUp:
		return finding{"node", "warn", fmt.Sprintf("catching up, at block %d", s.Height), "wait"}
	}
	return finding{"node", "ok", fmt.Sprintf("chain %s, block %d, %s old (an idle vault makes none)", s.ChainID, s.Height, time.Since(s.Time).Round(time.Second)), ""}
}

func rotation(ctx context.Context, node *ledger.Node) finding {
	p, err := operator.ProgressOf(ctx, node, agentkeys.Wallet{})
	switch {
	case err != nil:
		return finding{"rotation", "FAIL", err.Error(), "look at the node's log"}
	case p.Done():
		return finding{"rotation", "ok", fmt.Sprintf("%d users, none due, none draining", p.Users), ""}
	}
	return finding{"rotation", "warn", p.String(), "agentkeys-operator status; if it does not go on: docs/runbook-rotation.md"}
}

func anchors(ctx context.Context, node *ledger.Node) (all []finding) {
	rows, err := anchorRows(ctx, node)
	if err != nil {
		return []finding{{"anchors", "FAIL", err.Error(), "look at the node's log"}}
	}
	live := 0
	for _, a := range rows {
		if a.row.State == rules.AnchorLive {
			live++
		}
	}
	state, next := "ok", ""
	switch live {
	case 0:
		state, next = "FAIL", "no epoch can open or end: agentkeys-operator anchor add"
	case 1:
		state, next = "warn", "if its place is lost the vault is lost; two are normal: agentkeys-operator anchor add"
	}
	all = append(all, finding{"anchors", state, fmt.Sprintf("%d live", live), next})
	for _, a := range rows {
		all = append(all, finding{"anchor", "ok", a.String(), ""})
		if a.row.State == rules.AnchorRetired || a.row.State == rules.AnchorEvicted {
			all[len(all)-1].State = "warn"
			all[len(all)-1].Next = "what it held when it went out of use is not proven erased"
		}
	}
	return all
}

func fileMode(path string) finding {
	if _, err := service.SecretFile(path); err != nil {
		next := "chmod 600 " + path
		if errors.Is(err, os.ErrNotExist) {
			next = ""
		}
		return finding{"file", "FAIL", err.Error(), next}
	}
	return finding{"file", "ok", path + " is readable by its user only", ""}
}
