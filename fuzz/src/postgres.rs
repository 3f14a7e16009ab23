//! What a PostgreSQL client and a server say first: the verdict does not depend on the pieces in
//! which it comes.

use tidegate::protocol::postgres::{self, First, MAX_FIRST};

/// The bytes come one by one, which is every way of cutting them.
pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(MAX_FIRST + 16)];
    let mut decided = None;
    let mut refused = false;
    for end in 0..=data.len() {
        let seen = &data[..end];
        let first = First::read(seen);
        match decided {
            None if first == First::Incomplete => assert!(end < MAX_FIRST),
            None => decided = Some((first, parameters(first, seen))),
            Some(ref verdict) => {
                assert_eq!(*verdict, (first, parameters(first, seen)), "{end} bytes");
            }
        }
        // A refusal is one whatever follows.
        let too_many = postgres::is_too_many(seen);
        assert!(too_many || !refused, "{end} bytes");
        refused = too_many;
    }
    answers(data);
}

/// Who a client says that it is, if it says that.
fn parameters(first: First, bytes: &[u8]) -> [Option<Vec<u8>>; 3] {
    ["user", "database", "application_name"].map(|name| {
        let value = postgres::parameter(bytes, name).map(<[u8]>::to_vec);
        value.filter(|_| first == First::Startup)
    })
}

/// What we answer is one whole message, whatever its texts are.
fn answers(data: &[u8]) {
    let (message, hint) = data.split_at(data.len() / 2);
    let [message, hint] = [message, hint].map(String::from_utf8_lossy);
    let packet = postgres::error(&message, &hint);
    let length = packet[1..].first_chunk().copied().map(u32::from_be_bytes);
    assert_eq!(length, Some(packet.len() as u32 - 1));
    let fields: Vec<_> = packet[5..].split(|&byte| byte == 0).collect();
    assert_eq!(fields.len(), 5 + 2, "five fields, and the end");
    assert!(postgres::is_too_many(&packet));
}
