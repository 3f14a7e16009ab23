//! MySQL and MariaDB: the refusal that a client understands in place of a greeting.
//!
//! Source: MySQL internals manual, "Connection Phase" and "ERR_Packet".

use alloc::vec::Vec;

/// `ER_CON_COUNT_ERROR`: too many connections.
pub const TOO_MANY_CONNECTIONS: u16 = 1040;

/// SQLSTATE of [`TOO_MANY_CONNECTIONS`].
const SQLSTATE: &[u8; 6] = b"#08004";

/// The longest text that is sent; the rest is cut off.
const MAX_TEXT: usize = 512;

/// An ERR packet 1040, as the first packet of a connection.
pub fn error(message: &str) -> Vec<u8> {
    let text: Vec<u8> = message.bytes().take(MAX_TEXT).collect();
    let [low, high] = TOO_MANY_CONNECTIONS.to_le_bytes();
    let length = 3 + SQLSTATE.len() + text.len();
    let [a, b, c, _] = (length as u32).to_le_bytes();
    let mut packet = Vec::with_capacity(length + 4);
    packet.extend_from_slice(&[a, b, c, 0, 0xff, low, high]);
    packet.extend_from_slice(SQLSTATE);
    packet.extend_from_slice(&text);
    packet
}

/// So many bytes of a greeting tell whether it is a refusal.
pub const ERROR_HEAD: usize = 7;

/// Whether a server's first bytes are an ERR packet 1040.
pub fn is_too_many(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, 0xff, low, high, ..]
        if u16::from_le_bytes([*low, *high]) == TOO_MANY_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn the_error_has_its_length_number_and_state() {
        assert_eq!(error("busy"), b"\x0d\0\0\0\xff\x10\x04#08004busy");
    }

    #[test]
    fn a_servers_own_refusal_is_recognized() {
        assert!(is_too_many(&error("Too many connections")));
        assert!(!is_too_many(b"\x4a\0\0\0\x0a8.0.30\0"));
        assert!(!is_too_many(b"\0\0\0\0\xff\x10"));
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(error(&"x".repeat(10_000)).len(), 4 + 9 + MAX_TEXT);
    }
}
