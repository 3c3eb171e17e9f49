#!/bin/sh
# Makes the user and, at the first installation, a configuration with a secret of its own. The service is not started:
# its configuration must be looked at first.
set -e
if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers /usr/lib/sysusers.d/tidings.conf
elif ! getent passwd tidings >/dev/null; then
  useradd --system --user-group --home-dir /var/lib/tidings --shell /usr/sbin/nologin tidings
fi
if [ ! -e /etc/tidings/tidings.toml ]; then
  /usr/bin/tidings init /etc/tidings/tidings.toml --data /var/lib/tidings >/dev/null
  chown root:tidings /etc/tidings/tidings.toml
  chmod 0640 /etc/tidings/tidings.toml
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # An upgrade restarts a server that runs. Clients reconnect and resume.
  systemctl try-restart tidings.service || true
fi
