//! Who comes over mutual TLS, which a connection does not know yet when it begins.

use alloc::{collections::VecDeque, vec::Vec};
use core::time::Duration;

use super::host;
use crate::engine::Timestamp;

/// So often are they asked, and so many at once at most.
const EVERY_MS: u64 = 100;
const AT_ONCE: usize = 256;
/// Who has shown no certificate by then has none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The URI in the certificate of the effective context's client.
pub fn peer() -> Option<Vec<u8>> {
    host::property("connection\0uri_san_peer_certificate").filter(|uri| !uri.is_empty())
}

/// Connections whose client has not shown its certificate yet, the first to be asked in front.
#[derive(Debug, Default)]
pub struct Strangers {
    waiting: VecDeque<(Timestamp, u32)>,
    asked: Timestamp,
}

impl Strangers {
    /// One has come.
    pub fn expect(&mut self, id: u32, now: Timestamp) {
        self.waiting.push_back((now, id));
    }

    /// One is gone; whether it never said who it was.
    pub fn forget(&mut self, id: u32) -> bool {
        let place = self.waiting.iter().position(|(_, known)| *known == id);
        place.and_then(|place| self.waiting.remove(place)).is_some()
    }

    /// Asks who they are, when it is time; the answers, empty for those who have no certificate.
    /// The effective context is another one then.
    pub fn ask(&mut self, now: Timestamp) -> Option<Vec<(u32, Vec<u8>)>> {
        if self.waiting.is_empty() || now.as_millis().abs_diff(self.asked.as_millis()) < EVERY_MS {
            return None;
        }
        self.asked = now;
        let mut answers = Vec::new();
        for _ in 0..self.waiting.len().min(AT_ONCE) {
            let Some((since, id)) = self.waiting.pop_front() else {
                break;
            };
            let known = host::set_effective_context(id).ok().and_then(|()| peer());
            // By a clock that was set back nobody waits for longer.
            let late = now.since(since) >= PATIENCE || since > now;
            match known {
                Some(peer) => answers.push((id, peer)),
                None if late => answers.push((id, Vec::new())),
                None => self.waiting.push_back((since, id)),
            }
        }
        Some(answers)
    }
}
