//! Rounds in which everybody comes once, so that all have the same neighbours on the machine.

/// What each contender cost in each round.
pub struct Costs(Vec<Vec<f64>>);

impl Costs {
    /// Measures everybody in each round, the first of them never in the same place twice in
    /// succession; so many rounds after one that does not count.
    pub fn measure(contenders: usize, rounds: usize, mut cost: impl FnMut(usize) -> f64) -> Self {
        let mut costs = vec![Vec::new(); contenders];
        for round in 0..=rounds {
            for place in 0..contenders {
                let who = (place + round) % contenders;
                let cost = cost(who);
                if round > 0 {
                    costs[who].push(cost);
                }
            }
        }
        Self(costs)
    }

    /// The rounds of all.
    pub fn join(all: impl Iterator<Item = Self>) -> Self {
        all.reduce(|mut joined, more| {
            for (costs, more) in joined.0.iter_mut().zip(more.0) {
                costs.extend(more);
            }
            joined
        })
        .unwrap_or_else(|| Self(Vec::new()))
    }

    /// The median cost of a contender.
    pub fn median(&self, who: usize) -> f64 {
        quartiles(self.0[who].clone())[1]
    }

    /// What it cost more than another in the same round: the quartiles.
    pub fn added(&self, who: usize, beside: usize) -> [f64; 3] {
        let pairs = self.0[who].iter().zip(&self.0[beside]);
        quartiles(pairs.map(|(cost, other)| cost - other).collect())
    }

    /// What it cost, in parts of what another cost in the same round: the quartiles.
    pub fn parts(&self, who: usize, of: usize) -> [f64; 3] {
        let pairs = self.0[who].iter().zip(&self.0[of]);
        quartiles(pairs.map(|(cost, other)| cost / other).collect())
    }
}

/// The values a quarter, half and three quarters of which lie below; by nearest rank.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| {
        let rank = (values.len() * quarter).div_ceil(4).max(1);
        values.get(rank - 1).copied().unwrap_or(f64::NAN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_measured_values() {
        assert_eq!(quartiles(vec![4.0, 1.0, 3.0, 2.0]), [1.0, 2.0, 3.0]);
        assert_eq!(quartiles(vec![7.0]), [7.0; 3]);
        assert!(quartiles(Vec::new())[1].is_nan());
    }

    #[test]
    fn what_all_rounds_have_in_common_is_not_added() {
        // Each round is dearer than the one before; the second costs 3 more, and the first round
        // does not count.
        let mut asked = 0.0;
        let costs = Costs::measure(2, 5, |who| {
            asked += 1.0;
            let round: f64 = asked / 2.0;
            100.0 * round.ceil() + 3.0 * who as f64
        });
        assert_eq!(costs.added(1, 0), [3.0; 3]);
        assert_eq!(costs.median(0), 400.0);
        assert!(costs.parts(1, 0)[1] > 1.0);
    }
}
