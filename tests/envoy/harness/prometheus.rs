//! The real Prometheus, where it is set up.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use super::{
    http,
    places::{self, Folder},
    process::{Program, clean},
    until,
};

/// The programs of Prometheus.
pub struct Programs {
    server: PathBuf,
    promtool: PathBuf,
}

/// The programs, or a loud word about what is not tested.
pub fn programs(test: &str) -> Option<Programs> {
    let given = env::var_os("TIDEGATE_PROMETHEUS_BIN").filter(|folder| !folder.is_empty());
    let find = |name: &str| match &given {
        Some(folder) => Some(Path::new(folder).join(name)).filter(|file| file.is_file()),
        None => places::which(name),
    };
    let found = find("prometheus")
        .zip(find("promtool"))
        .map(|(server, promtool)| Programs { server, promtool });
    if found.is_none() {
        places::skip(test, "Prometheus is missing; type: cargo xtask setup");
    }
    found
}

impl Programs {
    /// What promtool says to files of a folder.
    pub fn promtool(&self, folder: &Path, arguments: &[&str]) -> Output {
        let mut command = clean(&self.promtool);
        command.args(arguments).current_dir(folder);
        command.output().expect("it runs")
    }
}

/// The labels of one series, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A running server.
pub struct Prometheus {
    address: SocketAddr,
    _program: Program,
    _folder: Folder,
}

impl Prometheus {
    /// Starts one with these files, of which the first is its configuration.
    pub fn start(programs: &Programs, files: &[(&str, String)]) -> Self {
        let folder = Folder::new();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let config = folder.path().join(files[0].0);
        let log = folder.path().join("log");
        let (program, address) = until(|| {
            let address = SocketAddr::from(([127, 0, 0, 1], places::free_port()));
            let mut command = clean(&programs.server);
            command.arg(format!("--config.file={}", config.display()));
            let data = folder.path().join("data");
            command.arg(format!("--storage.tsdb.path={}", data.display()));
            command.arg(format!("--web.listen-address={address}"));
            command.current_dir(folder.path());
            let mut program = Program::start(command, &log);
            let ready = until(|| {
                if program.ended().is_some() {
                    return Ok(false);
                }
                TcpStream::connect(address).map_err(|error| error.to_string())?;
                let answer = http::get(address, "/-/ready");
                (answer.status == 200).then_some(true).ok_or(answer.body)
            });
            if ready {
                Ok((program, address))
            } else {
                Err(format!("it ended:\n{}", program.log()))
            }
        });
        Self {
            address,
            _program: program,
            _folder: folder,
        }
    }

    /// What its interface for programs answers, or its objection.
    pub fn ask(&self, path: &str, arguments: &[(&str, &str)]) -> Result<Value, String> {
        let pairs = arguments
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let answer = http::get(self.address, &format!("/api/v1/{path}?{query}")).body;
        let mut answer: Value =
            serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer.to_string()),
        }
    }

    /// What an expression has as its value now.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let data = self.ask("query", &[("query", expression)])?;
        let result = data["result"].as_array();
        let result = result.ok_or_else(|| format!("no vector: {data}"))?;
        Ok(result.iter().map(sample).collect())
    }

    /// The names of the labels that these selectors' series have.
    pub fn labels(&self, selectors: &[String]) -> Vec<String> {
        let matches: Vec<_> = selectors
            .iter()
            .map(|selector| ("match[]", selector.as_str()))
            .collect();
        let names = self.ask("labels", &matches).expect("the labels");
        texts(&names)
    }
}

/// A list of texts.
fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|text| text.as_str().expect("text").to_owned())
        .collect()
}

/// `{"metric": {"label": "value"}, "value": [seconds, "number"]}`.
fn sample(one: &Value) -> Sample {
    let labels = one["metric"].as_object().expect("labels");
    let labels = labels
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()));
    let value = one["value"][1].as_str().expect("a number as text");
    Sample {
        labels: labels.collect(),
        value: value.parse().expect("a number"),
    }
}

/// As it may stand in a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
