package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/proxy"
	"github.com/spf13/cobra"
)

// finding is one line of doctor.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // ok, warn, FAIL
	Says  string `json:"says"`
	Next  string `json:"next,omitempty"`
}

// doctorReport is what doctor says: findings, and what they do not protect from.
type doctorReport struct {
	Findings []finding `json:"findings"`
	SameUser []string  `json:"same_user_id_can"`
	Cannot   []string  `json:"same_user_id_cannot"`
	Limits   string    `json:"limits"` // of this deployment
}

func doctorCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "doctor", Short: "Check this machine's side of the vault, and say what it does not protect from", Args: exactly(0, "no arguments"),
		Long:    "Checks profile, custodian, node, clock, session, wallet, files and proxy, each with what to do next. The exit code\nis 1 when something fails. Then it says what programs of your own user id can still do.",
		Example: "  agentkeys doctor",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := a.examine(cmd.Context())
			failed := 0
			for _, f := range r.Findings {
				if f.State == "FAIL" {
					failed++
				}
			}
			if err := a.data(r, func(w io.Writer) { a.printDoctor(w, r) }); err != nil {
				return err
			}
			if failed > 0 {
				return exitCode(exitError)
			}
			return nil
		}}
}

func (a *app) printDoctor(w io.Writer, r doctorReport) {
	colour := map[string]string{"ok": green, "warn": yellow, "FAIL": red}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s  %-10s %s\n", a.paint(colour[f.State], fmt.Sprintf("%-4s", f.State)), f.Check, f.Says)
		if f.Next != "" {
			fmt.Fprintf(w, "                 next: %s\n", f.Next)
		}
	}
	fmt.Fprintln(w, "\nWhat your own user id can still do, so every program of yours can:")
	for _, s := range r.SameUser {
		fmt.Fprintln(w, "  -", s)
	}
	fmt.Fprintln(w, "They cannot, through custodian and proxy and before you type it for them:")
	for _, s := range r.Cannot {
		fmt.Fprintln(w, "  -", s)
	}
	if r.Limits != "" {
		fmt.Fprintf(w, "\nThis deployment: %s.\n", r.Limits)
	}
}

// examine makes every check that can be made; one that fails hides none of the others.
func (a *app) examine(ctx context.Context) (r doctorReport) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, p, err := a.dial()
	if err != nil {
		r.Findings = append(r.Findings, finding{"profile", "FAIL", err.Error(), "agentkeys dev start, or ask the operator for a profile"})
	} else {
		r.Findings = append(r.Findings, finding{"profile", "ok", a.profileName + ": " + p.Custodian, ""})
		r.Findings = append(r.Findings, a.examineVault(ctx, c, p, &r)...)
	}
	r.Findings = append(r.Findings, a.examineWallet(), a.examineFiles(), a.examineProxy(ctx))
	r.SameUser, r.Cannot = a.sameUser()
	return r
}

func (a *app) examineVault(ctx context.Context, c *client.Client, p profile, r *doctorReport) (out []finding) {
	v, err := c.Info(ctx)
	switch {
	case err != nil:
		return []finding{{"custodian", "FAIL", err.Error(), "is it running? agentkeys dev status"}}
	case v.VaultID != p.VaultID || v.ChainID != p.ChainID:
		return []finding{{"custodian", "FAIL", "it serves another vault than the profile names", "do not use it; ask the operator"}}
	}
	r.Limits = v.Protected
	out = append(out, finding{"custodian", "ok", fmt.Sprintf("answers with the pinned certificate, verified to block %d", v.Height), ""})
	out = append(out, a.examineNode(ctx, p))
	if self := insideRun(); self != "" {
		return append(out, finding{"session", "ok", "inside run --agent " + self + ": the owner's is not used here", ""})
	}
	kept, err := a.resumed()
	if err != nil {
		return append(out, finding{"session", "warn", "you are not logged in", "agentkeys login"})
	}
	w, err := kept.WhoAmI(ctx)
	switch {
	case err == nil:
		out = append(out, finding{"session", "ok", "until " + when(w.Expires) + "; after that commands ask for your wallet", ""},
			finding{"clock", "ok", fmt.Sprintf("within %d s of the custodian's", int(api.ProofWindow.Seconds())), ""})
		if l, err := kept.List(ctx); err == nil {
			out = append(out, a.examineAgents(l, w.User), a.examineAdmission(ctx, l), examineList(l))
		}
	case strings.Contains(err.Error(), "clock"):
		out = append(out, finding{"clock", "FAIL", "this machine's clock differs from the custodian's by more than a minute", "set it right"})
	default:
		out = append(out, finding{"session", "warn", err.Error(), "agentkeys login"})
	}
	return out
}

// examineNode asks the profile's node, which only verify needs.
func (a *app) examineNode(ctx context.Context, p profile) finding {
	n, err := ledger.NewNode(p.Node)
	if err == nil {
		var s ledger.Status
		if s, err = n.Status(ctx); err == nil {
			return finding{"node", "ok", fmt.Sprintf("at block %d", s.Height), ""}
		}
	}
	return finding{"node", "warn", "does not answer; only verify needs it: " + err.Error(), "agentkeys dev status"}
}

func (a *app) examineWallet() finding {
	if _, err := os.Stat(a.path("wallet.json")); err != nil {
		return finding{"wallet", "warn", "there is none here", "agentkeys init"}
	}
	switch {
	case a.unlock() == unlockFile:
		return finding{"wallet", "warn", "opened by " + unlockText[unlockFile], "make another with a passphrase, in another AGENTKEYS_HOME"}
	case a.unlock() == unlockKeychain:
		return finding{"wallet", "warn", "opened by " + unlockText[unlockKeychain], "where agents run as you, make one with a passphrase, in another AGENTKEYS_HOME"}
	case os.Getenv("AGENTKEYS_PASSPHRASE_FILE") != "":
		if st, err := os.Stat(os.Getenv("AGENTKEYS_PASSPHRASE_FILE")); err == nil && st.Mode().Perm()&0o077 != 0 {
			return finding{"wallet", "FAIL", "its passphrase is in " + os.Getenv("AGENTKEYS_PASSPHRASE_FILE") + ", which other users can read", "chmod go= " + os.Getenv("AGENTKEYS_PASSPHRASE_FILE")}
		}
		return finding{"wallet", "warn", "its passphrase is in " + os.Getenv("AGENTKEYS_PASSPHRASE_FILE") + ", which programs of your user id can read", "unset AGENTKEYS_PASSPHRASE_FILE where agents run"}
	}
	return finding{"wallet", "ok", "opened by your passphrase", ""}
}

// examineAgents looks for agents' keys that are of no use any more, and live agents
// whose key is elsewhere.
func (a *app) examineAgents(l api.Listing, owner string) finding {
	here, now := a.agentNames(), time.Now()
	var dead []string
	elsewhere, live := 0, 0
	for wallet, name := range here {
		i := slices.IndexFunc(l.Agents, func(r api.Agent) bool { return r.Agent == wallet })
		if i < 0 || l.Agents[i].Expires <= uint64(now.Unix()) {
			dead = append(dead, name)
		} else {
			live++
		}
	}
	for _, r := range l.Agents {
		if r.Role == "agent" && r.Agent != owner && r.Expires > uint64(now.Unix()) && here[r.Agent] == "" {
			elsewhere++
		}
	}
	says := fmt.Sprintf("%d with a key in %s, readable by your user id", live, a.path("agents"))
	if elsewhere > 0 {
		says += fmt.Sprintf("; %d admitted whose key is not here", elsewhere)
	}
	if len(dead) > 0 {
		slices.Sort(dead)
		return finding{"agents", "warn", says + "; not admitted any more: " + strings.Join(dead, ", "), "agentkeys agent remove " + dead[0] + ", or admit it again: agentkeys agent add " + dead[0]}
	}
	return finding{"agents", "ok", says, ""}
}

// examineAdmission says until when the proxies of this user are let in.
func (a *app) examineAdmission(ctx context.Context, l api.Listing) finding {
	s, err := a.proxyState(ctx)
	if err != nil {
		return finding{"admission", "ok", "no proxy runs that would need one", ""}
	}
	for _, r := range l.Agents {
		if r.Agent == s.Wallet && r.Role == "proxy" && r.Expires > uint64(time.Now().Unix()) {
			if left := time.Until(time.Unix(int64(r.Expires), 0)); left < proxyRenew {
				return finding{"admission", "warn", "the proxy is admitted until " + when(r.Expires), "agentkeys proxy stop, then start: that renews it"}
			}
			return finding{"admission", "ok", "the proxy is admitted until " + when(r.Expires), ""}
		}
	}
	return finding{"admission", "FAIL", "the proxy that runs is not admitted", "agentkeys proxy stop, then start"}
}

// examineList says whether what the vault shows is proven complete.
func examineList(l api.Listing) finding {
	if !l.Complete {
		return finding{"list", "warn", "what the vault lists is not proven complete: the proven counts differ", "ask again; if it stays so: agentkeys verify"}
	}
	return finding{"list", "ok", held(l), ""}
}

// examineFiles looks for files that other users can read.
func (a *app) examineFiles() finding {
	var open []string
	err := filepath.WalkDir(a.home, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == a.path("dev") {
			return fs.SkipDir // the stack keeps its own
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && info.Mode()&os.ModeSymlink == 0 {
			open = append(open, path)
		}
		return nil
	})
	switch {
	case errors.Is(err, os.ErrNotExist):
		return finding{"files", "ok", a.home + " does not exist yet", ""}
	case err != nil:
		return finding{"files", "FAIL", err.Error(), "make " + a.home + " yours: chown and chmod -R go="}
	case len(open) > 0:
		return finding{"files", "FAIL", fmt.Sprintf("other users may read %d files, such as %s", len(open), open[0]), "chmod -R go= " + a.home}
	}
	return finding{"files", "ok", "nobody else can read " + a.home, ""}
}

func (a *app) examineProxy(ctx context.Context) finding {
	s, err := a.proxyState(ctx)
	switch {
	case errors.Is(err, proxy.ErrNotRunning):
		return finding{"proxy", "warn", "it does not run, so agents use nothing", "agentkeys proxy start"}
	case err != nil:
		return finding{"proxy", "FAIL", err.Error(), "agentkeys proxy stop, then start"}
	case !s.Watching:
		return finding{"proxy", "FAIL", "it does not hear the custodian, so it gives nothing", "is the custodian running? its log: " + a.path("proxy", a.profileName+".log")}
	case s.Dumpable:
		return finding{"proxy", "warn", "its memory can be read by programs of your user id", "agentkeys proxy stop, then start"}
	}
	return finding{"proxy", "ok", fmt.Sprintf("on %s, hears the custodian, memory closed to your user id; %d commands", s.Address, len(s.Children)), ""}
}

// sameUser says what owner presence does not cover, here.
func (a *app) sameUser() (can, cannot []string) {
	can = []string{
		"use what your agents may use, by the agents' key files in " + a.path("agents"),
		"list names and records, and store new names, while your session in " + a.path("sessions") + " lives",
		"use your credentials through a running proxy in that session, to the hosts you named",
		"read the environment of commands under run, with what --env handed over",
		"start a command on your terminal that asks for your passphrase: it says which one, type it for no other",
		"put another program in the place of agentkeys, or another vault into your profile, for what you store and type next",
		"delete or change your files, end your session, and stop your processes",
	}
	dir := a.path("dev")
	if p, err := a.loadProfile(); err == nil {
		dir = orID(p.Dev, dir)
	}
	if stack, err := os.Stat(dir); err == nil && stack.IsDir() {
		can = append(can, "read the development stack's seed and anchor in "+dir+", and with them EVERYTHING")
	}
	switch {
	case a.unlock() == unlockFile:
		return append(can, "be the owner: the passphrase is in a file"), []string{"nothing that you can"}
	case os.Getenv("AGENTKEYS_PASSPHRASE_FILE") != "":
		can = append(can, "be the owner, if they read "+os.Getenv("AGENTKEYS_PASSPHRASE_FILE"))
	case a.unlock() == unlockKeychain:
		can = append(can, "be the owner, if the keychain answers them without asking you")
	}
	return can, []string{
		"reveal, overwrite, grant, revoke or rotate without your passphrase",
		"read the memory of the proxy, where values are (root can)",
		"send a key to a host that you did not name",
	}
}
