//! Who comes: the callers of a rule, counted as the plugin counts them.

use tidegate::{
    engine::{Callers, Phase, Timestamp},
    event::{Caller, Hundredths, Tenths},
};

/// Of requests, one in so many is looked at while all is calm.
const ONE_IN: u32 = 8;
/// So many callers are named.
const NAMED: usize = 5;
/// The most of a key that is taken, in bytes.
const MAX_KEY: usize = 256;
/// Nobody attacks the hashes of a replay, and the same trace gives the same output.
const SEED: [u64; 2] = [0x7469_6465_6761_7465, 0x7265_706c_6179];

/// The callers of a rule.
#[derive(Debug, Default)]
pub struct Whom {
    callers: Option<Callers>,
    arrivals: u32,
}

impl Whom {
    /// Counts an arrival: all of connections, and one in eight requests while nothing is up.
    pub fn on_arrival(&mut self, key: &[u8], http: bool, phase: Phase) {
        let mut many = 1;
        if http && !matches!(phase, Phase::Watch | Phase::Surge) {
            self.arrivals = self.arrivals.wrapping_add(1);
            if !self.arrivals.is_multiple_of(ONE_IN) {
                return;
            }
            many = ONE_IN;
        }
        let callers = self.callers.get_or_insert_with(|| Callers::new(SEED));
        callers.arrive_for(key.get(..MAX_KEY).unwrap_or(key), many);
    }

    /// Lets time pass.
    pub fn on_tick(&mut self, now: Timestamp, phase: Phase) {
        if let Some(callers) = &mut self.callers {
            callers.tick(now, phase != Phase::Surge);
        }
    }

    /// Who makes a surge that goes on now; nobody where the trace names nobody.
    pub fn culprits(&self) -> (Option<&'static str>, Vec<Caller>) {
        let Some(callers) = &self.callers else {
            return (None, Vec::new());
        };
        let named = callers.by_excess().into_iter().take(NAMED);
        let named = named.map(|caller| Caller {
            key: String::from_utf8_lossy(caller.key).into_owned(),
            rate_per_s: Tenths(caller.rate_per_s),
            baseline_per_s: Tenths(caller.baseline_per_s),
            share: Hundredths(caller.share),
        });
        (Some(callers.spread().name()), named.collect())
    }
}
