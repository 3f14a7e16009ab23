//! What a MySQL server says first: the verdict does not depend on the pieces in which it comes.

use tidegate::protocol::mysql::{self, ERROR_HEAD};

/// The bytes come one by one, which is every way of cutting them.
pub fn run(data: &[u8]) {
    let whole = mysql::is_too_many(data);
    for end in 0..=data.len().min(64) {
        let seen = mysql::is_too_many(&data[..end]);
        assert_eq!(seen, whole && end >= ERROR_HEAD, "{end} bytes");
    }

    // What we answer is one whole packet, whatever its text is.
    let packet = mysql::error(&String::from_utf8_lossy(data));
    let [a, b, c, number, ..] = packet[..] else {
        panic!("no packet");
    };
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    assert_eq!((length + 4, number), (packet.len(), 0));
    assert!(packet.len() <= 1024 && mysql::is_too_many(&packet));
}
