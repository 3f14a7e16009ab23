//! The metrics of one rule, as Envoy knows them.
//!
//! A label is written into the name, in the form of Istio's `extraStatTags`; the bootstrap's
//! `stats_tags` take it out again. Only names from the configuration and from this program get in.

use alloc::{format, string::String};

use super::host::{Metric, MetricKind};
use crate::{
    build_info,
    engine::{Fault, Reason, Report, Tally, Totals},
};

/// `label=.=value;.;` before the name of the metric, for each label.
fn named(labels: &[(&str, &str)], metric: &str) -> String {
    let mut name = String::with_capacity(96);
    for (label, value) in labels {
        name += &format!("{label}=.={value};.;");
    }
    name + metric
}

/// All metrics of a rule. The counters stand at zero from the start, so that a rate over them
/// sees the first event.
#[derive(Debug)]
pub struct Metrics {
    arrivals: Metric,
    admitted: Metric,
    held: Metric,
    redirected: Metric,
    rejected: [Metric; Reason::ALL.len()],
    shadow_rejected: [Metric; Reason::ALL.len()],
    faults: [Metric; Fault::ALL.len()],
    inflight: Metric,
    waiting: Metric,
    arrival_rate: Metric,
    inflight_limit: Metric,
    hold_ms: Metric,
    surges: Metric,
    upstream_refusals: Metric,
    phase: Metric,
    baseline: Metric,
    admitted_share: Metric,
}

impl Metrics {
    /// Defines the metrics of a rule.
    pub fn define(rule: &str) -> Self {
        use MetricKind::{Counter, Gauge, Histogram};
        let plain = |kind, metric: &str| Metric::define(kind, &named(&[("rule", rule)], metric));
        let labelled = |metric: &str, label: &str, value: &str| {
            Metric::define(Counter, &named(&[("rule", rule), (label, value)], metric))
        };
        Self {
            arrivals: plain(Counter, "tidegate_arrivals_total"),
            admitted: plain(Counter, "tidegate_admitted_total"),
            held: plain(Counter, "tidegate_held_total"),
            redirected: plain(Counter, "tidegate_redirected_total"),
            rejected: Reason::ALL
                .map(|reason| labelled("tidegate_rejected_total", "reason", reason.label())),
            shadow_rejected: Reason::ALL
                .map(|reason| labelled("tidegate_shadow_rejected_total", "reason", reason.label())),
            faults: Fault::ALL
                .map(|fault| labelled("tidegate_faults_total", "kind", fault.label())),
            inflight: plain(Gauge, "tidegate_inflight"),
            waiting: plain(Gauge, "tidegate_waiting"),
            arrival_rate: plain(Gauge, "tidegate_arrival_rate_per_s"),
            inflight_limit: plain(Gauge, "tidegate_inflight_limit"),
            hold_ms: plain(Histogram, "tidegate_hold_ms"),
            surges: plain(Counter, "tidegate_surges_total"),
            upstream_refusals: plain(Counter, "tidegate_upstream_refusals_total"),
            phase: plain(Gauge, "tidegate_phase"),
            baseline: plain(Gauge, "tidegate_baseline_per_s"),
            admitted_share: plain(Gauge, "tidegate_admitted_share_percent"),
        }
    }

    /// Adds what happened.
    pub fn count(&self, tally: &Tally) {
        self.arrivals.add(tally.arrivals);
        self.admitted.add(tally.admitted);
        self.held.add(tally.held);
        self.redirected.add(tally.redirected);
        let labelled = [
            (&self.rejected[..], &tally.rejected[..]),
            (&self.shadow_rejected[..], &tally.shadow_rejected[..]),
            (&self.faults[..], &tally.faults[..]),
        ];
        for (metrics, counts) in labelled {
            for (metric, count) in metrics.iter().zip(counts) {
                metric.add(*count);
            }
        }
    }

    /// Counts a fault.
    pub fn fault(&self, fault: Fault) {
        if let Some(metric) = self.faults.get(fault.index()) {
            metric.add(1);
        }
    }

    /// Counts what the upstream refused, or served too late.
    pub fn upstream_refused(&self, times: u32) {
        self.upstream_refusals.add(times);
    }

    /// Shows what the arrivals are like, and what is let through; `limit` is the configured one.
    pub fn show_report(&self, report: &Report, limit: u32) {
        self.phase.record(u64::from(report.phase.index()));
        // The cast saturates, and a baseline is never negative.
        self.baseline.record(report.baseline_per_s.round() as u64);
        self.surges.add(report.surges);
        self.admitted_share
            .record((report.share * 100.0).round() as u64);
        if limit > 0 {
            self.show_limit(report.limit_in_force(limit));
        }
    }

    /// Shows what all workers have. The gauges are one value for all of them, so a worker that
    /// died leaves nothing behind.
    pub fn show(&self, totals: &Totals, rate_per_s: u64) {
        self.inflight.record(totals.open + totals.ghosts);
        self.waiting.record(totals.waiting);
        self.arrival_rate.record(rate_per_s);
    }

    /// Shows the limit in force; 0 is none.
    pub fn show_limit(&self, inflight: u32) {
        self.inflight_limit.record(u64::from(inflight));
    }

    /// One waited this long.
    pub fn waited(&self, millis: u64) {
        self.hold_ms.record(millis);
    }
}

/// Shows which build this is.
pub fn show_build() {
    let labels = [
        ("version", build_info::VERSION),
        ("commit", build_info::COMMIT),
    ];
    Metric::define(MetricKind::Gauge, &named(&labels, "tidegate_build_info")).record(1);
}
