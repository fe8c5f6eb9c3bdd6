package bus

// Reload puts in force what can change while the bus runs: which files hold the certificate of the
// embedded server's listener. What is in these files is read again by itself. Everything else in cfg,
// and all of it when the bus is elsewhere, needs a restart. On error nothing has changed.
func (b *Bus) Reload(cfg Config) error {
	if b.server == nil {
		return nil
	}
	return b.server.UseCertificate(cfg.TLS.Cert, cfg.TLS.Key)
}
