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
    left: u64,
}

impl<'a> Draw<'a> {
    /// Of callers, and of arrivals that are nobody's.
    pub fn new(nobodys: u64, callers: &'a [Counted]) -> Self {
        let mut sums = vec![0; callers.len() + 1];
        for (index, (_, count)) in callers.iter().enumerate() {
            add(&mut sums, index + 1, *count);
        }
        let named: u64 = callers.iter().map(|(_, count)| count).sum();
        Self {
            callers,
            sums,
            left: if callers.is_empty() {
                0
            } else {
                named + nobodys
            },
        }
    }

    /// The next one's caller; none when it is nobody's.
    pub fn next(&mut self, random: &mut Random) -> Option<&'a Known> {
        if self.left == 0 {
            return None;
        }
        let mut wanted = random.below(self.left);
        self.left -= 1;
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
        let (known, _) = self.callers.get(place)?;
        let mut at = place + 1;
        while let Some(sum) = self.sums.get_mut(at) {
            *sum -= 1;
            at += at & at.wrapping_neg();
        }
        Some(known)
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
        for _ in 0..78 * 3 + 10 {
            match draw.next(&mut random) {
                Some(known) => *drawn.entry(known.clone().caller.unwrap()[0]).or_insert(0) += 1,
                None => nobodys += 1,
            }
        }
        assert_eq!((nobodys, draw.next(&mut random)), (10, None));
        assert!(
            drawn
                .iter()
                .all(|(caller, count)| *count == u64::from(*caller) * 3)
        );
        assert_eq!(drawn.len(), 12);
    }
}
