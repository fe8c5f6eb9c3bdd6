package embedded_test

import (
	"testing"

	"millrace/internal/natstest"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }
