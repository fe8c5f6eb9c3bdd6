package workers

import (
	"testing"

	"go.uber.org/goleak"

	"millrace/internal/natstest"
)

func TestMain(m *testing.M) {
	natstest.SideBySide()
	goleak.VerifyTestMain(m)
}
