package vault

import (
	"fmt"
	"strconv"

	"github.com/cosmos/gogoproto/proto"

	"example.org/agentkeys/rules"
)

// builders has the typed event of each name that rules gives.
var builders = map[string]func(f *fields) proto.Message{
	"BlobWritten": func(f *fields) proto.Message {
		return &EventBlobWritten{User: f.text("user"), Service: f.text("service"), Blob: f.text("blob")}
	},
	"BlobRotated": func(f *fields) proto.Message {
		return &EventBlobRotated{User: f.text("user"), Epoch: f.number("epoch"), Count: f.number("count")}
	},
	"BlobDeleted": func(f *fields) proto.Message {
		return &EventBlobDeleted{User: f.text("user"), Service: f.text("service"), Reason: f.text("reason")}
	},
	"EpochOpened": func(f *fields) proto.Message {
		return &EventEpochOpened{User: f.text("user"), Epoch: f.number("epoch")}
	},
	"EpochDraining": func(f *fields) proto.Message {
		return &EventEpochDraining{User: f.text("user"), Epoch: f.number("epoch"), Count: f.number("count"), Until: f.number("until")}
	},
	"EpochRotated": func(f *fields) proto.Message {
		return &EventEpochRotated{User: f.text("user"), Epoch: f.number("epoch")}
	},
	"EpochDestroyed": func(f *fields) proto.Message {
		return &EventEpochDestroyed{User: f.text("user"), Epoch: f.number("epoch")}
	},
	"CredsRead": func(f *fields) proto.Message {
		return &EventCredsRead{Custodian: f.text("custodian"), Count: f.number("count")}
	},
	"Granted": func(f *fields) proto.Message {
		return &EventGranted{User: f.text("user"), Agent: f.text("agent"), Service: f.text("service"), Mode: f.number("mode")}
	},
	"AgentRevoked": func(f *fields) proto.Message {
		return &EventAgentRevoked{User: f.text("user"), Agent: f.text("agent")}
	},
	"EnclaveRegistered": func(f *fields) proto.Message {
		return &EventEnclaveRegistered{Key: f.text("key"), Role: f.number("role")}
	},
	"EnclaveRevoked": func(f *fields) proto.Message {
		return &EventEnclaveRevoked{Key: f.text("key"), Role: f.number("role")}
	},
	"AnchorCommitted": func(f *fields) proto.Message {
		return &EventAnchorCommitted{Generation: f.number("generation")}
	},
}

// typedEvent turns an event of rules into its protobuf message. It takes exactly
// the attributes that the message has; anything else is an error, the same on
// every node.
func typedEvent(e rules.Event) (proto.Message, error) {
	build, ok := builders[e.Name]
	if !ok {
		return nil, fmt.Errorf("event %s: no message for it", e.Name)
	}
	f := &fields{attributes: e.Attributes}
	m := build(f)
	if f.err != nil {
		return nil, fmt.Errorf("event %s: %v", e.Name, f.err)
	}
	if f.taken != len(e.Attributes) {
		return nil, fmt.Errorf("event %s: %d attributes, its message has %d", e.Name, len(e.Attributes), f.taken)
	}
	return m, nil
}

// fields hands out the attributes of one event, counts them and keeps the first
// error.
type fields struct {
	attributes [][2]string
	taken      int
	err        error
}

func (f *fields) text(name string) string {
	for _, a := range f.attributes {
		if a[0] == name {
			f.taken++
			return a[1]
		}
	}
	f.fail("no attribute %s", name)
	return ""
}

func (f *fields) number(name string) uint64 {
	s := f.text(name)
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		f.fail("%s is %q, want a number", name, s)
	}
	return n
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
}
