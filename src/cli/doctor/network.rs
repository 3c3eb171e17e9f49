//! Listening addresses, and the kernel's limits on connections.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::finding::Finding;
use crate::config::Config;
use crate::server::{BACKLOG, needed_descriptors};

const SYSCTL: &str = "sysctl";

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        listener("public.listen", config.public.listen),
        listener("internal.listen", config.internal.listen),
    ];
    if !config.public.listen.ip().is_loopback() && config.public.cert.is_none() {
        findings.push(Finding::warn(
            "tls",
            "public.listen accepts connections without TLS: tokens can be read on the network",
            "put a proxy with TLS in front, or set public.cert and public.key",
        ));
    }
    let sockets = needed_descriptors(config);
    let wanted = [
        (
            "net.core.somaxconn",
            u64::from(BACKLOG),
            "clients that connect at once wait for the retransmission of their SYN",
        ),
        (
            "net.ipv4.tcp_max_syn_backlog",
            1024,
            "handshakes of clients that connect at once are dropped",
        ),
        (
            "net.netfilter.nf_conntrack_max",
            sockets.saturating_mul(2),
            "the firewall drops new connections",
        ),
        (
            "fs.nr_open",
            sockets,
            "the descriptor limit can't be raised above it",
        ),
        ("fs.file-max", sockets, "sockets can't be opened"),
    ];
    let before = findings.len();
    for (name, least, effect) in wanted {
        if let Some(value) = read(name) {
            findings.extend(sysctl(name, value, least, effect));
        }
    }
    if findings.len() == before {
        findings.push(Finding::ok(
            SYSCTL,
            "the kernel's limits suffice for the configured limits",
        ));
    }
    findings
}

/// The kernel's setting; `None` if there is none of this name, as without a firewall.
fn read(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    // Values of `fs.file-max` may exceed the range of `i64`, but not of `u64`.
    text.trim().parse().ok()
}

fn sysctl(name: &str, value: u64, least: u64, effect: &str) -> Option<Finding> {
    (value < least).then(|| {
        let message = format!("{name} is {value}, at least {least} is needed; otherwise {effect}");
        Finding::warn(SYSCTL, message, &format!("sysctl -w {name}={least}"))
    })
}

fn listener(key: &str, address: SocketAddr) -> Finding {
    const CHECK: &str = "address";
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(CHECK, format!("{key}: {address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::warn(
            CHECK,
            format!("{key}: {address} is in use"),
            "this is expected if Tidings is already running: `tidings healthcheck` probes it",
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::fail(
            CHECK,
            format!("{key}: {address}: {error}"),
            "ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= of systemd)",
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("{key}: {address}: {error}"),
            "use an address of this machine, or 0.0.0.0 for all",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn low_sysctl_names_the_command_that_raises_it() {
        let finding = sysctl("net.core.somaxconn", 128, 4096, "clients wait").expect("too low");
        assert_eq!(finding.level, Level::Warn);
        assert_eq!(
            finding.advice.as_deref(),
            Some("sysctl -w net.core.somaxconn=4096")
        );
        assert_eq!(sysctl("net.core.somaxconn", 4096, 4096, ""), None);
    }

    #[test]
    fn address_in_use_only_warns() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = taken.local_addr().expect("an address");
        assert_eq!(listener("public.listen", address).level, Level::Warn);
        drop(taken);
        assert_eq!(listener("public.listen", address).level, Level::Ok);
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 1));
        assert_eq!(listener("public.listen", elsewhere).level, Level::Fail);
    }
}
