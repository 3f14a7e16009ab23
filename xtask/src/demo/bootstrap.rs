//! A shipped bootstrap and the live page's listener, with what the demo has to change in them.

use std::path::Path;

use anyhow::{Result, bail};

/// What serves the live page, to be merged into any bootstrap.
pub const PAGE: &str = "envoy/status/listener.yaml";

/// Where the guard begins in a listener of a shipped bootstrap, and what follows it.
const FILTER: (&str, &str) = (
    "      # (tidegate) Before tcp_proxy",
    "      - name: envoy.filters.network.tcp_proxy\n",
);

/// The backstop of a shipped bootstrap.
const BACKSTOP: &str = "- {max_connections: 90, max_pending_requests: 90}";

/// What differs from the shipped bootstrap.
pub struct Changes<'a> {
    /// The bootstrap's path in the repository.
    pub file: &'a str,
    /// The port of Envoy's administration.
    pub admin: u16,
    /// The ports that clients connect to: as shipped, and here.
    pub listeners: &'a [(u16, u16)],
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
    /// `surge.warm_up`, where it is to be another one.
    pub warm_up: Option<&'a str>,
}

/// The bootstrap with the changes; fails when it has no place for one of them.
///
/// Networks 10.x become 127.x, so that clients of this machine can come from them.
pub fn edited(shipped: &str, changes: &Changes) -> Result<String> {
    let port = |port: u16| format!("port_value: {port}}}");
    let mut text = Text {
        file: changes.file,
        text: shipped.replace("\"10.", "\"127."),
    };
    text.replace(&port(9901), &port(changes.admin))?;
    for (old, new) in changes.listeners {
        text.replace(&port(*old), &port(*new))?;
    }
    text.replace(&port(5432), &port(changes.database))?;
    // Without the guard Envoy is to pass every connection on.
    let ceiling = changes.guard.as_ref().map_or(10_000, |guard| guard.limit);
    text.replace(BACKSTOP, &BACKSTOP.replace("90", &ceiling.to_string()))?;
    let Some(guard) = &changes.guard else {
        for _ in changes.listeners {
            text.cut(FILTER.0, FILTER.1)?;
        }
        return Ok(text.text);
    };
    text.replace(
        "filename: target/tidegate/tidegate-inspect.wasm",
        &format!("filename: '{}'", single_quoted(guard.module)?),
    )?;
    let shipped = r#""warm_up": "60s""#;
    let mut limits = format!(r#"{{"inflight": {}}}"#, guard.limit);
    if let Some(warm_up) = guard.warm_up {
        let warm_up = format!(r#""warm_up": "{warm_up}""#);
        if text.text.contains(shipped) {
            text.replace(shipped, &warm_up)?;
        } else {
            limits += &format!(r#", "surge": {{{warm_up}}}"#);
        }
    }
    text.replace(r#"{"inflight": 90}"#, &limits)?;
    text.replace(
        r#""max_wait": "100ms""#,
        &format!(r#""max_wait": "{}""#, guard.max_wait),
    )?;
    Ok(text.text)
}

/// What the live page's listener has of the plugin, up to what follows.
const ROUTE: (&str, &str) = ("              # Who was behind", "          http_filters:");
const TELLER: (&str, &str) = (
    "          # It guards nothing",
    "          - name: envoy.filters.http.router",
);

/// The live page's listener at that port, with that module or without any; fails when it has no place
/// for a change.
pub fn page(
    shipped: &str,
    [port, admin]: [u16; 2],
    html: &Path,
    module: Option<&Path>,
) -> Result<String> {
    let mut text = Text {
        file: PAGE,
        text: shipped.to_owned(),
    };
    for (old, new) in [(9902, port), (9901, admin)] {
        let [old, new] = [old, new].map(|port| format!("port_value: {port}}}"));
        text.replace(&old, &new)?;
    }
    let html = format!("filename: '{}'", single_quoted(html)?);
    text.replace("filename: envoy/status/index.html", &html)?;
    match module {
        Some(module) => text.replace(
            "filename: target/tidegate/tidegate.wasm",
            &format!("filename: '{}'", single_quoted(module)?),
        )?,
        None => {
            text.cut(ROUTE.0, ROUTE.1)?;
            text.cut(TELLER.0, TELLER.1)?;
        }
    }
    Ok(text.text)
}

/// A bootstrap that is being edited.
struct Text<'a> {
    file: &'a str,
    text: String,
}

impl Text<'_> {
    /// Replaces the only occurrence.
    fn replace(&mut self, from: &str, to: &str) -> Result<()> {
        match self.text.matches(from).count() {
            1 => {
                self.text = self.text.replacen(from, to, 1);
                Ok(())
            }
            count => bail!(
                "{} has `{from}` {count} times and not once; \
                 adapt xtask/src/demo/bootstrap.rs to it",
                self.file
            ),
        }
    }

    /// Takes out the text from the first `begin` up to `end`.
    fn cut(&mut self, begin: &str, end: &str) -> Result<()> {
        if let Some((before, rest)) = self.text.split_once(begin)
            && let Some((_, after)) = rest.split_once(end)
        {
            self.text = format!("{before}{end}{after}");
            return Ok(());
        }
        bail!(
            "{} has no `{}` before `{}`; adapt xtask/src/demo/bootstrap.rs to it",
            self.file,
            begin.trim(),
            end.trim()
        )
    }
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

    const POSTGRES: &str = include_str!("../../../envoy/postgres.yaml");
    const MIGRATION: &str = include_str!("../../../envoy/migration.yaml");
    const LISTENER: &str = include_str!("../../../envoy/status/listener.yaml");

    fn changes<'a>(listeners: &'a [(u16, u16)], guard: Option<Guard<'a>>) -> Changes<'a> {
        Changes {
            file: "envoy/one.yaml",
            admin: 41,
            listeners,
            database: 43,
            guard,
        }
    }

    const ONE: [(u16, u16); 1] = [(10002, 42)];
    const TWO: [(u16, u16); 2] = [(10004, 42), (10005, 44)];

    fn guard(warm_up: Option<&str>) -> Guard<'_> {
        Guard {
            module: Path::new("/it's/tidegate.wasm"),
            limit: 7,
            max_wait: "3s",
            warm_up,
        }
    }

    #[test]
    fn the_guard_is_set_in_the_shipped_bootstraps() {
        let one = edited(POSTGRES, &changes(&ONE, Some(guard(None)))).unwrap();
        let two = edited(MIGRATION, &changes(&TWO, Some(guard(Some("4s"))))).unwrap();
        for expected in [
            "port_value: 41}",
            "port_value: 42}",
            "port_value: 43}",
            "{filename: '/it''s/tidegate.wasm'}",
            r#""limits": {"inflight": 7}"#,
            "- {max_connections: 7, max_pending_requests: 7}",
            r#""max_wait": "3s""#,
        ] {
            assert_eq!(one.matches(expected).count(), 1, "{expected}");
            assert_eq!(two.matches(expected).count(), 1, "{expected}");
        }
        assert!(two.contains("port_value: 44}") && two.contains(r#""warm_up": "4s""#));
        assert!(!one.contains("warm_up"));
        let soon = edited(POSTGRES, &changes(&ONE, Some(guard(Some("4s"))))).unwrap();
        assert!(soon.contains(r#""limits": {"inflight": 7}, "surge": {"warm_up": "4s"},"#));
        assert!(two.contains(r#""source": ["127.1.1.0/24", "127.2.1.0/24"]"#));
        assert_eq!(one.lines().count(), POSTGRES.lines().count());
        assert_eq!(two.lines().count(), MIGRATION.lines().count());
    }

    #[test]
    fn without_the_guard_the_proxy_is_left_as_it_is() {
        for (shipped, listeners) in [(POSTGRES, &ONE[..]), (MIGRATION, &TWO)] {
            let text = edited(shipped, &changes(listeners, None)).unwrap();
            assert!(!text.contains("wasm") && !text.contains("*tidegate"));
            assert_eq!(text.matches("{max_connections: 10000,").count(), 2);
            for (_, proxy) in listeners.iter().zip(shipped.split(FILTER.1).skip(1)) {
                let (proxy, _) = proxy.split_once("\n\n").unwrap();
                assert!(text.contains(&format!("- filters:\n{}{proxy}", FILTER.1)));
            }
        }
    }

    #[test]
    fn the_live_page_is_set_in_its_shipped_listener() {
        let [html, module] = ["/it's/index.html", "/it's/tidegate.wasm"].map(Path::new);
        let plain = page(LISTENER, [44, 41], html, None).unwrap();
        assert!(
            !plain.contains("wasm") && !plain.contains("surges"),
            "{plain}"
        );
        assert!(
            plain
                .contains("          http_filters:\n          - name: envoy.filters.http.router\n")
        );
        let text = page(LISTENER, [44, 41], html, Some(module)).unwrap();
        for expected in [
            "port_value: 44}",
            "port_value: 41}",
            "{filename: '/it''s/index.html'}",
            "{filename: '/it''s/tidegate.wasm'}",
        ] {
            assert_eq!(text.matches(expected).count(), 1, "{expected}");
        }
        let other = LISTENER.replace("9902", "9903");
        let error = page(&other, [44, 41], html, Some(module))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("listener.yaml has `port_value: 9902}` 0 times"),
            "{error}"
        );
    }

    #[test]
    fn a_bootstrap_that_has_changed_is_an_error() {
        let other = POSTGRES.replace("10002", "10003");
        let error = edited(&other, &changes(&ONE, None))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("envoy/one.yaml has `port_value: 10002}` 0 times"),
            "{error}"
        );
    }
}
