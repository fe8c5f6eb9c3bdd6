package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"millrace/internal/config"
)

// secrets are the keys whose values are never printed, beside those that their owners mark.
func secrets() []string {
	return []string{"nats.token", "worker.signer_cache.secret", "egress.orderflow_signer"}
}

// aliases are the variables of the predecessors that say the same in other words. Those that only
// have another name are in the env tags of the keys.
func aliases() []config.Alias {
	return []config.Alias{
		{Env: "METRICS_ADDR", Key: "admin.listen"},
		{Env: "LOG_JSON", Key: "log.format", Map: ifTrue("json")},
		{Env: "LOG_DEBUG", Key: "log.level", Map: ifTrue("debug")},
		{Env: "RUST_LOG", Key: "log.level", Map: rustLevel},
		{Env: "MAX_REQUEST_BODY_SIZE_BYTES", Key: "ingress.max_body", Map: unlessZero},
		// A limit for all together became one for each signer, which can only let more through.
		{Env: "MAX_USER_RPS", Key: "ingress.rate_limit.count", Map: unlessZero},
		{Env: "MAX_USER_RPS", Key: "ingress.rate_limit.enabled", Map: ifPositive},
		// prio-load-balancer's. JOB_CHAN_BUFFER has no key: nothing leaves a queue before its node has a place.
		{Env: "REQUEST_TIMEOUT", Key: "gateway.queues.timeout", Map: wholeSeconds},
		{Env: "JOB_SEND_TIMEOUT", Key: "gateway.queues.dispatch_timeout", Map: wholeSeconds},
		{Env: "REQUEST_PROXY_TIMEOUT", Key: "gateway.node_timeout", Map: wholeSeconds},
		{Env: "PAYLOAD_MAX_KB", Key: "gateway.max_body", Map: kilobytes},
		{Env: "LOG_PROD", Key: "log.format", Map: ifTrue("json")},
		{Env: "LOG_SERVICE", Key: "node.name"},
		{Env: "PEER_UPDATE_INTERVAL_S", Key: "peers.hub.every", Map: wholeSeconds},
	}
}

// unsupported are the variables of the predecessors that would mean something here but can't be
// honoured yet.
func unsupported() []string {
	return []string{
		"PRIVATE_KEY_PEM_FILE", "CERTIFICATE_PEM_FILE", "ORDERFLOW_ARCHIVE_ENDPOINT", "ARCHIVE_WORKER_COUNT", "CONN_PER_PEER",
		"DISK_BACKUP_SIZE_REJECT_FLOW_THRESHOLD_MB", "DISK_BACKUP_SIZE_TO_RESUME_FLOW_THRESHOLD_MB",
		"TCP_SMALL_CLIENTS", "TCP_BIG_CLIENTS", "ORDERFLOW_SIGNER_KEY", "PARQUET_BUNDLE_RECEIPTS_FILE_PATH",
		"CLICKHOUSE_HOST", "CLICKHOUSE_USERNAME", "CLICKHOUSE_PASSWORD", "CLICKHOUSE_DATABASE",
		"REDIS_URI", "REDIS_PREFIX", // the set of nodes is kept on the bus
	}
}

func ifTrue(value string) func(string) (string, error) {
	return func(v string) (string, error) {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return "", fmt.Errorf("%q is neither true nor false", v)
		}
		if !on {
			return "", nil
		}
		return value, nil
	}
}

func unlessZero(v string) (string, error) {
	if v == "0" {
		return "", nil // "no limit" there, the default here
	}
	return v, nil
}

func ifPositive(v string) (string, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		return "", err
	}
	return "true", nil
}

// wholeSeconds reads prio-load-balancer's durations; what is none is its default, and so is ours.
func wholeSeconds(v string) (string, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		return "", nil //nolint:nilerr // it says nothing either
	}
	return (time.Duration(n) * time.Second).String(), nil
}

// kilobytes reads a size as wholeSeconds reads a time.
func kilobytes(v string) (string, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		return "", nil //nolint:nilerr // as above
	}
	return strconv.Itoa(n) + "KiB", nil
}

// rustLevel takes a plain level; a filter by module has no meaning here.
func rustLevel(v string) (string, error) {
	switch level := strings.ToLower(v); level {
	case "debug", "info", "warn", "error":
		return level, nil
	case "trace":
		return "debug", nil
	default:
		return "", nil
	}
}
