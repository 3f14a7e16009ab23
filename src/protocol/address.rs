//! Addresses as Envoy writes them.

use core::net::{IpAddr, SocketAddr};

/// The address without its port, as a caller's key; `10.0.0.7` of `10.0.0.7:5432`.
///
/// An IPv6 address keeps its brackets, and the path of a Unix socket is whole.
pub fn without_port(address: &[u8]) -> &[u8] {
    let port = address.rsplit(|&byte| byte == b':').next();
    let port = port.filter(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit));
    let length = port.and_then(|port| address.len().checked_sub(port.len() + 1));
    length
        .and_then(|length| address.get(..length))
        .unwrap_or(address)
}

/// The IP address of `10.0.0.7:5432` or `[::1]:5432`; a Unix socket has none.
pub fn ip(address: &[u8]) -> Option<IpAddr> {
    let address: SocketAddr = core::str::from_utf8(address).ok()?.parse().ok()?;
    Some(address.ip())
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_key_is_the_address_without_its_port() {
        for (address, key) in [
            ("10.0.0.7:5432", "10.0.0.7"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("/run/app.sock", "/run/app.sock"),
            ("/run/a:b.sock", "/run/a:b.sock"),
            ("@abstract", "@abstract"),
            (":80", ""),
            ("", ""),
        ] {
            let found = without_port(address.as_bytes());
            assert_eq!(found, key.as_bytes(), "{address}");
        }
    }

    #[test]
    fn only_an_address_with_a_port_is_one() {
        assert_eq!(ip(b"10.0.0.7:1"), Some(IpAddr::from([10, 0, 0, 7])));
        assert_eq!(ip(b"[::1]:1"), "::1".parse().ok());
        for text in ["", "10.0.0.7", "10.0.0.7:x", "/run/app.sock", "::1"] {
            assert_eq!(ip(text.as_bytes()), None, "{text}");
        }
        assert_eq!(ip(b"\xff:1"), None);
    }
}
