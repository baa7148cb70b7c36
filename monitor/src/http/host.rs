//! Keeps pages of strangers out.
//!
//! A browser lets a page read what comes from the page's own host name, and whoever owns that name can let it
//! point to 127.0.0.1 (DNS rebinding). Who listens on loopback alone is only ever asked by an address, or as
//! `localhost`: a request with another name in it is such a page's.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::uri::Authority;

/// Whether the value of a `Host` header means this host.
pub(super) fn names_this_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let ipv6 = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    ipv6.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
        || name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_ours_and_names_are_not() {
        for ours in [
            "127.0.0.1",
            "127.0.0.1:16455",
            "[::1]:16455",
            "localhost",
            "LocalHost:8080",
            "192.0.2.1:80",
        ] {
            assert!(names_this_host(ours), "{ours}");
        }
        for strange in [
            "evil.example",
            "evil.example:16455",
            "127.0.0.1.evil.example",
            "localhost.evil.example:16455",
            "[evil]",
            "",
            "::1",
        ] {
            assert!(!names_this_host(strange), "{strange}");
        }
    }
}
