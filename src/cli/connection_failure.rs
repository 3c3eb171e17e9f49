//! Advice on failed connections: the probable cause, and how to fix it.

/// Error texts of the transport, each with its advice. The first match wins.
const CAUSES: [(&str, &str); 14] = [
    (
        "Connection refused",
        "is a server running there? Start one with `tidings serve --dev`, or set the gRPC address of yours with --server",
    ),
    (
        "lookup address",
        "the host name can't be resolved: check --server",
    ),
    (
        "NoApplicationProtocol",
        "the address is not a gRPC listener: use the internal listener, port 50051 by default",
    ),
    (
        "corrupt message",
        "the server does not use TLS at this address: write http:// instead of https://",
    ),
    (
        "UnknownIssuer",
        "set --ca to the certificate of the authority that signed the server's certificate",
    ),
    (
        "CaUsedAsEndEntity",
        "the server's certificate is a CA certificate: sign a server certificate with it",
    ),
    (
        "NotValidForName",
        "the server's certificate is for another name: use one of its names in --server",
    ),
    (
        "not valid for name",
        "the server's certificate is for another name: use one of its names in --server",
    ),
    (
        "Expired",
        "the server's certificate has expired: renew it, and send the server SIGHUP",
    ),
    (
        "expired",
        "the server's certificate has expired: renew it, and send the server SIGHUP",
    ),
    (
        "CertificateRequired",
        "the server requires a client certificate: pass --client-cert and --client-key",
    ),
    (
        "grpc-status header missing",
        "the address is not Tidings' gRPC listener: use the internal listener, port 50051 by default",
    ),
    (
        "imeout",
        "no response from this address: check the port, firewalls and network policies",
    ),
    (
        "imed out",
        "no response from this address: check the port, firewalls and network policies",
    ),
];

/// The advice for a cause. A server with TLS and the public listener both end a plain HTTP/2
/// connection without an error that would distinguish them.
pub(super) fn advice(address: &str, cause: &str) -> Option<&'static str> {
    let known = CAUSES.iter().find(|(text, _)| cause.contains(text));
    if let Some((_, advice)) = known {
        return Some(advice);
    }
    if !address.starts_with("https://") {
        return Some(
            "the address may use TLS (write https:// then), or be the public listener: \
             name the internal listener, port 50051 by default",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_connection_to_tls_gets_other_advice_than_reverse() {
        let plain = advice("http://h:1", "transport error").expect("advice");
        assert!(plain.contains("https://"), "{plain}");
        let cause = "received corrupt message of type InvalidContentType";
        let tls = advice("https://h:1", cause).expect("advice");
        assert!(tls.contains("http:// instead"), "{tls}");
        assert_eq!(advice("https://h:1", "something new"), None);
    }
}
