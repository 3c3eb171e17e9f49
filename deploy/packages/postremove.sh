#!/bin/sh
# `apt purge` also removes the configuration with its secret. The store in /var/lib/tidings stays: it is data.
set -e
case "$1" in purge) rm -rf /etc/tidings ;; esac
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
