package rules

// Code says what became of a statement. The numbers are part of the chain's
// contract and never change meaning.
type Code uint32

// Codes.
const (
	OK             Code = 0
	AlreadyApplied Code = 1 // a repeat; nothing changed, nothing is wrong
	BadLayout      Code = 2
	BadSignature   Code = 3
	NotRegistered  Code = 4
	Expired        Code = 5
	NotFound       Code = 6
	Stale          Code = 7 // compare-and-swap failed: read the row and sign again
	NotAdmitted    Code = 8
	WrongEpoch     Code = 9
	NotDrained     Code = 10
	NotKeeper      Code = 11
	TooEarly       Code = 12
	Refused        Code = 13 // a value that the rules never allow
)

var codeNames = [...]string{"ok", "already_applied", "bad_layout", "bad_signature", "not_registered", "expired",
	"not_found", "stale", "not_admitted", "wrong_epoch", "not_drained", "not_keeper", "too_early", "refused"}

// String gives the stable name of the code.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "unknown"
}

// Done reports whether the statement's effect is in the rows: applied now or
// before.
func (c Code) Done() bool { return c == OK || c == AlreadyApplied }
