//! What happens to the rate.

/// What happens to the rate. Times in s since the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Nothing.
    Steady,
    /// ×`factor` at once, from `at` until `at + lasts`.
    Step {
        /// When.
        at: f64,
        /// How much.
        factor: f64,
        /// How long; infinite is for good.
        lasts: f64,
    },
    /// From ×1 at `at` in a straight line to ×`factor` at `at + over`, and there it stays.
    Ramp {
        /// When.
        at: f64,
        /// How much in the end.
        factor: f64,
        /// How long it takes.
        over: f64,
    },
    /// ×2 every `every` from `at` on, up to ×1,000.
    Doubling {
        /// When.
        at: f64,
        /// How long one doubling takes.
        every: f64,
    },
    /// An upstream that answers nobody from `at` on for `lasts`: each arrival comes back a second
    /// later, up to ×20.
    RetryStorm {
        /// When.
        at: f64,
        /// How long.
        lasts: f64,
    },
    /// ×`factor` within 10 s, then halving every `halving`.
    FlashCrowd {
        /// When.
        at: f64,
        /// The peak.
        factor: f64,
        /// How long it takes to halve.
        halving: f64,
    },
    /// Caller 0 alone adds `(factor − 1)` times the base from `at` on for `lasts`.
    OneCaller {
        /// When.
        at: f64,
        /// What the whole becomes.
        factor: f64,
        /// How long.
        lasts: f64,
    },
    /// Nothing before `at`, then all at once ×`factor`, calming to ×1 within a minute: a rule that
    /// starts in the middle of a storm.
    ColdStart {
        /// When.
        at: f64,
        /// The beginning.
        factor: f64,
    },
    /// The clients lose their connections at `at` and all come back within `within`, `reconnects`
    /// of them.
    RestartHerd {
        /// When.
        at: f64,
        /// How many come back, as seconds of the base rate.
        reconnects: f64,
        /// How long that takes.
        within: f64,
    },
    /// ×`factor` for `lasts` at every whole `every`.
    CronSpikes {
        /// How often.
        every: f64,
        /// How much.
        factor: f64,
        /// How long.
        lasts: f64,
    },
    /// From `at` on ×`factor` for half of `period` and ×1 for the other half.
    Flapping {
        /// When.
        at: f64,
        /// How much.
        factor: f64,
        /// One on and off.
        period: f64,
    },
    /// Nothing from `at` on for `lasts`, then as before.
    Outage {
        /// When.
        at: f64,
        /// How long.
        lasts: f64,
    },
}

impl Shape {
    /// The multiple of the base rate at `t`.
    pub fn factor(&self, t: f64) -> f64 {
        let within = |at: f64, lasts: f64| t >= at && t < at + lasts;
        match *self {
            Self::Steady => 1.0,
            Self::Step { at, factor, lasts } | Self::OneCaller { at, factor, lasts }
                if within(at, lasts) =>
            {
                factor
            }
            Self::Ramp { at, factor, over } => {
                1.0 + (factor - 1.0) * ((t - at) / over).clamp(0.0, 1.0)
            }
            Self::Doubling { at, every } => libm::exp2((t - at).max(0.0) / every).min(1000.0),
            Self::RetryStorm { at, lasts } if within(at, lasts) => {
                (2.0 + (t - at)).floor().min(20.0) - 1.0
            }
            Self::FlashCrowd {
                at,
                factor,
                halving,
            } if t >= at => {
                let rise = ((t - at) / 10.0).min(1.0);
                let fall = libm::exp2(-(t - at - 10.0).max(0.0) / halving);
                1.0 + (factor - 1.0) * rise * fall
            }
            Self::ColdStart { at, factor } => {
                if t < at {
                    0.0
                } else {
                    1.0 + (factor - 1.0) * (1.0 - (t - at) / 60.0).max(0.0)
                }
            }
            Self::RestartHerd {
                at,
                reconnects,
                within: span,
            } if within(at, span) => 1.0 + reconnects / span,
            Self::CronSpikes {
                every,
                factor,
                lasts,
            } if t >= every && t % every < lasts => factor,
            Self::Flapping { at, factor, period }
                if t >= at && (t - at) % period < period / 2.0 =>
            {
                factor
            }
            Self::Outage { at, lasts } if within(at, lasts) => 0.0,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_what_they_say() {
        let step = Shape::Step {
            at: 10.0,
            factor: 3.0,
            lasts: 5.0,
        };
        assert_eq!(
            [9.9, 10.0, 14.9, 15.0].map(|t| step.factor(t)),
            [1.0, 3.0, 3.0, 1.0]
        );
        let ramp = Shape::Ramp {
            at: 10.0,
            factor: 11.0,
            over: 10.0,
        };
        assert_eq!([0.0, 15.0, 99.0].map(|t| ramp.factor(t)), [1.0, 6.0, 11.0]);
        let doubling = Shape::Doubling {
            at: 0.0,
            every: 60.0,
        };
        assert_eq!(doubling.factor(120.0), 4.0);
        let storm = Shape::RetryStorm {
            at: 10.0,
            lasts: 60.0,
        };
        assert_eq!(
            [9.0, 10.0, 12.0, 60.0, 70.0].map(|t| storm.factor(t)),
            [1.0, 1.0, 3.0, 19.0, 1.0]
        );
        let herd = Shape::RestartHerd {
            at: 1.0,
            reconnects: 100.0,
            within: 10.0,
        };
        assert_eq!([0.0, 5.0, 11.0].map(|t| herd.factor(t)), [1.0, 11.0, 1.0]);
        let cron = Shape::CronSpikes {
            every: 60.0,
            factor: 5.0,
            lasts: 1.0,
        };
        assert_eq!(
            [0.5, 59.0, 60.5, 61.5].map(|t| cron.factor(t)),
            [1.0, 1.0, 5.0, 1.0]
        );
        let flapping = Shape::Flapping {
            at: 0.0,
            factor: 5.0,
            period: 20.0,
        };
        assert_eq!(
            [5.0, 15.0, 25.0].map(|t| flapping.factor(t)),
            [5.0, 1.0, 5.0]
        );
        let outage = Shape::Outage {
            at: 5.0,
            lasts: 5.0,
        };
        assert_eq!([4.0, 6.0, 11.0].map(|t| outage.factor(t)), [1.0, 0.0, 1.0]);
        let cold = Shape::ColdStart {
            at: 5.0,
            factor: 7.0,
        };
        assert_eq!(
            [4.0, 5.0, 35.0, 90.0].map(|t| cold.factor(t)),
            [0.0, 7.0, 4.0, 1.0]
        );
        let crowd = Shape::FlashCrowd {
            at: 0.0,
            factor: 9.0,
            halving: 60.0,
        };
        assert_eq!([10.0, 70.0].map(|t| crowd.factor(t)), [9.0, 5.0]);
    }
}
