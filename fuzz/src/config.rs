//! The bytes of a configuration: any are taken or refused, and what is taken keeps every bound.

use std::collections::BTreeSet;

use tidegate::{
    config::{self, Build, ConfigError, Policy, Rule, bounds, bounds::LIMIT},
    engine::Hold,
};

/// Both builds read the bytes.
pub fn run(data: &[u8]) {
    for inspect in [false, true] {
        match config::parse(data, Build { inspect }) {
            Ok(policy) => assert_bounded(&policy),
            Err(error) => assert_told(&error),
        }
    }
}

/// What is wrong is said in a bounded number of lines that can't forge others.
pub(crate) fn assert_told(error: &ConfigError) {
    let findings = error.findings();
    assert!((1..=101).contains(&findings.len()));
    for finding in findings {
        let line = finding.to_string();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.len() <= 2048, "{} bytes", line.len());
    }
}

/// What the documentation of a policy promises.
pub(crate) fn assert_bounded(policy: &Policy) {
    let rules = policy.rules();
    if policy.tells_status() {
        assert!(rules.is_empty());
        return;
    }
    assert!((1..=bounds::RULES).contains(&rules.len()));
    let names: BTreeSet<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names.len(), rules.len(), "two rules of one name");
    let before_the_last = &rules[..rules.len() - 1];
    assert!(
        before_the_last
            .iter()
            .all(|rule| !rule.matcher.is_everything())
    );
    rules.iter().for_each(assert_rule);
}

fn assert_rule(rule: &Rule) {
    let limits = [
        rule.limits.inflight,
        rule.limits.arrivals_per_s,
        rule.limits.connecting,
    ];
    assert!(
        limits
            .iter()
            .flatten()
            .all(|limit| LIMIT.contains(&limit.get()))
    );
    if let Some(Hold {
        max_wait,
        max_waiting,
        ..
    }) = rule.hold
    {
        assert!(bounds::MAX_WAIT.contains(&max_wait));
        assert!(bounds::MAX_WAITING.contains(&max_waiting.get()));
    }
    assert!(rule.matcher.sources.len() <= bounds::LIST);
    assert!(rule.matcher.methods.len() <= bounds::LIST);
    assert!(rule.classes.len() <= bounds::CLASSES);
    let reserved: u64 = rule
        .classes
        .iter()
        .map(|class| u64::from(class.reserved))
        .sum();
    let inflight = rule
        .limits
        .inflight
        .map_or(0, |limit| u64::from(limit.get()));
    assert!(reserved == 0 || reserved < inflight);
    assert!(rule.limits.inflight.is_some() || !rule.adaptive);
    assert!(bounds::HTTP_STATUS.contains(&rule.reject.http_status.into()));
    assert!(bounds::RETRY_AFTER.contains(&rule.reject.retry_after));
    assert!(rule.reject.body.len() <= bounds::BODY_BYTES);
    assert!(bounds::MAX_SLOW.contains(&rule.reject.max_slow));
    assert!(
        rule.reject
            .slow
            .is_none_or(|slow| bounds::SLOW.contains(&slow))
    );
    if let Some(redirect) = &rule.redirect {
        assert!(redirect.cluster.is_some() || redirect.header.is_some());
    }
}
