package limit

import (
	"testing"
)

func BenchmarkAllow(b *testing.B) {
	ip := Config{Budget: Budget{Total: Rate{1 << 29, maxWindow}}}
	everything := Config{
		Budget: Budget{Total: Rate{1 << 29, maxWindow}, Method: map[string]Rate{"eth_call": {1 << 29, maxWindow}}},
		PerKey: Budget{Total: Rate{1 << 29, maxWindow}}, All: Budget{Total: Rate{1 << 29, maxWindow}},
	}
	heard := frame{from: 7, note: noteHere}
	for name, c := range map[string]struct {
		cfg    Config
		key    string
		shared bool
	}{
		"off": {}, "ip": {cfg: ip}, "ip shared": {cfg: ip, shared: true},
		"everything": {cfg: everything, key: "key"}, "everything shared": {cfg: everything, key: "key", shared: true},
	} {
		b.Run(name, func(b *testing.B) {
			l := limiter(b, c.cfg, nil)
			if c.shared {
				l.hear(heard.append(nil))
			}
			l.Allow(client, c.key, "eth_call", 1)
			b.ReportAllocs()
			for b.Loop() {
				l.Allow(client, c.key, "eth_call", 1)
			}
		})
	}
}
