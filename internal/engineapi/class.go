package engineapi

import "fmt"

// Class is what a replay does with a method.
type Class uint8

// The classes.
const (
	ClassReplay     Class = iota + 1 // newPayloadVn: sent again as it is, but for the witness (Plain)
	ClassForkchoice                  // forkchoiceUpdatedVn: sent again without attributes and witness
	ClassPayload                     // getPayloadVn: skipped, but for comparing what was built
	ClassLatest                      // a hint about the client, of which only the latest counts
	ClassRead                        // everything else: for the primary alone
)

var classNames = [...]string{"", "replay", "forkchoice", "payload", "latest", "read"}

// Classes lists every class.
func Classes() []Class {
	return []Class{ClassReplay, ClassForkchoice, ClassPayload, ClassLatest, ClassRead}
}

// String is the class as a metric label.
func (c Class) String() string {
	if c == 0 || int(c) >= len(classNames) {
		return fmt.Sprintf("unknown_%d", uint8(c))
	}
	return classNames[c]
}

// Stems of the versioned methods. What follows must be a version and nothing else: methods such as
// engine_getPayloadBodiesByHashV1 are others. Geth's WithWitness methods take what their siblings take and do
// what those do to the client's state; their answers have the block's witness besides.
const (
	stemNewPayload = "engine_newPayload"
	stemForkchoice = "engine_forkchoiceUpdated"
	stemGetPayload = "engine_getPayload"
	withWitness    = "WithWitness"
)

// Methods with a meaning of their own.
const (
	MethodExchangeCapabilities = "engine_exchangeCapabilities"
	MethodClientVersion        = "engine_getClientVersionV1"
)

// Classify is the class of a method, known or not.
func Classify(method string) Class {
	switch {
	case versioned(method, stemNewPayload), versioned(method, stemNewPayload+withWitness):
		return ClassReplay
	case versioned(method, stemForkchoice), versioned(method, stemForkchoice+withWitness):
		return ClassForkchoice
	case versioned(method, stemGetPayload):
		return ClassPayload
	case method == MethodExchangeCapabilities:
		return ClassLatest
	}
	return ClassRead
}

// Plain is the method of which method is the one that also answers with a witness, else method itself: the
// one that every client knows.
func Plain(method string) string {
	for _, stem := range [...]string{stemNewPayload, stemForkchoice} {
		if versioned(method, stem+withWitness) {
			return methodName([]byte(stem + method[len(stem+withWitness):]))
		}
	}
	return method
}

// versioned says whether method is stem, V and digits.
func versioned(method, stem string) bool {
	if len(method) < len(stem)+2 || method[:len(stem)] != stem || method[len(stem)] != 'V' {
		return false
	}
	for _, c := range []byte(method[len(stem)+1:]) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// Version is the number behind a versioned method's V, 0 without one.
func Version(method string) int {
	i := len(method)
	for i > 0 && method[i-1] >= '0' && method[i-1] <= '9' {
		i--
	}
	if i == 0 || method[i-1] != 'V' || len(method)-i > 4 {
		return 0
	}
	n := 0
	for _, c := range []byte(method[i:]) {
		n = n*10 + int(c-'0')
	}
	return n
}
