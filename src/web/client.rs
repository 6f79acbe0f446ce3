//! Where a request comes from: the peer, or whom a trusted proxy names.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;

use crate::dicom::receive::Network;

/// Each proxy adds whom it was asked by at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of a request's client, never IPv4 mapped to IPv6.
pub(super) fn address_of(req: &HttpRequest, trusted: &[Network]) -> Option<IpAddr> {
    let peer = req.peer_addr()?.ip().to_canonical();
    Some(client(peer, req.headers(), trusted))
}

/// What a trusted peer names: the last address that is no trusted proxy itself, for whatever stands before it the
/// client may have written. The peer where nobody else is named, and where anything up to there is no address.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    // several lines are one list
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).collect();
    for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else { return peer };
        for item in line.rsplit(',') {
            let Ok(address) = item.trim_matches([' ', '\t']).parse::<IpAddr>() else {
                return peer;
            };
            let address = address.to_canonical();
            if !is_trusted(address) {
                return address;
            }
        }
    }
    peer
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[track_caller]
    fn check(peer: &str, lines: &[&'static str], expected: &str) {
        let trusted = ["10.0.9.0/24", "2001:db8:9::/48"].map(|n| n.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = HeaderName::from_static(FORWARDED_FOR);
            headers.append(name, HeaderValue::from_static(line));
        }
        let found = client(peer.parse().unwrap(), &headers, &trusted);
        assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{lines:?}");
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        check("10.0.9.1", &["192.0.2.7"], "192.0.2.7");
        check("10.0.9.1", &["192.0.2.7, 10.0.9.2"], "192.0.2.7");
        check("10.0.9.1", &["192.0.2.7\t,\t10.0.9.2"], "192.0.2.7");
        check("10.0.9.1", &["::ffff:192.0.2.7"], "192.0.2.7");
        check("2001:db8:9::1", &["2001:db8:7::5"], "2001:db8:7::5");
        check("10.0.9.1", &["192.0.2.7", "10.0.9.3,10.0.9.2"], "192.0.2.7");
    }

    #[test]
    fn what_a_client_writes_itself_is_not_believed() {
        check("192.0.2.7", &["198.51.100.1"], "192.0.2.7");
        check("10.0.9.1", &["198.51.100.1, 192.0.2.7"], "192.0.2.7");
        check("10.0.9.1", &["198.51.100.1", "192.0.2.7"], "192.0.2.7");
        check("10.0.9.1", &["<script>, 192.0.2.7"], "192.0.2.7");
    }

    #[test]
    fn what_is_no_list_of_addresses_leaves_the_peer() {
        check("10.0.9.1", &[], "10.0.9.1");
        for junk in [
            "",
            "unknown",
            "192.0.2.7,",
            "192.0.2.7:443",
            "[2001:db8:7::5]",
            "192.0.2",
            "192.0.2.007",
            "192.0.2.7, for=10.0.9.2",
            "192.0.2.7 10.0.9.2",
            "10.0.9.3, 10.0.9.2",
        ] {
            check("10.0.9.1", &[junk], "10.0.9.1");
        }
    }
}
