package loadtest

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if plan := os.Getenv(fakeNodeVariable); plan != "" {
		os.Exit(fakeNode(plan))
	}
	goleak.VerifyTestMain(m)
}
