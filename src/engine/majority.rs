//! The user that makes most of a caller.

/// What was counted weighs this much less after each lap of 100 ms: half of it in 2 s.
const FADE: f32 = 0.966;
/// Fewer arrivals than this tell nothing.
const LEAST: f32 = 20.0;

/// Finds the one user that makes more than half of what comes, if there is one.
///
/// The majority vote of R. Boyer and J Moore (MJRTY, 1981) finds who it would be, and two counters
/// tell whether it is; all fade, half in 2 s. Cost: a comparison an arrival. Memory: one user.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Majority {
    user: u64,
    votes: f32,
    /// Arrivals since it is the candidate: its own, and all.
    own: f32,
    all: f32,
}

impl Majority {
    /// One arrival of a user; whether that user makes most of all.
    pub fn arrive(&mut self, user: u64) -> bool {
        if user != self.user && self.votes < 1.0 {
            *self = Self {
                user,
                ..Self::default()
            };
        }
        let own = user == self.user;
        self.votes += if own { 1.0 } else { -1.0 };
        self.all += 1.0;
        self.own += if own { 1.0 } else { 0.0 };
        own && self.all >= LEAST && self.own * 2.0 > self.all
    }

    /// One lap passes.
    pub fn lap(&mut self) {
        for number in [&mut self.votes, &mut self.own, &mut self.all] {
            *number *= FADE;
        }
    }
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn who_makes_most_is_found_and_nobody_else() {
        let mut majority = Majority::default();
        let mut found = [0; 21];
        for n in 0..2_000_u64 {
            // Four of five are of user 0, the others of twenty in turns.
            let user = if n % 5 == 0 { 1 + n / 5 % 20 } else { 0 };
            found[user as usize] += u32::from(majority.arrive(user));
            if n % 30 == 0 {
                majority.lap();
            }
        }
        assert!(found[0] > 1_500, "{found:?}");
        assert!(found[1..].iter().all(|found| *found == 0), "{found:?}");
    }

    #[test]
    fn where_no_user_makes_most_none_is_found() {
        let mut majority = Majority::default();
        assert!((0..2_000_u64).all(|n| !majority.arrive(n % 3)));
    }

    #[test]
    fn who_calmed_down_is_forgotten() {
        let mut majority = Majority::default();
        for _ in 0..1_000 {
            majority.arrive(0);
        }
        for n in 0..100 {
            majority.lap();
            majority.arrive(1 + n % 4);
            majority.arrive(1 + (n + 1) % 4);
        }
        assert!(!majority.arrive(0));
    }
}
