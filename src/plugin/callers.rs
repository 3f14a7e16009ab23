//! Who comes: the callers of a rule, counted in every worker and put together when it matters.

use alloc::{format, string::String, vec::Vec};
use core::time::Duration;

use super::{
    gates::PREFIX,
    host::{self, SharedData},
    matching::Kind,
};
use crate::{
    config::Key,
    engine::{Callers, Phase, Spread, Timestamp, WorkerId},
    event::{Caller, Hundredths, Tenths},
    store::{self, SharedStore},
};

/// Of requests, one in so many is looked at while all is calm. Connections are all looked at.
const ONE_IN: u32 = 8;
/// So many workers have a place for their table.
const PLACES: u32 = 64;
/// A table that was put there longer ago than this is of a worker that died, or that sees no surge.
const FRESH: Duration = Duration::from_secs(1);
/// So many callers are named.
const NAMED: usize = 5;
/// The longest header or name that is taken for a key, in bytes.
const MAX_KEY: usize = 256;

/// The callers of a rule, as this worker saw them.
#[derive(Debug)]
pub struct Whom {
    /// Before the number of the worker's place.
    prefix: String,
    callers: Option<Callers>,
    arrivals: u32,
}

impl Whom {
    /// Of a rule.
    pub fn new(name: &str) -> Self {
        Self {
            prefix: format!("{PREFIX}/{name}/callers"),
            callers: None,
            arrivals: 0,
        }
    }

    /// For how many arrivals the next one stands; 0: it is not looked at.
    fn stands_for(&mut self, kind: Kind, phase: Phase) -> u32 {
        if kind == Kind::Tcp || matches!(phase, Phase::Watch | Phase::Surge) {
            return 1;
        }
        self.arrivals = self.arrivals.wrapping_add(1);
        if self.arrivals.is_multiple_of(ONE_IN) {
            ONE_IN
        } else {
            0
        }
    }

    /// Counts the arrival of the effective context.
    pub fn on_arrival(&mut self, key: &Key, kind: Kind, phase: Phase) {
        // What is in the first message is counted when it comes.
        if matches!(key, Key::None | Key::Postgres(_)) {
            return;
        }
        let many = self.stands_for(kind, phase);
        if many > 0 {
            let caller = caller(key, kind).unwrap_or_default();
            self.count(&caller, many);
        }
    }

    /// Counts an arrival of a caller.
    pub fn count(&mut self, caller: &[u8], many: u32) {
        let callers = self.callers.get_or_insert_with(|| Callers::new(seed()));
        let key = caller.get(..MAX_KEY).unwrap_or(caller);
        callers.arrive_for(key, many);
    }

    /// Lets time pass. In a surge the others are told, who may be about to name the culprit.
    pub fn on_tick(&mut self, now: Timestamp, phase: Phase, worker: WorkerId) {
        let Some(callers) = &mut self.callers else {
            return;
        };
        callers.tick(now, phase != Phase::Surge);
        if !matches!(phase, Phase::Watch | Phase::Surge) {
            return;
        }
        let mut bytes = now.as_nanos().to_le_bytes().to_vec();
        callers.encode(&mut bytes);
        // Nobody else writes here, so nothing is lost by overwriting it.
        let _ = SharedData.compare_and_set(&self.key(place(worker)), &bytes, None);
    }

    /// Who makes the surge, by what all workers saw.
    pub fn culprits(&self, now: Timestamp, worker: WorkerId) -> (Spread, Vec<Caller>) {
        let mut all = self.callers.clone().unwrap_or_else(|| Callers::new(seed()));
        for other in (0..PLACES).filter(|other| *other != place(worker)) {
            let Ok(Some((bytes, _))) = SharedData.load(&self.key(other)) else {
                continue;
            };
            let Some((at, table)) = bytes.split_first_chunk() else {
                continue;
            };
            let at = Timestamp::from_nanos(u64::from_le_bytes(*at));
            let fresh = now.since(at) <= FRESH && at.since(now) <= FRESH;
            if let Ok(table) = Callers::decode(table)
                && fresh
            {
                // One of another seed is of another time.
                let _ = all.merge(&table);
            }
        }
        let named = all
            .by_excess()
            .into_iter()
            .take(NAMED)
            .map(|caller| Caller {
                key: caller.key.escape_ascii().map(char::from).collect(),
                rate_per_s: Tenths(caller.rate_per_s),
                baseline_per_s: Tenths(caller.baseline_per_s),
                share: Hundredths(caller.share),
            });
        (all.spread(), named.collect())
    }

    fn key(&self, place: u32) -> String {
        format!("{}/{place}", self.prefix)
    }
}

/// Where a worker puts its table.
fn place(worker: WorkerId) -> u32 {
    worker.0.get() % PLACES
}

/// What a key says of the stream of the effective context, which is just beginning.
fn caller(key: &Key, kind: Kind) -> Option<Vec<u8>> {
    match key {
        Key::None | Key::Postgres(_) => None,
        Key::SourceIp => {
            let mut address = host::property("source\0address")?;
            // A path of a Unix socket has no port.
            if let Some(colon) = address.iter().rposition(|&byte| byte == b':') {
                address.truncate(colon);
            }
            Some(address)
        }
        Key::Peer => host::property("connection\0uri_san_peer_certificate"),
        Key::Sni => host::property("connection\0requested_server_name"),
        Key::Authority if kind == Kind::Http => host::request_header(":authority"),
        Key::Header(name) if kind == Kind::Http => host::request_header(name),
        Key::Authority | Key::Header(_) => None,
    }
}

/// The seed that all workers hash callers with, so that an outsider can't choose who collides.
///
/// Drawn once, from the clock in ns: enough against who does not see this machine's clock.
fn seed() -> [u64; 2] {
    let first = || {
        let nanos = host::now().as_nanos();
        let halves = [nanos, nanos.rotate_left(32)].map(mixed);
        halves.map(u64::to_le_bytes).concat()
    };
    store::update(&mut SharedData, &format!("{PREFIX}/seed"), first, |seed| {
        let halves = seed.first_chunk().zip(seed.last_chunk());
        let seed = halves.map_or([0; 2], |(a, b)| [*a, *b].map(u64::from_le_bytes));
        (None, seed)
    })
    .unwrap_or_default()
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014).
const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
