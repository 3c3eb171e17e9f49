//! File descriptors, memory and `io_uring`.

use rustix::process::{Resource, getrlimit};
use tidings_uring::Sends;

use super::finding::Finding;
use crate::config::{Config, available_memory};
use crate::server::needed_descriptors;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    // The server raises the soft limit to the hard one. `None` means unlimited.
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let mut findings = vec![
        descriptors(limit, needed_descriptors(config)),
        memory(
            config.memory_bound().bytes(),
            u64::try_from(available_memory()).unwrap_or(u64::MAX),
        ),
    ];
    if config.server.io_uring {
        let ring = Sends::new(8).map(drop);
        findings.push(io_uring(ring.map_err(|error| error.to_string())));
    }
    findings
}

fn descriptors(limit: u64, needed: u64) -> Finding {
    const CHECK: &str = "descriptors";
    if limit < needed {
        let advice = format!(
            "raise the hard limit to {needed} (LimitNOFILE= of systemd, --ulimit nofile= of a container), \
             or lower limits.connections"
        );
        let message =
            format!("{limit} file descriptors, but the configured limits may need {needed}");
        return Finding::fail(CHECK, message, &advice);
    }
    let limit = match limit {
        u64::MAX => String::from("unlimited"),
        limit => limit.to_string(),
    };
    Finding::ok(CHECK, format!("{limit} allowed, {needed} needed at most"))
}

fn memory(most: u64, available: u64) -> Finding {
    const CHECK: &str = "memory";
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let message = format!(
        "at most {} MiB if every limit is reached at once, {} MiB available",
        mebibytes(most),
        mebibytes(available)
    );
    if most > available {
        let advice = "`tidings check` shows what it is made of: lower limits.connections, limits.outbox_bytes or \
                      history.memory_bytes, or give the process more memory";
        return Finding::warn(CHECK, message, advice);
    }
    Finding::ok(CHECK, message)
}

fn io_uring(ring: Result<(), String>) -> Finding {
    const CHECK: &str = "io_uring";
    match ring {
        Ok(()) => Finding::ok(CHECK, "available: one system call sends to many sockets"),
        Err(error) => Finding::warn(
            CHECK,
            format!(
                "not available: {error}; each send is a system call, which costs more CPU time"
            ),
            "set the sysctl kernel.io_uring_disabled=0, and allow io_uring_setup, io_uring_enter and \
             io_uring_register in the seccomp profile of the container; or set server.io_uring = false",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn too_few_descriptors_fail_with_the_number_needed() {
        let finding = descriptors(1024, 20_000);
        assert_eq!(finding.level, Level::Fail);
        assert!(
            finding
                .advice
                .is_some_and(|advice| advice.contains("20000"))
        );
        assert_eq!(descriptors(20_000, 20_000).level, Level::Ok);
    }

    #[test]
    fn memory_and_ring_only_warn() {
        assert_eq!(memory(2 << 30, 1 << 30).level, Level::Warn);
        assert_eq!(memory(1 << 30, 2 << 30).level, Level::Ok);
        let refused = io_uring(Err(String::from("Operation not permitted")));
        assert_eq!(refused.level, Level::Warn);
    }
}
