//! Whose the arrivals of a coarse row are, one by one.

use tidegate::scenario::Random;

use super::whom::Known;

/// A caller, and how often it came.
pub type Counted = (Known, u64);

/// Draws callers without putting them back, each as often as it came.
///
/// A tree of sums (Fenwick). Cost: a logarithm of the callers for each draw.
pub struct Draw<'a> {
    callers: &'a [Counted],
    sums: Vec<u64>,
    /// What is left of each caller, and of nobody's at the end.
    counts: Vec<u64>,
    left: u64,
}

impl<'a> Draw<'a> {
    /// Of callers, and of arrivals that are nobody's.
    pub fn new(nobodys: u64, callers: &'a [Counted]) -> Self {
        let mut sums = vec![0; callers.len() + 1];
        for (index, (_, count)) in callers.iter().enumerate() {
            add(&mut sums, index + 1, *count);
        }
        let counts = callers.iter().map(|(_, count)| *count);
        let counts: Vec<u64> = counts.chain([nobodys]).collect();
        Self {
            callers,
            sums,
            left: if callers.is_empty() {
                0
            } else {
                counts.iter().sum()
            },
            counts,
        }
    }

    /// Whose the next ones are, none when they are nobody's; and how many, `most` at most.
    pub fn next(&mut self, random: &mut Random, most: u32) -> (Option<&'a Known>, u32) {
        if self.left == 0 {
            return (None, most);
        }
        let mut wanted = random.below(self.left);
        let mut place = 0;
        let mut step = self.callers.len().checked_ilog2().map_or(0, |log| 1 << log);
        while step > 0 {
            if let Some(&sum) = self.sums.get(place + step)
                && sum <= wanted
            {
                wanted -= sum;
                place += step;
            }
            step /= 2;
        }
        let Some(count) = self.counts.get_mut(place) else {
            return (None, most);
        };
        let taken = (*count).min(u64::from(most));
        *count -= taken;
        self.left -= taken;
        let mut at = place + 1;
        while let Some(sum) = self.sums.get_mut(at)
            && place < self.callers.len()
        {
            *sum -= taken;
            at += at & at.wrapping_neg();
        }
        let known = self.callers.get(place).map(|(known, _)| known);
        // At most `most`.
        (known, taken as u32)
    }
}

fn add(sums: &mut [u64], mut at: usize, count: u64) {
    while let Some(sum) = sums.get_mut(at) {
        *sum += count;
        at += at & at.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_caller_is_drawn_as_often_as_it_came() {
        let callers: Vec<Counted> = (0..13_u8)
            .map(|caller| {
                let known = Known {
                    caller: Some(Box::from([caller])),
                    ..Known::default()
                };
                (known, u64::from(caller) * 3)
            })
            .collect();
        let mut random = Random::new(1);
        let mut draw = Draw::new(10, &callers);
        let mut drawn = BTreeMap::new();
        let mut nobodys = 0;
        let mut left = 78 * 3 + 10;
        while left > 0 {
            let (known, taken) = draw.next(&mut random, left.min(2));
            left -= taken;
            let taken = u64::from(taken);
            match known {
                Some(known) => *drawn.entry(known.clone().caller.unwrap()[0]).or_insert(0) += taken,
                None => nobodys += taken,
            }
        }
        assert_eq!((nobodys, draw.next(&mut random, 7)), (10, (None, 7)));
        assert!(
            drawn
                .iter()
                .all(|(caller, count)| *count == u64::from(*caller) * 3)
        );
        assert_eq!(drawn.len(), 12);
    }
}
