//! What a trace says of an arrival, and which rule that means.

use std::{borrow::Cow, net::IpAddr};

use tidegate::config::{Match, Rule};

/// What a row says of its arrival; what it doesn't say is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts<'a> {
    pub source: Option<IpAddr>,
    pub cluster: Option<Cow<'a, str>>,
    pub authority: Option<Cow<'a, str>>,
    pub path: Option<Cow<'a, str>>,
    pub method: Option<Cow<'a, str>>,
    pub listener_port: Option<u16>,
}

/// Whether an arrival falls under a rule.
enum Fit {
    Yes,
    No,
    /// The trace lacks a fact: the name of its condition.
    Unknown(&'static str),
}

impl Facts<'_> {
    /// The first rule that holds. `lacks` is told of rules that can't be judged, and what is lacking.
    pub fn choose(
        &self,
        rules: &[Rule],
        mut lacks: impl FnMut(usize, &'static str),
    ) -> Option<usize> {
        let mut unknown = false;
        for (index, rule) in rules.iter().enumerate() {
            match self.fits(&rule.matcher) {
                Fit::Yes => return Some(index),
                Fit::No => {}
                Fit::Unknown(fact) => {
                    unknown = true;
                    lacks(index, fact);
                }
            }
        }
        // A single rule is the one that is meant.
        (unknown && rules.len() == 1).then_some(0)
    }

    fn fits(&self, matcher: &Match) -> Fit {
        let text =
            |fact: &Option<Cow<'_, str>>, has: &dyn Fn(&str) -> bool| fact.as_deref().map(has);
        let answers = [
            (
                !matcher.sources.is_empty(),
                "source",
                self.source.map(|source| matcher.has_source(source)),
            ),
            (
                matcher.listener_port.is_some(),
                "listener_port",
                self.listener_port
                    .map(|port| matcher.has_listener_port(port)),
            ),
            (
                matcher.cluster.is_some(),
                "cluster",
                text(&self.cluster, &|cluster| matcher.has_cluster(cluster)),
            ),
            (
                matcher.authority.is_some(),
                "authority",
                text(&self.authority, &|name| matcher.has_authority(name)),
            ),
            (
                !matcher.methods.is_empty(),
                "method",
                text(&self.method, &|method| matcher.has_method(method)),
            ),
            (
                matcher.path_prefix.is_some(),
                "path_prefix",
                text(&self.path, &|path| matcher.has_path(path)),
            ),
        ];
        let asked = || answers.iter().filter(|(asked, ..)| *asked);
        if asked().any(|(.., answer)| *answer == Some(false)) {
            return Fit::No;
        }
        match asked().find(|(.., answer)| answer.is_none()) {
            Some((_, fact, _)) => Fit::Unknown(fact),
            None => Fit::Yes,
        }
    }
}

/// An address, with or without a port.
pub fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok().or_else(|| {
        let socket: std::net::SocketAddr = text.parse().ok()?;
        Some(socket.ip())
    })
}

#[cfg(test)]
mod tests {
    use tidegate::config::{self, Build};

    use super::*;

    fn rules(json: &str) -> Vec<Rule> {
        let policy = config::parse(json.as_bytes(), Build::THIS).unwrap();
        policy.rules().to_vec()
    }

    #[test]
    fn the_first_rule_that_holds_is_taken_and_what_is_unknown_is_told() {
        let rules = rules(
            r#"{"rules": [{"name": "a", "match": {"source": ["10.0.0.0/8"], "path_prefix": "/v1/"}},
                {"name": "b", "match": {"source": ["10.0.0.0/8"]}}]}"#,
        );
        let mut lacking = Vec::new();
        let facts = Facts {
            source: address("10.1.1.1:443"),
            ..Facts::default()
        };
        let chosen = facts.choose(&rules, |rule, fact| lacking.push((rule, fact)));
        assert_eq!((chosen, lacking), (Some(1), vec![(0, "path_prefix")]));
        let outside = Facts {
            source: address("[2001:db8::1]"),
            ..Facts::default()
        };
        assert_eq!(outside.choose(&rules, |_, _| unreachable!()), None);
    }

    #[test]
    fn a_single_rule_is_meant_when_nothing_speaks_against_it() {
        let rules = rules(r#"{"rules": [{"name": "a", "match": {"cluster": "x"}}]}"#);
        assert_eq!(Facts::default().choose(&rules, |_, _| ()), Some(0));
        let other = Facts {
            cluster: Some("y".into()),
            ..Facts::default()
        };
        assert_eq!(other.choose(&rules, |_, _| ()), None);
    }
}
