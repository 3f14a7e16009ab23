//! The shipped bootstrap and the live page's listener, with what the demo has to change in them.

use std::path::Path;

use anyhow::{Result, bail};

/// The bootstrap that the demo is about.
pub const SHIPPED: &str = "envoy/postgres.yaml";

/// What serves the live page, to be merged into any bootstrap.
pub const PAGE: &str = "envoy/status/listener.yaml";

/// Where the guard begins in the shipped bootstrap, and what follows it.
const FILTER: (&str, &str) = (
    "      # (tidegate) Before tcp_proxy",
    "      - name: envoy.filters.network.tcp_proxy\n",
);

/// What differs from the shipped bootstrap.
pub struct Changes<'a> {
    /// The port of Envoy's administration.
    pub admin: u16,
    /// The port that clients connect to.
    pub listener: u16,
    /// The port of PostgreSQL.
    pub database: u16,
    /// The plugin, and none for a proxy alone.
    pub guard: Option<Guard<'a>>,
}

/// How the plugin is set in the demo.
pub struct Guard<'a> {
    /// The module.
    pub module: &'a Path,
    /// `limits.inflight`.
    pub limit: u32,
    /// `hold.max_wait`.
    pub max_wait: &'a str,
}

/// The bootstrap with the changes; fails when it has no place for one of them.
pub fn edited(shipped: &str, changes: &Changes) -> Result<String> {
    let port = |port: u16| format!("port_value: {port}}}");
    let mut text = shipped.to_owned();
    replace(SHIPPED, &mut text, &port(9901), &port(changes.admin))?;
    replace(SHIPPED, &mut text, &port(10002), &port(changes.listener))?;
    replace(SHIPPED, &mut text, &port(5432), &port(changes.database))?;
    let Some(guard) = &changes.guard else {
        cut(&mut text, FILTER.0, FILTER.1)?;
        return Ok(text);
    };
    replace(
        SHIPPED,
        &mut text,
        "filename: target/tidegate/tidegate-inspect.wasm",
        &format!("filename: '{}'", single_quoted(guard.module)?),
    )?;
    replace(
        SHIPPED,
        &mut text,
        r#""inflight": 90"#,
        &format!(r#""inflight": {}"#, guard.limit),
    )?;
    replace(
        SHIPPED,
        &mut text,
        r#""max_wait": "100ms""#,
        &format!(r#""max_wait": "{}""#, guard.max_wait),
    )?;
    Ok(text)
}

/// The live page's listener at that port; fails when it has no place for a change.
pub fn page(shipped: &str, port: u16, admin: u16, html: &Path) -> Result<String> {
    let mut text = shipped.to_owned();
    for (old, new) in [(9902, port), (9901, admin)] {
        let [old, new] = [old, new].map(|port| format!("port_value: {port}}}"));
        replace(PAGE, &mut text, &old, &new)?;
    }
    let html = format!("filename: '{}'", single_quoted(html)?);
    replace(PAGE, &mut text, "filename: envoy/status/index.html", &html)?;
    Ok(text)
}

/// Replaces the only occurrence.
fn replace(file: &str, text: &mut String, from: &str, to: &str) -> Result<()> {
    match text.matches(from).count() {
        1 => {
            *text = text.replacen(from, to, 1);
            Ok(())
        }
        count => bail!(
            "{file} has `{from}` {count} times and not once; \
             adapt xtask/src/demo/bootstrap.rs to it"
        ),
    }
}

/// Takes out the text from `begin` up to `end`.
fn cut(text: &mut String, begin: &str, end: &str) -> Result<()> {
    if let Some((before, rest)) = text.split_once(begin)
        && let Some((_, after)) = rest.split_once(end)
    {
        *text = format!("{before}{end}{after}");
        return Ok(());
    }
    bail!(
        "{SHIPPED} has no `{}` before `{}`; adapt xtask/src/demo/bootstrap.rs to it",
        begin.trim(),
        end.trim()
    )
}

/// The inside of a single-quoted YAML string.
fn single_quoted(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) => Ok(text.replace('\'', "''")),
        None => bail!(
            "{} is not Unicode; move the checkout to a path that is",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../envoy/postgres.yaml");
    const PAGE: &str = include_str!("../../../envoy/status/listener.yaml");

    fn changes(guard: Option<Guard>) -> Changes {
        Changes {
            admin: 41,
            listener: 42,
            database: 43,
            guard,
        }
    }

    #[test]
    fn the_guard_is_set_in_the_shipped_bootstrap() {
        let guard = Guard {
            module: Path::new("/it's/tidegate.wasm"),
            limit: 7,
            max_wait: "3s",
        };
        let text = edited(SHIPPED, &changes(Some(guard))).unwrap();
        for expected in [
            "port_value: 41}",
            "port_value: 42}",
            "port_value: 43}",
            "{filename: '/it''s/tidegate.wasm'}",
            r#""limits": {"inflight": 7}"#,
            r#""max_wait": "3s""#,
        ] {
            assert_eq!(text.matches(expected).count(), 1, "{expected}");
        }
        assert_eq!(text.lines().count(), SHIPPED.lines().count());
    }

    #[test]
    fn without_the_guard_the_proxy_is_left_as_it_is() {
        let text = edited(SHIPPED, &changes(None)).unwrap();
        assert!(!text.contains("wasm"));
        let (_, proxy) = SHIPPED.split_once("tcp_proxy\n").unwrap();
        let (_, left) = text.split_once("- filters:\n").unwrap();
        assert!(left.starts_with(FILTER.1));
        assert!(left.contains(proxy.split_once("\n\n").unwrap().0));
    }

    #[test]
    fn the_live_page_is_set_in_its_shipped_listener() {
        let text = page(PAGE, 44, 41, Path::new("/it's/index.html")).unwrap();
        for expected in [
            "port_value: 44}",
            "port_value: 41}",
            "{filename: '/it''s/index.html'}",
        ] {
            assert_eq!(text.matches(expected).count(), 1, "{expected}");
        }
        let other = PAGE.replace("9902", "9903");
        let error = page(&other, 44, 41, Path::new("/"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("listener.yaml has `port_value: 9902}` 0 times"),
            "{error}"
        );
    }

    #[test]
    fn a_bootstrap_that_has_changed_is_an_error() {
        let other = SHIPPED.replace("10002", "10003");
        let error = edited(&other, &changes(None)).unwrap_err().to_string();
        assert!(error.contains("`port_value: 10002}` 0 times"), "{error}");
    }
}
