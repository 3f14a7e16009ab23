//! From the configuration as it was written to the policy: ranges, names and contradictions.

use alloc::{format, string::ToString, vec::Vec};
use core::num::{NonZeroU16, NonZeroU32};

use super::{
    Build, ConfigError, bounds,
    cidr::Cidr,
    field::{Field, List, Of, OrOff},
    finding::{Findings, Path, shown},
    part::{
        Earlier, for_each, header, instead_of_text, is_token, list, number, span, text, too_long,
        whole,
    },
    policy::{
        Class, ClassMatch, Key, Match, Policy, Protocol, Redirect, Reject, Rule, RuleName, Sticky,
        TcpReject, default_hold,
    },
    raw::{
        RawClass, RawConfig, RawHold, RawLimits, RawMatch, RawRedirect, RawReject, RawRule,
        RawSurge, WrittenTcp,
    },
};
use crate::engine::{DetectorConfig, Hold, Limits, Mode};

/// Checks everything, and collects all that is wrong.
pub(super) fn policy(raw: RawConfig, build: Build) -> Result<Policy, ConfigError> {
    let mut findings = Findings::default();
    let mode = findings
        .take(raw.mode, &Path::Root.field("mode"))
        .map_or(Mode::default(), |Of(mode)| mode);
    let at_status = &Path::Root.field("status");
    let status = findings
        .take(raw.status, at_status)
        .is_some_and(|Of(status)| status);
    if status && !matches!(raw.rules, Field::Absent) {
        findings.add(
            at_status,
            "it guards nothing; leave out either it or `rules`",
        );
    }
    let rules = match raw.rules {
        Field::Absent if status => Vec::new(),
        Field::Absent => alloc::vec![Rule::default_in(mode)],
        given => match findings.take(given, &Path::Root.field("rules")) {
            Some(rules) => check_rules(&mut findings, rules, mode, build),
            None => Vec::new(),
        },
    };
    findings.into_result(Policy::new(rules, status))
}

fn check_rules(findings: &mut Findings, raw: List<RawRule>, mode: Mode, build: Build) -> Vec<Rule> {
    let rules = &Path::Root.field("rules");
    if raw.given == 0 {
        findings.add(
            rules,
            "no rule is given; write one, or leave it out for one rule that counts everything",
        );
    }
    let mut earlier = Earlier::none(rules);
    let mut checked = Vec::new();
    for_each(
        findings,
        rules,
        raw,
        bounds::RULES,
        |findings, index, mut raw| {
            let at = &rules.element(index);
            let name = earlier.next(findings, index, core::mem::take(&mut raw.name));
            let seen = findings.seen();
            if let Some(rule) = check_rule(findings, at, name, raw, mode, build)
                && findings.seen() == seen
            {
                if rule.matcher.is_everything() {
                    earlier.everything = Some(index);
                }
                checked.push(rule);
            }
        },
    );
    checked
}

/// `None` when the name was refused, which is a finding already.
fn check_rule(
    findings: &mut Findings,
    at: &Path<'_>,
    name: Option<RuleName>,
    raw: RawRule,
    mode: Mode,
    build: Build,
) -> Option<Rule> {
    let seen = findings.seen();
    let mode = findings
        .take(raw.mode, &at.field("mode"))
        .map_or(mode, |Of(mode)| mode);
    let matcher = check_match(findings, &at.field("match"), raw.matcher);
    let protocol = findings
        .take(raw.protocol, &at.field("protocol"))
        .map_or(Protocol::default(), |Of(protocol)| protocol);
    let limits = check_limits(findings, &at.field("limits"), raw.limits);
    let key = findings
        .take(raw.key, &at.field("key"))
        .map_or(Key::default(), |Of(key)| key);
    let sticky = findings
        .take(raw.sticky, &at.field("sticky"))
        .map_or(Sticky::default(), |Of(sticky)| sticky);
    let classes = check_classes(findings, &at.field("classes"), raw.classes);
    let surge = check_surge(findings, &at.field("surge"), raw.surge);
    let hold = check_hold(findings, &at.field("hold"), raw.hold);
    let redirect = check_redirect(findings, &at.field("redirect"), raw.redirect);
    let reject = check_reject(findings, &at.field("reject"), raw.reject);
    let adaptive = findings
        .take(raw.adaptive, &at.field("adaptive"))
        .is_some_and(|Of(adaptive)| adaptive);

    let rule = Rule {
        name: name?,
        mode,
        matcher,
        protocol,
        limits,
        key,
        sticky,
        classes,
        surge,
        hold,
        redirect,
        reject,
        adaptive,
    };
    // Where a field is to be changed anyway, what contradicts it may change with it.
    if findings.seen() == seen {
        refuse_contradictions(findings, at, &rule, build);
    }
    Some(rule)
}

fn check_match(findings: &mut Findings, at: &Path<'_>, raw: Field<RawMatch>) -> Match {
    let raw = findings.take(raw, at).unwrap_or_default();
    let cluster = text(
        findings,
        &at.field("cluster"),
        raw.cluster,
        bounds::NAME_BYTES,
    );
    let authority = text(
        findings,
        &at.field("authority"),
        raw.authority,
        bounds::NAME_BYTES,
    );

    let at_prefix = &at.field("path_prefix");
    let path_prefix = text(findings, at_prefix, raw.path_prefix, bounds::TEXT_BYTES);
    if let Some(prefix) = &path_prefix
        && !prefix.starts_with('/')
    {
        let what = instead_of_text(prefix, "the start of a path, such as \"/v1/\"");
        findings.add(at_prefix, what);
    }

    let at_method = &at.field("method");
    let mut methods = Vec::new();
    for (index, Of(method)) in list(findings, at_method, raw.method) {
        let lower = method.bytes().any(|byte| byte.is_ascii_lowercase());
        if is_token(&method) && method.len() <= bounds::METHOD_BYTES && !lower {
            methods.push(method);
        } else {
            let what = instead_of_text(&method, "a method in capitals, such as \"POST\"");
            findings.add(&at_method.element(index), what);
        }
    }

    let at_port = &at.field("listener_port");
    let listener_port = whole(findings, at_port, raw.listener_port, bounds::PORT, None)
        .and_then(|port| u16::try_from(port).ok())
        .and_then(NonZeroU16::new);
    let sources = check_source(findings, at, raw.source);
    Match {
        cluster,
        authority,
        path_prefix,
        methods,
        listener_port,
        sources,
    }
}

fn check_source(findings: &mut Findings, at: &Path<'_>, raw: Field<List<Of<Cidr>>>) -> Vec<Cidr> {
    list(findings, &at.field("source"), raw)
        .into_iter()
        .map(|(_, Of(range))| range)
        .collect()
}

fn check_limits(findings: &mut Findings, at: &Path<'_>, raw: Field<RawLimits>) -> Limits {
    let raw = findings.take(raw, at).unwrap_or_default();
    let mut limit = |name, number| {
        let zero = Some("0 is not a limit; leave it out for none");
        whole(findings, &at.field(name), number, bounds::LIMIT, zero).and_then(NonZeroU32::new)
    };
    Limits {
        inflight: limit("inflight", raw.inflight),
        arrivals_per_s: limit("arrivals_per_s", raw.arrivals_per_s),
        connecting: limit("connecting", raw.connecting),
    }
}

fn check_classes(
    findings: &mut Findings,
    classes: &Path<'_>,
    raw: Field<List<RawClass>>,
) -> Vec<Class> {
    let mut checked = Vec::new();
    let Some(raw) = findings.take(raw, classes) else {
        return checked;
    };
    let mut earlier = Earlier::none(classes);
    for_each(
        findings,
        classes,
        raw,
        bounds::CLASSES,
        |findings, index, raw| {
            let at = &classes.element(index);
            let name = earlier.next(findings, index, raw.name);
            let seen = findings.seen();
            let at_match = &at.field("match");
            let matcher = findings.take(raw.matcher, at_match).unwrap_or_default();
            let matcher = ClassMatch {
                sources: check_source(findings, at_match, matcher.source),
                header: header(findings, &at_match.field("header"), matcher.header),
            };
            let priority = whole(
                findings,
                &at.field("priority"),
                raw.priority,
                bounds::PRIORITY,
                None,
            );
            let reserved = whole(
                findings,
                &at.field("reserved"),
                raw.reserved,
                bounds::RESERVED,
                None,
            );
            if findings.seen() == seen
                && let Some(name) = name
            {
                if matcher.is_everything() {
                    earlier.everything = Some(index);
                }
                checked.push(Class {
                    name: name.to_string(),
                    matcher,
                    priority: priority
                        .and_then(|priority| u8::try_from(priority).ok())
                        .unwrap_or(Class::PRIORITY),
                    reserved: reserved.unwrap_or_default(),
                });
            }
        },
    );
    checked
}

fn check_surge(findings: &mut Findings, at: &Path<'_>, raw: Field<RawSurge>) -> DetectorConfig {
    let raw = findings.take(raw, at).unwrap_or_default();
    let mut surge = DetectorConfig::default();
    let sensitivity = number(
        findings,
        &at.field("sensitivity"),
        raw.sensitivity,
        bounds::SENSITIVITY,
    );
    surge.sensitivity = sensitivity.unwrap_or(surge.sensitivity);
    let excess = whole(
        findings,
        &at.field("min_excess"),
        raw.min_excess,
        bounds::MIN_EXCESS,
        None,
    );
    surge.min_excess = excess.map_or(surge.min_excess, f64::from);
    let warm_up = span(findings, &at.field("warm_up"), raw.warm_up, bounds::WARM_UP);
    surge.warm_up = warm_up.unwrap_or(surge.warm_up);
    surge.baseline_per_s = number(
        findings,
        &at.field("baseline_per_s"),
        raw.baseline_per_s,
        bounds::BASELINE_PER_S,
    );
    surge
}

fn check_hold(findings: &mut Findings, at: &Path<'_>, raw: Field<OrOff<RawHold>>) -> Option<Hold> {
    let mut hold = default_hold();
    match findings.take(raw, at) {
        None => {}
        Some(OrOff::Off) => return None,
        Some(OrOff::On(raw)) => {
            if let Some(span) = span(
                findings,
                &at.field("max_wait"),
                raw.max_wait,
                bounds::MAX_WAIT,
            ) {
                hold.max_wait = span;
            }
            let zero = Some("0 means nobody waits; write \"hold\": false for that");
            let at_waiting = &at.field("max_waiting");
            if let Some(number) = whole(
                findings,
                at_waiting,
                raw.max_waiting,
                bounds::MAX_WAITING,
                zero,
            )
            .and_then(NonZeroU32::new)
            {
                hold.max_waiting = number;
            }
            if let Some(Of(order)) = findings.take(raw.order, &at.field("order")) {
                hold.order = order;
            }
        }
    }
    Some(hold)
}

fn check_redirect(
    findings: &mut Findings,
    at: &Path<'_>,
    raw: Field<RawRedirect>,
) -> Option<Redirect> {
    let raw = findings.take(raw, at)?;
    let seen = findings.seen();
    let cluster = text(
        findings,
        &at.field("cluster"),
        raw.cluster,
        bounds::NAME_BYTES,
    );
    let header = header(findings, &at.field("header"), raw.header);
    if cluster.is_none() && header.is_none() && findings.seen() == seen {
        findings.add(
            at,
            "neither a cluster nor a header is given; write one, or remove it",
        );
    }
    Some(Redirect { cluster, header })
}

fn check_reject(findings: &mut Findings, at: &Path<'_>, raw: Field<RawReject>) -> Reject {
    let raw = findings.take(raw, at).unwrap_or_default();
    let mut reject = Reject::default();
    let at_status = &at.field("http_status");
    if let Some(status) = whole(
        findings,
        at_status,
        raw.http_status,
        bounds::HTTP_STATUS,
        None,
    )
    .and_then(|status| u16::try_from(status).ok())
    {
        reject.http_status = status;
    }

    let at_retry = &at.field("retry_after");
    if let Some(span) = span(findings, at_retry, raw.retry_after, bounds::RETRY_AFTER) {
        if !span.subsec_nanos().is_multiple_of(1_000_000) {
            findings.add(
                at_retry,
                "finer than a millisecond; write whole milliseconds",
            );
        }
        reject.retry_after = span;
    }

    let at_body = &at.field("body");
    if let Some(Of(body)) = findings.take(raw.body, at_body) {
        if body.len() > bounds::BODY_BYTES {
            findings.add(at_body, too_long(&body, bounds::BODY_BYTES));
        }
        reject.body = body;
    }

    let cluster = text(
        findings,
        &at.field("cluster"),
        raw.cluster,
        bounds::NAME_BYTES,
    )
    .unwrap_or_else(|| TcpReject::CLUSTER.to_string());
    if let Some(Of(WrittenTcp::Protocol)) = findings.take(raw.tcp, &at.field("tcp")) {
        reject.tcp = TcpReject::Protocol { cluster };
    }

    let at_slow = &at.field("slow");
    let slow = match findings.take(raw.slow, at_slow) {
        None => Field::Absent,
        Some(OrOff::Off) => {
            reject.slow = None;
            Field::Absent
        }
        Some(OrOff::On(slow)) => Field::Given(slow),
    };
    reject.slow = span(findings, at_slow, slow, bounds::SLOW).or(reject.slow);
    let zero = Some("0 means that none is kept; write \"slow\": false for that");
    let at_most = &at.field("max_slow");
    if let Some(most) = whole(findings, at_most, raw.max_slow, bounds::MAX_SLOW, zero) {
        reject.max_slow = most;
    }
    reject
}

/// Fields that are right by themselves and can't be meant together.
fn refuse_contradictions(findings: &mut Findings, at: &Path<'_>, rule: &Rule, build: Build) {
    let matcher = &rule.matcher;
    let http_fields = [
        ("cluster", matcher.cluster.is_some()),
        ("authority", matcher.authority.is_some()),
        ("path_prefix", matcher.path_prefix.is_some()),
        ("method", !matcher.methods.is_empty()),
    ];
    let mut http_fields = http_fields
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .peekable();
    let spoken = match rule.protocol {
        Protocol::Tcp => None,
        Protocol::Postgres => Some("postgres"),
        Protocol::Mysql => Some("mysql"),
    };
    let (cluster, header) = match &rule.redirect {
        Some(redirect) => (redirect.cluster.as_deref(), redirect.header.is_some()),
        None => (None, false),
    };
    let at_redirect = &at.field("redirect");
    if let Some(field) = http_fields.peek() {
        let at_limits = &at.field("limits");
        let at_connecting = at_limits.field("connecting");
        for (at, verb, given) in [
            (at_connecting, "counts", rule.limits.connecting.is_some()),
            (at_redirect.field("cluster"), "is for", cluster.is_some()),
        ] {
            if given {
                findings.add(
                    &at,
                    format!(
                        "it {verb} TCP connections, and `match.{field}` is known of HTTP requests \
                         only; remove one of the two"
                    ),
                );
            }
        }
    }
    if let Some(spoken) = spoken {
        let mut refuse = |at: &Path<'_>| {
            findings.add(
                at,
                format!(
                    "known of HTTP requests only, and `protocol: {spoken}` is of TCP connections; \
                     remove one of the two"
                ),
            );
        };
        for field in http_fields {
            refuse(&at.field("match").field(field));
        }
        if let Sticky::Header(_) | Sticky::Cookie(_) = rule.sticky {
            refuse(&at.field("sticky"));
        }
        for (index, class) in rule.classes.iter().enumerate() {
            if class.matcher.header.is_some() {
                refuse(
                    &at.field("classes")
                        .element(index)
                        .field("match")
                        .field("header"),
                );
            }
        }
        if header {
            refuse(&at_redirect.field("header"));
        }
    }
    refuse_key_contradictions(findings, at, rule, build);
    refuse_what_lacks_a_limit(findings, at, rule);
    if let TcpReject::Protocol { cluster: refusing } = &rule.reject.tcp
        && cluster == Some(refusing)
    {
        findings.add(
            &at_redirect.field("cluster"),
            format!(
                "`reject.cluster` is \"{}\", too, where connections are refused; write another \
                 cluster, or remove the redirect",
                shown(refusing)
            ),
        );
    }
    if let TcpReject::Protocol { .. } = rule.reject.tcp {
        let at = &at.field("reject");
        let at = &at.field("tcp");
        if spoken.is_none() {
            findings.add(
                at,
                "`tcp: protocol` answers in the protocol of a database; \
                 write `protocol: postgres` or `protocol: mysql` in the rule, or `tcp: close` here",
            );
        } else if !build.inspect {
            findings.add(
                at,
                "this module does not read database protocols; \
                 load tidegate-inspect.wasm or write `tcp: close`",
            );
        }
    }
}

/// What makes sense only with a limit, and leaves something of it.
fn refuse_what_lacks_a_limit(findings: &mut Findings, at: &Path<'_>, rule: &Rule) {
    let classes = &at.field("classes");
    let Some(inflight) = rule.limits.inflight else {
        let none = "and there is none; write `limits.inflight`, or remove it";
        for (index, class) in rule.classes.iter().enumerate() {
            if class.reserved > 0 {
                let at = &classes.element(index);
                let what = format!("these are places of a limit, {none}");
                findings.add(&at.field("reserved"), what);
            }
        }
        if rule.adaptive {
            findings.add(&at.field("adaptive"), format!("it lowers a limit, {none}"));
        }
        return;
    };
    // At most 8 numbers of at most a million.
    let reserved = rule.classes.iter().map(|class| class.reserved).sum::<u32>();
    if reserved >= inflight.get() {
        findings.add(
            classes,
            format!(
                "{reserved} places are reserved of `limits.inflight: {inflight}`, which leaves \
                 nothing for anybody else; reserve less, or raise the limit"
            ),
        );
    }
}

fn refuse_key_contradictions(findings: &mut Findings, at: &Path<'_>, rule: &Rule, build: Build) {
    if rule.sticky == Sticky::Key && rule.key == Key::None {
        findings.add(
            &at.field("sticky"),
            "`key: none` tells nobody apart; write another key in the rule, or source_ip here",
        );
    }
    let what = match &rule.key {
        Key::Postgres(_) if rule.protocol != Protocol::Postgres => {
            "it is read from PostgreSQL connections; write `protocol: postgres` in the rule, or \
             another key"
        }
        Key::Postgres(_) if !build.inspect => {
            "this module does not read database protocols; load tidegate-inspect.wasm or write \
             another key"
        }
        Key::Authority | Key::Header(_) if rule.protocol != Protocol::Tcp => {
            "it is known of HTTP requests only, and the rule's protocol is of TCP connections; \
             write source_ip, peer or sni"
        }
        _ => return,
    };
    findings.add(&at.field("key"), what);
}
