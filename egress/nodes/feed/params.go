package feed

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/rpcapi"
)

// kind is what is subscribed to.
type kind uint8

const (
	kindHeads kind = iota + 1
	kindLogs
	kindPending
	kindSyncing
)

func (k kind) String() string {
	switch k {
	case kindHeads:
		return "newHeads"
	case kindLogs:
		return "logs"
	case kindPending:
		return "newPendingTransactions"
	case kindSyncing:
		return "syncing"
	default:
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
}

// spec is what a client subscribes to. Specs with the same key are the same subscription.
type spec struct {
	kind   kind
	key    string
	filter *filter // of kindLogs
	params string  // the upstream's, where results are passed on
}

// parseSpec reads the parameters of eth_subscribe.
func parseSpec(params []byte) (spec, error) {
	var args []jsontext.Value
	if err := json.Unmarshal(params, &args); err != nil {
		return spec{}, fmt.Errorf("%w: expected an array", rpcapi.ErrSubscriptionParams)
	}
	var name string
	if len(args) == 0 || json.Unmarshal(args[0], &name) != nil {
		return spec{}, fmt.Errorf("%w: expected subscription name as first argument", rpcapi.ErrSubscriptionParams)
	}
	arg := jsontext.Value("null")
	if len(args) > 1 {
		arg = args[1]
	}
	switch {
	case len(args) > 2:
		return spec{}, fmt.Errorf("%w: too many arguments, want at most 2", rpcapi.ErrSubscriptionParams)
	case name == "newHeads" || name == "syncing":
		return plainSpec(name, args)
	case name == "newPendingTransactions":
		return pendingSpec(arg)
	case name == "logs":
		f, err := parseFilter(arg)
		if err != nil {
			return spec{}, fmt.Errorf("%w: %w", rpcapi.ErrSubscriptionParams, err)
		}
		return spec{kind: kindLogs, key: "logs " + f.key(), filter: f}, nil
	}
	return spec{}, fmt.Errorf("%w: %.40q", rpcapi.ErrSubscriptionKind, name)
}

// plainSpec is of a subscription without parameters; null or an object after the name is let pass.
func plainSpec(name string, args []jsontext.Value) (spec, error) {
	if len(args) > 1 && args[1].Kind() != jsontext.KindNull && args[1].Kind() != jsontext.KindBeginObject {
		return spec{}, fmt.Errorf("%w: too many arguments, want at most 1", rpcapi.ErrSubscriptionParams)
	}
	if name == "newHeads" {
		return spec{kind: kindHeads, key: name}, nil
	}
	return spec{kind: kindSyncing, key: name, params: `["syncing"]`}, nil
}

func pendingSpec(arg jsontext.Value) (spec, error) {
	switch arg.Kind() {
	case jsontext.KindTrue:
		return spec{kind: kindPending, key: "newPendingTransactions true", params: `["newPendingTransactions",true]`}, nil
	case jsontext.KindFalse, jsontext.KindNull:
		return spec{kind: kindPending, key: "newPendingTransactions", params: `["newPendingTransactions"]`}, nil
	default:
		return spec{}, fmt.Errorf("%w: expected true or false after the name", rpcapi.ErrSubscriptionParams)
	}
}
