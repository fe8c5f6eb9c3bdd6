package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/eltest/drive"
	"millrace/internal/engineapi"
	calls "millrace/internal/engineapi/record"
)

const captureFile = "../../internal/eltest/testdata/sample.jsonl"

// el is a fake execution client with a secret of its own.
type el struct {
	*eltest.Fake
	secret engineapi.Secret
	file   string
}

// secretFile is a secret of 32 equal bytes, and the file with it.
func secretFile(t *testing.T, b byte) (engineapi.Secret, string) {
	t.Helper()
	text := fmt.Sprintf("%064s", strings.Repeat(fmt.Sprintf("%02x", b), 32))
	s, err := engineapi.ParseSecret(text)
	require.NoError(t, err)
	return s, writeFile(t, text+"\n")
}

func newEL(t *testing.T, b byte, cfg eltest.Config) *el {
	t.Helper()
	e := &el{}
	e.secret, e.file = secretFile(t, b)
	cfg.Secret, cfg.Name = &e.secret, fmt.Sprintf("F%d", b%10)
	e.Fake = eltest.NewFake(cfg)
	require.NoError(t, e.Start())
	t.Cleanup(e.Stop)
	return e
}

// bed is an engine process between a driver and fake clients.
type bed struct {
	*proc
	dir     string
	args    []string
	clients []*el
	secret  engineapi.Secret // of the consensus client
	driver  *drive.Driver
}

// newBed starts an engine with as many secondaries, whose names are b, c and so on.
func newBed(t *testing.T, secondaries int, args ...string) *bed {
	t.Helper()
	b := undriven(t, secondaries, args...)
	b.drive(t)
	return b
}

// drive makes the driver, over what the process has.
func (b *bed) drive(t *testing.T) {
	t.Helper()
	b.driver = drive.New(drive.Config{Target: b.endpoint(), Genesis: miniGenesis(t), BuildWait: time.Microsecond, Seed: 3})
	require.NoError(t, b.driver.Sync(t.Context()))
}

// undriven is a bed without a driver.
func undriven(t *testing.T, secondaries int, args ...string) *bed {
	t.Helper()
	b := &bed{dir: t.TempDir()}
	b.equip(t, secondaries)
	var list []map[string]string
	for i, c := range b.clients[1:] {
		list = append(list, map[string]string{"name": string(rune('b' + i)), "url": c.URL(), "jwt_secret": c.file})
	}
	js, err := json.Marshal(list)
	require.NoError(t, err)
	b.args = append(append(b.args, "--engine.replay.check_every=200ms", "--engine.secondaries="+string(js)), args...)
	b.up(t)
	return b
}

// equip makes the clients, and the arguments without secondaries.
func (b *bed) equip(t *testing.T, secondaries int) {
	t.Helper()
	secret, file := secretFile(t, 0xc1)
	b.secret = secret
	for i := range secondaries + 1 {
		b.clients = append(b.clients, newEL(t, byte(i+1), eltest.Config{OnKill: eltest.KillBares}))
	}
	b.args = []string{
		"engine", "--nats.store_dir=" + filepath.Join(b.dir, "nats"), "--engine.spool_dir=" + filepath.Join(b.dir, "engine"),
		"--engine.listen=" + freeAddr(t), "--engine.primary=" + b.clients[0].URL(), "--engine.jwt_secret=" + file,
		"--engine.primary_jwt_secret=" + b.clients[0].file,
		"--engine.replay.probe_every=50ms", "--engine.replay.retry_min=20ms", "--engine.replay.retry_max=200ms",
	}
}

func (b *bed) up(t *testing.T) {
	t.Helper()
	b.proc = start(t, nil, b.args...)
	b.url("engine")
}

func (b *bed) endpoint() drive.Endpoint {
	return drive.Endpoint{URL: b.url("engine"), Secret: b.secret}
}

func miniGenesis(t *testing.T) drive.Genesis {
	t.Helper()
	g, err := drive.ReadGenesis("../../internal/eltest/testdata/genesis-mini.json")
	require.NoError(t, err)
	return g
}

// slots drives so many random slots.
func (b *bed) slots(t *testing.T, n int) {
	t.Helper()
	for range n {
		require.NoError(t, b.driver.Random(t.Context()))
	}
}

// together waits until the clients are at the driver's head.
func (b *bed) together(t *testing.T, clients ...*el) {
	t.Helper()
	for i, c := range clients {
		eventually(t, fmt.Sprintf("client %d is at the head", i), func() bool { return c.Head().Hash == b.driver.Head().Hash })
	}
}

// command runs a command against the process.
func (b *bed) command(t *testing.T, args ...string) output {
	t.Helper()
	return call(t, "", nil, append(args, "--admin="+b.url("admin"), "--token-file="+filepath.Join(b.dir, "admin.token"))...)
}

// obeyed checks what every secondary may rely on: forkchoices without attributes and in the order in
// which they were sent, no getPayload, tokens of its own.
func obeyed(t *testing.T, c *el) {
	t.Helper()
	for _, s := range c.CallsOf(engineapi.ClassForkchoice) {
		f, err := s.Call.Forkchoice()
		require.NoError(t, err)
		require.False(t, f.Attributes, "I2")
	}
	require.Empty(t, c.CallsOf(engineapi.ClassPayload), "I2")
	for _, s := range c.Calls() {
		require.NoError(t, c.secret.Verify(s.Authorization, s.At.Add(5*time.Second)), "I10")
	}
}

func TestEngineKeepsItsSecondariesAtTheHead(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2)
	b.slots(t, 30)
	b.together(t, b.clients...)
	status, body := get(t, b.url("admin")+"/readyz")
	require.Equal(t, http.StatusOK, status, body)

	// One hangs, one is gone, one after the other and both at once; the primary never notices.
	b.clients[1].Fail(eltest.Fault{Hang: true})
	b.clients[2].Stop()
	b.slots(t, 40)
	require.Equal(t, b.driver.Head().Hash, b.clients[0].Head().Hash)
	b.clients[1].Recover()
	require.NoError(t, b.clients[2].Start())
	b.together(t, b.clients...)
	for _, c := range b.clients[1:] {
		obeyed(t, c)
	}
	o := b.command(t, "engine", "status")
	require.Equal(t, exitOK, o.code, o.errors)
	require.Contains(t, o.out, "secondary")
	o = b.command(t, "engine", "report")
	require.Equal(t, exitOK, o.code, o.errors)
	require.NotContains(t, o.out, "critical")
	require.Equal(t, exitOK, b.stop())
}

func TestInvariant10NoTokenIsKept(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.slots(t, 20)
	b.together(t, b.clients...)
	require.Equal(t, exitOK, b.stop())
	require.NotContains(t, b.log.String(), "eyJ")
	require.NoError(t, filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.False(t, bytes.Contains(data, []byte("eyJ")), path)
		require.False(t, bytes.Contains(bytes.ToLower(data), []byte("authorization")), path)
		return nil
	}))
}

// I11: what the door refuses reaches neither the primary nor a secondary.
func TestInvariant11RefusedCallsReachNobody(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.slots(t, 3)
	b.together(t, b.clients...)
	before := len(b.clients[0].CallsOf(engineapi.ClassForkchoice)) // what it is asked by ourselves comes at any time
	wrong := drive.Endpoint{URL: b.url("engine"), Secret: b.clients[0].secret}
	head := b.driver.Head()
	for range 3 {
		_, err := wrong.Call(t.Context(), "engine_forkchoiceUpdatedV1", map[string]any{
			"headBlockHash": eltest.GenesisBlock.Hash, "safeBlockHash": eltest.GenesisBlock.Hash, "finalizedBlockHash": eltest.GenesisBlock.Hash,
		}, nil)
		require.ErrorContains(t, err, "signature is invalid")
	}
	require.Len(t, b.clients[0].CallsOf(engineapi.ClassForkchoice), before)
	b.slots(t, 1)
	b.together(t, b.clients...)
	for _, s := range b.clients[1].CallsOf(engineapi.ClassForkchoice) {
		f, err := s.Call.Forkchoice()
		require.NoError(t, err)
		require.NotEqual(t, eltest.GenesisBlock.Hash, f.Finalized)
	}
	require.NotEqual(t, head, b.driver.Head())
}

func TestPromotionIsRefusedWithItsReasonAndSurvivesARestart(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2)
	b.slots(t, 10)
	b.together(t, b.clients...)
	b.clients[2].Stop()
	b.slots(t, 5)
	b.together(t, b.clients[0], b.clients[1])
	for name, reason := range map[string]string{"nobody": "no execution client", "primary": "already", "c": "not in sync"} {
		o := b.command(t, "engine", "promote", name)
		require.NotEqual(t, exitOK, o.code)
		require.Contains(t, o.errors, reason)
	}
	o := b.command(t, "engine", "promote", "b")
	require.Equal(t, exitOK, o.code, o.errors)
	b.slots(t, 10)
	b.together(t, b.clients[0], b.clients[1])
	require.NoError(t, b.clients[2].Start())
	b.together(t, b.clients...)
	obeyed(t, b.clients[2])

	require.Equal(t, exitOK, b.stop())
	b.clients[0].Forget()
	b.up(t)
	b.slots(t, 5)
	b.together(t, b.clients...)
	require.NotEmpty(t, b.clients[1].CallsOf(engineapi.ClassPayload), "b builds")
	require.Empty(t, b.clients[0].CallsOf(engineapi.ClassPayload))
}

func TestModesAreSwitchedWhileItRuns(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.slots(t, 5)
	b.together(t, b.clients...)
	o := b.command(t, "engine", "modes", "b", "off")
	require.Equal(t, exitOK, o.code, o.errors)
	eventually(t, "off", func() bool { return strings.Contains(b.command(t, "engine", "modes", "b").out, "off") })
	at := b.clients[1].Head()
	b.slots(t, 5)
	require.Equal(t, at, b.clients[1].Head())
	require.Equal(t, exitUsage, b.command(t, "engine", "modes", "b", "sideways").code)
	require.NotEqual(t, exitOK, b.command(t, "engine", "modes", "nobody", "off").code)
	require.Equal(t, exitOK, b.command(t, "engine", "modes", "b", "configured").code)
	b.together(t, b.clients...)
}

// The primary is caught up from the record after an outage during which the network went on.
func TestAPrimaryThatWasAwayIsCaughtUp(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	network := newEL(t, 0x77, eltest.Config{})
	b.driver = drive.New(drive.Config{
		Target: b.endpoint(), Network: &drive.Endpoint{URL: network.URL(), Secret: network.secret}, Genesis: miniGenesis(t), BuildWait: time.Microsecond, Seed: 5,
	})
	require.NoError(t, b.driver.Sync(t.Context()))
	b.slots(t, 5)
	b.together(t, b.clients...)
	b.clients[0].Stop()
	b.slots(t, 50)
	require.NotZero(t, b.driver.Refused())
	require.NoError(t, b.clients[0].Start())
	b.together(t, b.clients[0])
	b.together(t, b.clients[1])
	obeyed(t, b.clients[1])
}

// As geth was seen with the hash scheme: killed while it was caught up it knew blocks whose state it had
// lost, VALID themselves, SYNCING their child.
func TestASecondaryThatWasKilledWhileItWasCaughtUpGetsOn(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, "--engine.replay.payload_timeout=2s", "--engine.replay.forkchoice_timeout=2s")
	c := b.clients[1]
	b.slots(t, 15)
	b.together(t, b.clients...)
	c.Stop()
	b.slots(t, 15)
	c.Forget()
	c.Fail(eltest.Fault{Methods: []string{"engine_forkchoiceUpdatedV4"}, Hang: true})
	require.NoError(t, c.Start())
	eventually(t, "its payloads are sent", func() bool { return len(c.CallsOf(engineapi.ClassForkchoice)) > 0 })
	b.slots(t, 30)
	c.Kill()
	c.Recover()
	require.NoError(t, c.Start())
	b.together(t, b.clients...)
}

// I1: what the consensus client gets is the primary's, byte for byte, whatever a secondary does.
func TestInvariant1AnswersAreThePrimarysWhateverASecondaryDoes(t *testing.T) {
	capture, err := os.ReadFile(captureFile)
	require.NoError(t, err)
	for name, trouble := range map[string]func(*el){
		"healthy": func(*el) {},
		"hangs":   func(c *el) { c.Fail(eltest.Fault{Hang: true}) },
		"gone":    func(c *el) { c.Stop() },
		"garbles": func(c *el) { c.Fail(eltest.Fault{Garble: true, Body: "<html>"}) },
		"refuses": func(c *el) { c.Fail(eltest.Fault{Status: http.StatusUnauthorized, Body: "stale token"}) },
	} {
		t.Run(name, func(t *testing.T) {
			// Our own questions would be given the answers that are for the consensus client.
			b := newBed(t, 1, "--engine.replay.check_every=1h")
			eventually(t, "both are known", func() bool { return strings.Count(b.command(t, "engine", "status").out, "live") == 2 })
			require.NoError(t, b.clients[0].Script(bytes.NewReader(capture)))
			trouble(b.clients[1])
			for p, err := range calls.ReadPairs(bytes.NewReader(capture)) {
				require.NoError(t, err)
				if p.Method == engineapi.MethodClientVersion {
					continue // the secondary's entry is added to it
				}
				require.Equal(t, string(p.Answer), b.post(t, p.Request), p.Seq)
			}
			b.clients[1].Recover()
		})
	}
}

// post sends a body as the consensus client and is the answer's.
func (b *bed) post(t *testing.T, body []byte) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url("engine"), bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", b.secret.Authorization(time.Now()))
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return string(answer)
}

// With a bus of its own a second engine waits for the first one's lease.
func TestASecondEngineWaitsForTheLease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nats := freeAddr(t)
	_, file := secretFile(t, 0xc1)
	primary := newEL(t, 1, eltest.Config{})
	args := func(name string) []string {
		return []string{
			"engine", "--nats.url=nats://" + nats, "--nats.creds=" + filepath.Join(dir, "auth", "role.nk"), "--engine.spool_dir=" + filepath.Join(dir, name), "--nats.store_dir=" + filepath.Join(dir, name, "nats"),
			"--engine.listen=127.0.0.1:0", "--engine.primary=" + primary.URL(), "--engine.jwt_secret=" + file, "--engine.primary_jwt_secret=" + primary.file,
		}
	}
	start(t, nil, "bus", "--nats.listen="+nats, "--nats.store_dir="+filepath.Join(dir, "nats"), "--engine.primary="+primary.URL()).line("started", 1)
	first := start(t, nil, args("first")...)
	first.url("engine")
	second := start(t, nil, args("second")...)
	second.line("starting", 1)
	status, body := get(t, "http://"+second.line("starting", 1)["admin"].(string)+"/readyz") //nolint:forcetypeassert // an address
	require.Equal(t, http.StatusServiceUnavailable, status, body)
	require.Nil(t, second.log.find("started", 1))
	require.Equal(t, exitOK, first.stop())
	second.url("engine")
}
