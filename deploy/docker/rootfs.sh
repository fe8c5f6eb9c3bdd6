#!/bin/sh
# Lays out the root filesystem of the image: rootfs.sh BINARY DIRECTORY. The Dockerfile and the test that
# runs it without a container engine both use it.
set -eu
binary=$1 root=$2
umask 022
mkdir -p "$root/etc/ssl/certs" "$root/data" "$root/tmp"
chmod 1777 "$root/tmp"
install -m 0755 "$binary" "$root/millrace"
echo 'millrace:x:65532:65532::/data:/millrace' >"$root/etc/passwd"
echo 'millrace:x:65532:' >"$root/etc/group"
# For builders behind TLS.
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
  install -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
fi
chown 65532:65532 "$root/data"
chmod 0700 "$root/data"
