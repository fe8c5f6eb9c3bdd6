package main

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
	calls "millrace/internal/engineapi/record"
)

func TestOneRecordedCallIsSentWithoutAMode(t *testing.T) {
	f, err := os.Open(captureFile)
	require.NoError(t, err)
	defer f.Close()
	seqs := map[engineapi.Class]int{}
	at := 1 // a line's request and outcome take a place each
	for p, err := range calls.ReadPairs(f) {
		require.NoError(t, err)
		if class := engineapi.Classify(p.Method); seqs[class] == 0 {
			seqs[class] = at
		}
		at += 2
	}
	for _, class := range []engineapi.Class{engineapi.ClassReplay, engineapi.ClassForkchoice} {
		fresh := newEL(t, 9, eltest.Config{})
		o := call(t, "", nil, "replay", "engine", "--file="+captureFile, "--to="+fresh.URL(), "--jwt-secret="+fresh.file, "--seq="+strconv.Itoa(seqs[class]))
		require.Equal(t, exitOK, o.code, o.errors)
		require.Contains(t, o.out, "mode verbatim: 1 of 1")
		require.Len(t, fresh.CallsOf(class), 1)
	}
}
