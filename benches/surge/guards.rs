//! What stands between the clients and the upstream.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    harness::{
        Bootstrap, Envoy,
        bootstrap::Shipped,
        places::{self, Folder},
        process::{Program, servers},
        until,
    },
    talk::ROLE,
};

/// Envoy's workers.
const WORKERS: u32 = 2;

/// A kind of guard.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Envoy that passes everything on.
    None,
    /// Envoy with a filter of its own, in YAML.
    Filter(&'static str),
    /// Envoy with these thresholds of its circuit breaker.
    CircuitBreaker(&'static str),
    /// HAProxy with these lines in its frontend and in its backend.
    HaProxy(&'static str),
    /// PgBouncer as it comes, for any number of clients.
    PgBouncer,
    /// Envoy with tidegate and this configuration.
    Tidegate(String),
}

/// A guard that runs; it ends with this value.
pub struct Running {
    pub address: SocketAddr,
    program: Runs,
}

enum Runs {
    Envoy(Box<Envoy>),
    Other { _program: Program, _folder: Folder },
}

impl Guard {
    /// Why it can't run here, if it can't.
    pub fn missing(&self) -> Option<String> {
        match self {
            Self::HaProxy(_) => absent("haproxy"),
            Self::PgBouncer => absent("pgbouncer"),
            Self::Tidegate(configuration) => {
                let build = tidegate::config::Build { inspect: true };
                let refused = tidegate::config::parse(configuration.as_bytes(), build).err()?;
                Some(refused.to_string().replace('\n', "; "))
            }
            _ => None,
        }
    }

    /// Starts it before the upstream.
    pub fn start(&self, shipped: Shipped, upstream: SocketAddr) -> Running {
        let plain = shipped.before(upstream);
        match self {
            Self::None => envoy(shipped, &filter(plain, "")),
            Self::Filter(yaml) => envoy(shipped, &filter(plain, yaml)),
            Self::CircuitBreaker(thresholds) => {
                envoy(shipped, &break_at(filter(plain, ""), thresholds))
            }
            Self::Tidegate(configuration) => envoy(shipped, &configured(plain, configuration)),
            Self::HaProxy(lines) => haproxy(upstream, lines),
            Self::PgBouncer => pgbouncer(upstream),
        }
    }
}

impl Running {
    /// What tidegate says of itself, without what is zero.
    pub fn told(&self) -> Value {
        let Runs::Envoy(envoy) = &self.program else {
            return Value::Null;
        };
        let told: serde_json::Map<String, Value> = envoy
            .metrics()
            .all
            .into_iter()
            .filter(|series| {
                series.name.starts_with("tidegate_")
                    && !series.name.starts_with("tidegate_hold_ms")
                    && !series.name.starts_with("tidegate_build")
                    && series.value != 0.0
            })
            .map(|series| {
                let labels: Vec<String> = series
                    .labels
                    .iter()
                    .filter(|(label, _)| matches!(label.as_str(), "reason" | "kind"))
                    .map(|(_, value)| format!("{{{value}}}"))
                    .collect();
                let name = format!("{}{}", series.name, labels.concat());
                (name, json!(series.value))
            })
            .collect();
        let events: Vec<Value> = envoy.events().into_iter().map(|event| event.json).collect();
        if told.is_empty() {
            Value::Null
        } else {
            json!({"metrics": told, "events": events})
        }
    }
}

fn absent(program: &str) -> Option<String> {
    let missing = places::which(program).is_none();
    missing.then(|| format!("{program} is missing; type: sudo apt-get install {program}"))
}

fn envoy(shipped: Shipped, bootstrap: &Bootstrap) -> Running {
    let envoy = Envoy::start(bootstrap, WORKERS);
    Running {
        address: envoy.listener(shipped.listener),
        program: Runs::Envoy(Box::new(envoy)),
    }
}

/// Another filter in tidegate's place, or none.
fn filter(bootstrap: Bootstrap, yaml: &str) -> Bootstrap {
    let ours = bootstrap.block("- name: tidegate");
    let indent = &ours[..ours.len() - ours.trim_start().len()];
    let theirs: String = yaml
        .lines()
        .map(|line| format!("{indent}{line}\n"))
        .collect();
    bootstrap.set(&ours, &theirs)
}

/// The thresholds of the upstream's cluster.
fn break_at(bootstrap: Bootstrap, thresholds: &str) -> Bootstrap {
    let old = bootstrap.block("      - {max_connections: ");
    let old = old.trim().to_owned();
    bootstrap.set(&old, &format!("- {{{thresholds}}}"))
}

/// tidegate with this configuration and nothing of the shipped one.
fn configured(bootstrap: Bootstrap, configuration: &str) -> Bootstrap {
    let old = bootstrap.block("configuration:");
    let indent = &old[..old.len() - old.trim_start().len()];
    let block = format!(
        "{indent}configuration:\n\
         {indent}  \"@type\": type.googleapis.com/google.protobuf.StringValue\n\
         {indent}  value: '{configuration}'\n"
    );
    bootstrap.configuration(&block)
}

/// HAProxy with 100 places, and a queue of 2 s before them.
fn haproxy(upstream: SocketAddr, lines: &str) -> Running {
    program("haproxy", |port, file| {
        let text = format!(
            "global\n  maxconn 4000\n  nbthread {WORKERS}\n\
             defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1h\n  \
             timeout server 1h\n  timeout queue 2s\n\
             frontend service\n  bind 127.0.0.1:{port}\n{lines}\n  default_backend db\n\
             backend db\n  server db {upstream} maxconn 100\n"
        );
        fs::write(file, text).expect("its configuration");
        vec!["-db".into(), "-f".into(), file.to_owned()]
    })
}

/// PgBouncer that shares out its sessions by the transaction.
fn pgbouncer(upstream: SocketAddr) -> Running {
    program("pgbouncer", |port, file| {
        let text = format!(
            "[databases]\npostgres = host={} port={} user={ROLE}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             max_client_conn = 4000\n",
            upstream.ip(),
            upstream.port()
        );
        fs::write(file, text).expect("its configuration");
        vec![file.to_owned()]
    })
}

/// Runs a program that listens where its configuration says, and waits until it does.
fn program(name: &str, configure: impl Fn(u16, &Path) -> Vec<PathBuf>) -> Running {
    let path = places::which(name).expect("it is there");
    let folder = Folder::of_the_servers_user();
    let (address, program) = until(|| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, places::free_port()));
        let mut command = servers(&path);
        command.args(configure(address.port(), &folder.path().join("conf")));
        let mut program = Program::start(command, &folder.path().join("log"));
        until(|| match program.ended() {
            Some(status) => Ok(Err(format!("{name}: {status}\n{}", program.log()))),
            None => TcpStream::connect(address)
                .map(|_| Ok(()))
                .map_err(|error| error.to_string()),
        })?;
        Ok((address, program))
    });
    Running {
        address,
        program: Runs::Other {
            _program: program,
            _folder: folder,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{HTTP, POSTGRES, TCP};

    /// As the tests with Envoy make it, without its ports and paths.
    fn shipped(shipped: Shipped) -> Bootstrap {
        Bootstrap {
            text: shipped.text(),
        }
    }

    #[test]
    fn every_shipped_bootstrap_takes_every_guard_of_envoys() {
        for file in [TCP, HTTP, POSTGRES] {
            let none = filter(shipped(file), "");
            assert!(!none.text.contains("wasm"), "{}", none.text);
            let other = filter(shipped(file), "- name: other\n  typed_config: 1");
            assert!(other.text.contains("- name: other\n"), "{}", other.text);
            let limit = r#"{"rules":[{"name":"db"}]}"#;
            let ours = configured(shipped(file), limit);
            assert!(ours.text.contains(&format!("value: '{limit}'\n")));
        }
        for file in [TCP, HTTP] {
            let broken = break_at(filter(shipped(file), ""), "max_connections: 100");
            assert!(broken.text.contains("      - {max_connections: 100}"));
        }
    }

    #[test]
    fn what_this_version_does_not_know_is_no_row() {
        let limit = r#"{"rules":[{"name":"db","limits":{"inflight":1}}]}"#;
        assert_eq!(Guard::Tidegate(limit.to_owned()).missing(), None);
        let unknown = Guard::Tidegate(r#"{"tidal": 1}"#.to_owned());
        assert!(unknown.missing().is_some_and(|why| why.contains("tidal")));
    }
}
