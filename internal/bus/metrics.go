package bus

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/order"
)

// metrics are the bus's series; every label value exists from the start.
type metrics struct {
	published   *prometheus.HistogramVec // by stage and class
	retries     *prometheus.CounterVec
	duplicates  *prometheus.CounterVec
	full        *prometheus.CounterVec
	unavailable *prometheus.CounterVec

	delivered   *prometheus.CounterVec
	verdicts    *prometheus.CounterVec // ack, refuse, nak
	redelivered *prometheus.CounterVec
	undecodable *prometheus.CounterVec
	reopened    *prometheus.CounterVec // by reason
	pending     *prometheus.GaugeVec
	ackPending  *prometheus.GaugeVec
	held        *prometheus.GaugeVec
	heldBytes   *prometheus.GaugeVec
	heldMax     *prometheus.GaugeVec
	nested      prometheus.Counter
	repaired    prometheus.Counter

	tapped   *prometheus.CounterVec // by stage and class
	untapped *prometheus.CounterVec
	passed   *prometheus.CounterVec // by stage and class
	dropped  *prometheus.CounterVec // by class
	fetched  *prometheus.CounterVec

	reconnects    *prometheus.CounterVec
	faults        *prometheus.CounterVec
	badVerdicts   prometheus.Counter
	lostRefusals  prometheus.Counter
	leaseHeld     *prometheus.GaugeVec
	leaseLost     prometheus.Counter
	ledgerRetries prometheus.Counter
	fenced        prometheus.Counter
}

// Stages of a publish, as labels.
const (
	stageIn       = "in"
	stageOK       = "ok"
	stageRejected = "rejected"
	stageDone     = "done"
)

// Reasons for reopening a consumer, as labels.
const (
	reopenSilent    = "silent"
	reopenMissing   = "missing"
	reopenClosed    = "closed"
	reopenReconnect = "reconnect"
	reopenTapped    = "tapped"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "millrace_bus_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "millrace_bus_" + name, Help: help}, labels)
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_bus_" + name, Help: help}, labels)
	}
	m := &metrics{
		published: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_bus_publish_seconds", Help: "Time from a publish to its acknowledgement, tries included.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 2, 18),
		}, []string{"stage", "priority"}),
		retries:       counters("publish_retries_total", "Publishes sent again because their fate was unknown.", "stage", "priority"),
		duplicates:    counters("publish_duplicates_total", "Publishes that the store had already.", "stage", "priority"),
		full:          counters("publish_full_total", "Publishes refused because the store had no room.", "stage", "priority"),
		unavailable:   counters("publish_unavailable_total", "Publishes given up with their fate unknown.", "stage", "priority"),
		delivered:     counters("delivered_total", "Messages handed to this process.", "stage", "priority"),
		verdicts:      counters("verdicts_total", "What became of consumed orders: ack, refuse or nak.", "priority", "verdict"),
		redelivered:   counters("redelivered_total", "Messages handed out that had been handed out before.", "stage", "priority"),
		undecodable:   counters("undecodable_total", "Messages taken off a stream because their header can't be read.", "stage", "priority"),
		reopened:      counters("consumer_reopened_total", "Consumers opened again, by reason.", "stage", "priority", "reason"),
		pending:       gauges("consumer_pending", "Messages of a stream that the consumer has not handed out.", "stage", "priority"),
		ackPending:    gauges("consumer_ack_pending", "Messages handed out and not acknowledged.", "stage", "priority"),
		held:          gauges("held", "Orders that this process holds: waiting, being worked on or finishing.", "priority"),
		heldBytes:     gauges("held_bytes", "Bytes of the orders that this process holds.", "priority"),
		heldMax:       gauges("held_max", "Most orders that this process holds.", "priority"),
		nested:        counter("nested_total", "Orders run between the steps of a less urgent one."),
		repaired:      counter("feed_repaired_total", "Messages lost between server and client and read again by sequence."),
		tapped:        counters("tapped_total", "Orders handed to consumers of this process without their consumer.", "stage", "priority"),
		untapped:      counters("untapped_total", "Orders left to their consumer because there was no room to tap them.", "stage", "priority"),
		passed:        counters("tap_passed_total", "Tapped orders that ended and that the consumer was moved over, unread.", "stage", "priority"),
		dropped:       counters("tap_dropped_total", "Tapped orders that the store did not take, or had already.", "priority"),
		fetched:       counters("tap_fetched_total", "Orders that were read by sequence because they came without their body.", "priority"),
		reconnects:    counters("reconnects_total", "Connections made again after they were lost.", "connection"),
		faults:        counters("connection_faults_total", "Faults that the client library reported aside.", "connection", "kind"),
		badVerdicts:   counter("bad_verdicts_total", "Verdicts that can't be read."),
		lostRefusals:  counter("lost_refusals_total", "Refusals not kept for repeats because their bucket is full."),
		leaseHeld:     gauges("lease_held", "One for each lease that this process holds.", "lease"),
		leaseLost:     counter("leases_lost_total", "Leases that ended while they were in use."),
		ledgerRetries: counter("ledger_retries_total", "Ledger batches sent again because their fate was unknown."),
		fenced:        counter("fenced_total", "Ledger batches refused because another process wrote."),
	}
	m.prepare()
	return m
}

// prepare creates each label value, so that zero is visible.
func (m *metrics) prepare() {
	for _, p := range order.Priorities {
		for _, stage := range []string{stageIn, stageOK, stageRejected} {
			m.published.WithLabelValues(stage, p.String())
			for _, v := range []*prometheus.CounterVec{m.retries, m.duplicates, m.full, m.unavailable} {
				v.WithLabelValues(stage, p.String())
			}
		}
		for _, stage := range []string{stageIn, stageOK} {
			for _, v := range []*prometheus.CounterVec{m.delivered, m.redelivered, m.undecodable, m.tapped, m.untapped, m.passed} {
				v.WithLabelValues(stage, p.String())
			}
			for _, reason := range []string{reopenSilent, reopenMissing, reopenClosed, reopenReconnect, reopenTapped} {
				m.reopened.WithLabelValues(stage, p.String(), reason)
			}
		}
		for _, v := range []string{"ack", "refuse", "nak"} {
			m.verdicts.WithLabelValues(p.String(), v)
		}
		m.dropped.WithLabelValues(p.String())
		m.fetched.WithLabelValues(p.String())
		m.held.WithLabelValues(p.String())
		m.heldBytes.WithLabelValues(p.String())
		m.heldMax.WithLabelValues(p.String()).Set(maxHeld)
	}
	for _, u := range useNames[1:] {
		m.reconnects.WithLabelValues(u)
		for _, kind := range []string{"slow_consumer", "permission", "other"} {
			m.faults.WithLabelValues(u, kind)
		}
	}
}
