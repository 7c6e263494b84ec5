package vault

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cosmos/gogoproto/proto"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"example.org/agentkeys"
	"example.org/agentkeys/rules"
)

// rulesEvents reads from the source of rules which events it gives, each place
// where it does so with the names of its attributes.
func rulesEvents(t *testing.T) (events []rules.Event) {
	t.Helper()
	paths, err := filepath.Glob("../../../rules/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "event" {
				events = append(events, eventOf(t, call))
			}
			return true
		})
	}
	return events
}

// eventOf reads t.event("Name", attr("a", x), [2]string{"b", y}).
func eventOf(t *testing.T, call *ast.CallExpr) rules.Event {
	t.Helper()
	e := rules.Event{Name: literal(t, call.Args[0])}
	for _, arg := range call.Args[1:] {
		var name ast.Expr
		switch a := arg.(type) {
		case *ast.CallExpr:
			name = a.Args[0]
		case *ast.CompositeLit:
			name = a.Elts[0]
		default:
			t.Fatalf("event %s: an attribute in a form this test cannot read: %T", e.Name, arg)
		}
		e.Attributes = append(e.Attributes, [2]string{literal(t, name), "7"}) // a text and a number
	}
	return e
}

func literal(t *testing.T, e ast.Expr) string {
	t.Helper()
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		t.Fatalf("rules names an event or attribute by %T, want a literal", e)
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryEventOfRulesHasItsMessage(t *testing.T) {
	unused := maps.Clone(builders)
	for _, e := range rulesEvents(t) {
		m, err := typedEvent(e)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := proto.MessageName(m); got != "agentkeys.vault.v1.Event"+e.Name {
			t.Errorf("%s becomes %s", e.Name, got)
		}
		if fields := reflect.TypeOf(m).Elem().NumField(); fields != len(e.Attributes) {
			t.Errorf("%s: %d attributes, its message has %d fields", e.Name, len(e.Attributes), fields)
		}
		delete(unused, e.Name)
	}
	if len(unused) != 0 {
		t.Errorf("rules never gives %v", slices.Sorted(maps.Keys(unused)))
	}
}

func TestTypedEventsCarryTheAttributes(t *testing.T) {
	user, agent := agentkeys.Wallet{1}.String(), agentkeys.Wallet{2}.String()
	service, blob, key := agentkeys.ServiceID{3}.String(), agentkeys.BlobID{4}.String(), agentkeys.ProcessKey{5}.String()
	epoch := agentkeys.Epoch(1<<32 - 1).String()
	for _, c := range []struct {
		name       string
		attributes [][2]string
		want       proto.Message
	}{
		{"BlobWritten", [][2]string{{"user", user}, {"service", service}, {"blob", blob}}, &EventBlobWritten{user, service, blob}},
		{"BlobRotated", [][2]string{{"user", user}, {"epoch", epoch}, {"count", "512"}}, &EventBlobRotated{user, 1<<32 - 1, 512}},
		{"BlobDeleted", [][2]string{{"user", user}, {"service", service}, {"reason", "lost"}}, &EventBlobDeleted{user, service, "lost"}},
		{"EpochDraining", [][2]string{{"user", user}, {"epoch", "7"}, {"count", "3"}, {"until", "1800000000"}}, &EventEpochDraining{user, 7, 3, 1800000000}},
		{"EpochOpened", [][2]string{{"user", user}, {"epoch", agentkeys.Epoch(8).String()}}, &EventEpochOpened{user, 8}}, // leading zeros are decimal
		{"EpochRotated", [][2]string{{"user", user}, {"epoch", epoch}}, &EventEpochRotated{user, 1<<32 - 1}},
		{"EpochDestroyed", [][2]string{{"user", user}, {"epoch", epoch}}, &EventEpochDestroyed{user, 1<<32 - 1}},
		{"CredsRead", [][2]string{{"custodian", key}, {"count", "0"}}, &EventCredsRead{key, 0}},
		{"Granted", [][2]string{{"user", user}, {"agent", agent}, {"service", service}, {"mode", "2"}}, &EventGranted{user, agent, service, 2}},
		{"AgentRevoked", [][2]string{{"user", user}, {"agent", agent}}, &EventAgentRevoked{user, agent}},
		{"EnclaveRegistered", [][2]string{{"key", key}, {"role", "1"}}, &EventEnclaveRegistered{key, 1}},
		{"EnclaveRevoked", [][2]string{{"key", key}, {"role", "2"}}, &EventEnclaveRevoked{key, 2}},
		{"AnchorCommitted", [][2]string{{"generation", "18446744073709551615"}}, &EventAnchorCommitted{1<<64 - 1}},
	} {
		m, err := typedEvent(rules.Event{Name: c.name, Attributes: c.attributes})
		if err != nil {
			t.Error(err)
			continue
		}
		sent, err := sdk.TypedEventToEvent(m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := sdk.ParseTypedEvent(abci.Event(sent)); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestEventsWithoutTheirMessageAreErrors(t *testing.T) {
	for name, e := range map[string]rules.Event{
		"unknown name":       {Name: "Enrolled", Attributes: [][2]string{{"user", "0x"}}},
		"attribute missing":  {Name: "EpochOpened", Attributes: [][2]string{{"user", "0x"}}},
		"attribute unknown":  {Name: "EpochOpened", Attributes: [][2]string{{"user", "0x"}, {"epoch", "1"}, {"height", "1"}}},
		"attribute twice":    {Name: "EpochOpened", Attributes: [][2]string{{"user", "0x"}, {"epoch", "1"}, {"epoch", "1"}}},
		"attribute renamed":  {Name: "AnchorCommitted", Attributes: [][2]string{{"tree", "1"}}},
		"number not decimal": {Name: "AnchorCommitted", Attributes: [][2]string{{"generation", "0x1"}}},
		"number negative":    {Name: "AnchorCommitted", Attributes: [][2]string{{"generation", "-1"}}},
	} {
		if m, err := typedEvent(e); err == nil {
			t.Errorf("%s: became %v", name, m)
		}
	}
}

func TestTheSpecNamesTheFieldsOfEveryEvent(t *testing.T) {
	b, err := os.ReadFile("../../../docs/spec/chain.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, build := range builders {
		row := ""
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "| `Event"+name+"`") {
				row = line
			}
		}
		fields := reflect.TypeOf(build(&fields{})).Elem()
		for i := range fields.NumField() {
			field := strings.ToLower(fields.Field(i).Name) + " " + strconv.Itoa(i+1)
			if !strings.Contains(row, field) {
				t.Errorf("docs/spec/chain.md lacks %q of Event%s", field, name)
			}
		}
	}
}
