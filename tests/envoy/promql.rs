//! What an expression of PromQL names, and what it would say of anything.

use std::collections::BTreeSet;

use rusty_promql_parser::{
    BinaryModifier, Expr, VectorSelector,
    parser::{expr, selector::LabelMatcher},
};

/// An expression, taken apart.
#[derive(Clone, Debug)]
pub struct Expression {
    /// What it selects, one selector each, now instead of in the past. Each value that a matcher
    /// names is one more, also where it is left out (`!=`): it must exist to be left out.
    pub selectors: BTreeSet<String>,
    /// The labels that it groups by, matches or joins on.
    pub labels: BTreeSet<String>,
    /// Itself, now instead of in the past, and with 0 or 1 where it compares: it has a value whether
    /// or not the comparison holds.
    pub unconditional: String,
}

/// What matches everything that has the label, as Grafana's `All` does.
pub const ALL: &str = ".+";

impl Expression {
    /// Takes it apart.
    pub fn read(text: &str) -> Self {
        let parsed = expr(text.trim());
        let (rest, mut whole) = parsed.unwrap_or_else(|error| panic!("{error} in {text}"));
        assert_eq!(rest, "", "it ends before: {text}");
        let mut read = Self {
            selectors: BTreeSet::new(),
            labels: BTreeSet::new(),
            unconditional: String::new(),
        };
        read.walk(&mut whole);
        read.unconditional = whole.to_string();
        read
    }

    fn walk(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Aggregation(aggregation) => {
                if let Some(grouping) = &aggregation.grouping {
                    self.labels.extend(grouping.labels.iter().cloned());
                }
                if let Some(param) = &mut aggregation.param {
                    self.walk(param);
                }
                self.walk(&mut aggregation.expr);
            }
            Expr::Binary(binary) => {
                let compares = binary.op.is_comparison();
                let modifier = binary.modifier.get_or_insert_with(BinaryModifier::default);
                modifier.return_bool |= compares;
                if let Some(matching) = &modifier.matching {
                    let group = matching.group.iter().flat_map(|group| &group.labels);
                    self.labels
                        .extend(matching.labels.iter().chain(group).cloned());
                }
                self.walk(&mut binary.lhs);
                self.walk(&mut binary.rhs);
            }
            Expr::Unary(unary) => self.walk(&mut unary.expr),
            Expr::Paren(inside) => self.walk(inside),
            Expr::Subquery(subquery) => self.walk(&mut subquery.expr),
            Expr::Call(call) => call
                .args
                .iter_mut()
                .for_each(|argument| self.walk(argument)),
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&mut matrix.selector),
            Expr::Number(_) | Expr::String(_) => {}
        }
    }

    fn selector(&mut self, selector: &mut VectorSelector) {
        (selector.offset, selector.at) = (None, None);
        self.selectors.insert(selector.to_string());
        for matcher in &selector.matchers {
            self.labels.insert(matcher.name.clone());
            // Several metrics at once, by an expression for their names.
            let Some(name) = &selector.name else { continue };
            for value in values(matcher) {
                let label = &matcher.name;
                self.selectors
                    .insert(format!("{name}{{{label}={value:?}}}"));
            }
        }
    }
}

/// The values that a matcher names.
fn values(matcher: &LabelMatcher) -> Vec<&str> {
    match matcher.value.as_str() {
        ALL => Vec::new(),
        alternatives if matcher.op.is_regex() => alternatives.split('|').collect(),
        one => vec![one],
    }
}

#[test]
fn a_subquery_over_several_metrics_is_one_selector() {
    let read =
        Expression::read(r#"rate((sum by (job) ({__name__=~"a_(b|c)",job=~".+"}))[20s:5s])"#);
    let selector = r#"{__name__=~"a_(b|c)", job=~".+"}"#;
    assert_eq!(read.selectors, [selector.to_owned()].into());
    assert_eq!(read.labels, ["__name__", "job"].map(str::to_owned).into());
    let whole = format!("rate((sum by (job) ({selector}))[20s:5s])");
    assert_eq!(read.unconditional, whole);
}

#[test]
fn an_expression_is_taken_apart() {
    let read = Expression::read(
        r#"sum by (job) (rate(a{kind!="x",job=~".+"}[5m] offset 1d)) > 2
           and on (rule) b{c=~"y|z"}"#,
    );
    let selectors = [
        r#"a{kind!="x", job=~".+"}"#,
        r#"a{kind="x"}"#,
        r#"b{c=~"y|z"}"#,
        r#"b{c="y"}"#,
        r#"b{c="z"}"#,
    ];
    assert_eq!(read.selectors, selectors.map(str::to_owned).into());
    let labels = ["c", "job", "kind", "rule"];
    assert_eq!(read.labels, labels.map(str::to_owned).into());
    assert_eq!(
        read.unconditional,
        r#"sum by (job) (rate(a{kind!="x", job=~".+"}[5m])) > bool 2 and on (rule) b{c=~"y|z"}"#
    );
}
