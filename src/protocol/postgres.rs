//! PostgreSQL: what a client says first, and the refusal that it understands.
//!
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol", sections "Message Formats" and
//! "Error and Notice Message Fields".

use alloc::vec::Vec;

/// The longest first message that a server accepts, in bytes.
pub const MAX_FIRST: usize = 10_000;

/// `N`: the server does not speak TLS (or GSSAPI); the client may go on without.
pub const NO_ENCRYPTION: &[u8] = b"N";

/// A client's question whether the server speaks TLS; it answers with one byte. It can be asked once.
pub const ASKS_FOR_TLS: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The same for GSSAPI.
pub const ASKS_FOR_GSSAPI: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const PROTOCOL_3: u32 = 3;

/// What a client's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The message goes on; nothing can be said yet.
    Incomplete,
    /// It asks whether the server encrypts; answer [`NO_ENCRYPTION`] and it asks something else,
    /// or leaves.
    EncryptionRequest,
    /// It begins a session; an [`error`] is an answer.
    Startup,
    /// It wants a running query cancelled; no answer exists, it only waits for the close.
    Cancel,
    /// No PostgreSQL client speaks like that.
    Foreign,
}

impl First {
    /// Reads the first message from all bytes that have come so far.
    pub fn read(bytes: &[u8]) -> Self {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
            return Self::Incomplete;
        };
        let length = u32::from_be_bytes(*length) as usize;
        if !(8..=MAX_FIRST).contains(&length) {
            return Self::Foreign;
        }
        let Some((code, _)) = rest.split_first_chunk::<4>() else {
            return Self::Incomplete;
        };
        let code = u32::from_be_bytes(*code);
        let complete = bytes.len() >= length;
        match code {
            SSL_REQUEST | GSSENC_REQUEST if length == 8 => Self::EncryptionRequest,
            CANCEL_REQUEST if complete => Self::Cancel,
            _ if code >> 16 == PROTOCOL_3 && complete => Self::Startup,
            _ if code == CANCEL_REQUEST || code >> 16 == PROTOCOL_3 => Self::Incomplete,
            _ => Self::Foreign,
        }
    }
}

/// A parameter of a complete startup message, such as `user`.
pub fn parameter<'a>(startup: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(*startup.first_chunk()?) as usize;
    let mut texts = startup.get(8..length)?.split(|&byte| byte == 0);
    // Pairs of texts until an empty name.
    while let Some(key) = texts.next().filter(|key| !key.is_empty()) {
        let value = texts.next()?;
        if key == name.as_bytes() {
            return Some(value);
        }
    }
    None
}

/// An `ErrorResponse`: FATAL, SQLSTATE 53300 (`too_many_connections`), with a hint.
///
/// A NUL in either text would end the field; it is left out.
pub fn error(message: &str, hint: &str) -> Vec<u8> {
    let fields = [
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', "53300"),
        (b'M', message),
        (b'H', hint),
    ];
    let mut body = Vec::with_capacity(message.len() + hint.len() + 32);
    for (tag, text) in fields {
        body.push(tag);
        body.extend(text.bytes().filter(|&b| b != 0));
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let mut packet = Vec::with_capacity(body.len() + 5);
    packet.push(b'E');
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&body);
    packet
}

/// So many bytes of an answer tell whether it is a refusal.
pub const ERROR_HEAD: usize = 512;

/// Whether a server's first bytes are an `ErrorResponse` with SQLSTATE 53300
/// (`too_many_connections`). No when they are encrypted, or too few to tell.
pub fn is_too_many(bytes: &[u8]) -> bool {
    let fields = match bytes {
        [b'E', _, _, _, _, fields @ ..] => fields,
        _ => return false,
    };
    // A field ends with a zero; one that has not ended may go on.
    fields
        .split_inclusive(|&byte| byte == 0)
        .take_while(|field| *field != b"\0")
        .any(|field| field == b"C53300\0")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn message(code: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = (8 + body.len() as u32).to_be_bytes().to_vec();
        bytes.extend(code.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn startup() -> Vec<u8> {
        message(3 << 16, b"user\0app\0\0")
    }

    #[test]
    fn every_first_message_is_told_apart() {
        assert_eq!(First::read(&startup()), First::Startup);
        assert_eq!(First::read(&message((3 << 16) + 2, b"\0")), First::Startup);
        for (code, bytes) in [
            (SSL_REQUEST, ASKS_FOR_TLS),
            (GSSENC_REQUEST, ASKS_FOR_GSSAPI),
        ] {
            assert_eq!(message(code, b""), bytes);
            assert_eq!(First::read(bytes), First::EncryptionRequest);
        }
        assert_eq!(
            First::read(&message(CANCEL_REQUEST, &[0; 8])),
            First::Cancel
        );
        assert_eq!(First::read(&message(2 << 16, b"")), First::Foreign);
        assert_eq!(First::read(b"GET / HTTP/1.1\r\n"), First::Foreign);
        assert_eq!(First::read(b"\x16\x03\x01\x02\x00\x01"), First::Foreign);
    }

    #[test]
    fn an_oversized_message_is_foreign_before_it_has_come() {
        assert_eq!(First::read(&10_001_u32.to_be_bytes()), First::Foreign);
        assert_eq!(First::read(&u32::MAX.to_be_bytes()), First::Foreign);
        assert_eq!(First::read(&10_000_u32.to_be_bytes()), First::Incomplete);
    }

    #[test]
    fn the_error_has_the_fields_that_a_client_shows() {
        let packet = error("too many\0 connections", "wait");
        assert_eq!(
            packet,
            b"E\0\0\0\x36SFATAL\0VFATAL\0C53300\0Mtoo many connections\0Hwait\0\0"
        );
    }

    #[test]
    fn a_parameter_of_the_startup_message_is_found_by_its_name() {
        let startup = message(
            3 << 16,
            b"user\0app\0database\0\0application_name\0user\0\0",
        );
        assert_eq!(parameter(&startup, "user"), Some(&b"app"[..]));
        assert_eq!(parameter(&startup, "database"), Some(&b""[..]));
        assert_eq!(parameter(&startup, "application_name"), Some(&b"user"[..]));
        assert_eq!(parameter(&startup, "app"), None);
        assert_eq!(parameter(b"\0\0", "user"), None);
    }

    #[test]
    fn a_servers_own_refusal_is_recognized() {
        assert!(is_too_many(&error("sorry, too many clients already", "")));
        let mut other = error("C53300", "");
        if let Some(at) = other.windows(6).position(|bytes| bytes == b"C53300") {
            other[at + 1] = b'2';
        }
        assert!(!is_too_many(&other));
        assert!(!is_too_many(b"N") && !is_too_many(b"") && !is_too_many(b"R\0\0\0\x08"));
    }

    #[test]
    fn a_refusal_is_none_before_its_number_has_ended() {
        let (refusal, at) = (error("", ""), b"E....SFATAL\0VFATAL\0C53300".len());
        assert!(!is_too_many(refusal.get(..at).expect("shorter")));
        assert!(is_too_many(refusal.get(..=at).expect("shorter")));
        // What stands behind the last field is none.
        assert!(!is_too_many(b"E\0\0\0\x10SFATAL\0\0C53300\0"));
        assert!(!is_too_many(b"E\0\0\0\x10SFATAL\0C533001\0\0"));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(bytes in any::<Vec<u8>>()) {
            let _ = is_too_many(&bytes);
            let _ = parameter(&bytes, "user");
        }

        #[test]
        fn any_bytes_in_any_chunks_are_read_without_panic(bytes in any::<Vec<u8>>()) {
            for end in 0..=bytes.len() {
                let _ = First::read(bytes.get(..end).unwrap_or_default());
            }
        }

        #[test]
        fn a_message_is_incomplete_until_its_last_byte(end in 0_usize..17) {
            let bytes = startup();
            prop_assert_eq!(First::read(bytes.get(..end).expect("shorter")), First::Incomplete);
        }
    }
}
