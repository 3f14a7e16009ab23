//! The workflows under `.github/`: whether a typo in them would be noticed before a release.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _};

use clap::Parser as _;
use serde::Deserialize;

use crate::{
    Cli,
    testing::{can_publish, repository, said},
};

type Texts = BTreeMap<String, String>;

/// A workflow, as far as ours use the format; anything else in it is a mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Workflow {
    name: String,
    #[serde(rename = "on")]
    _on: Events,
    permissions: Texts,
    jobs: BTreeMap<String, Job>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Events {
    #[serde(rename = "push")]
    _push: Push,
    #[serde(default, rename = "pull_request")]
    _pull_request: Option<Texts>,
    #[serde(default, rename = "workflow_call")]
    _workflow_call: Option<Texts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    #[serde(default, rename = "branches")]
    _branches: Vec<String>,
    #[serde(default, rename = "tags")]
    _tags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Job {
    needs: Option<String>,
    uses: Option<String>,
    runs_on: Option<String>,
    #[serde(default)]
    permissions: Texts,
    container: Option<String>,
    timeout_minutes: Option<u32>,
    #[serde(default)]
    env: Texts,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    uses: Option<String>,
    #[serde(default)]
    with: Texts,
    run: Option<String>,
}

/// What the actions that are used understand, as far as it is used.
const INPUTS: [(&str, &[&str]); 4] = [
    ("actions/checkout", &["persist-credentials"]),
    ("actions/setup-node", &["node-version"]),
    (
        "actions/upload-artifact",
        &["name", "path", "if-no-files-found"],
    ),
    ("actions/download-artifact", &["name", "path"]),
];

/// The texts of the workflows by their names.
fn texts() -> Texts {
    let folder = fs::read_dir(repository(".github/workflows")).unwrap();
    let files = folder.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    });
    files.collect()
}

/// The workflows by their names.
fn workflows() -> BTreeMap<String, Workflow> {
    let parsed = texts().into_iter().map(|(name, text)| {
        let workflow = serde_saphyr::from_str(&text);
        let workflow = workflow.unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, workflow)
    });
    parsed.collect()
}

/// All that is run, in order.
fn commands() -> Vec<String> {
    let jobs = workflows()
        .into_values()
        .flat_map(|one| one.jobs.into_values());
    let runs = jobs.flat_map(|job| job.steps).filter_map(|step| step.run);
    runs.flat_map(|run| run.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// The words of a command; no word of ours holds a space.
fn words(command: &str) -> Vec<String> {
    let command = command.split(" <<< ").next().unwrap_or(command);
    let words = command.split_whitespace();
    words
        .map(|word| word.trim_matches('"').to_owned())
        .collect()
}

#[test]
fn every_workflow_is_of_the_form_that_github_reads() {
    let workflows = workflows();
    assert_eq!(
        workflows.keys().collect::<Vec<_>>(),
        ["ci.yml", "release.yml"]
    );
    for (file, workflow) in &workflows {
        assert_eq!(file, &format!("{}.yml", workflow.name));
        for (name, job) in &workflow.jobs {
            if let Some(needed) = &job.needs {
                assert!(workflow.jobs.contains_key(needed), "{file}: {name}");
            }
            if let Some(other) = &job.uses {
                assert!(repository(other).is_file(), "{file}: {name}: {other}");
                continue;
            }
            assert_eq!(
                job.runs_on.as_deref(),
                Some("ubuntu-24.04"),
                "{file}: {name}"
            );
            assert!(job.timeout_minutes.is_some(), "{file}: {name}");
            assert!(!job.steps.is_empty(), "{file}: {name}");
            for step in &job.steps {
                assert!(step.uses.is_some() != step.run.is_some(), "{file}: {name}");
            }
        }
    }
}

#[test]
fn only_what_publishes_may_write() {
    for (file, workflow) in workflows() {
        let reads: Texts = [("contents".to_owned(), "read".to_owned())].into();
        assert_eq!(workflow.permissions, reads, "{file}");
        for (name, job) in workflow.jobs {
            let may_write = job.permissions.values().any(|access| access == "write");
            assert_eq!(may_write, name == "publish", "{file}: {name}");
            // What was built is tested elsewhere, and not run where it could write.
            let builds = job.steps.iter().filter_map(|step| step.run.as_deref());
            let mut builds = builds.filter(|run| run.contains("xtask") || run.contains(".ci"));
            assert!(!may_write || builds.next().is_none(), "{file}: {name}");
        }
    }
}

#[test]
fn every_action_is_pinned_to_a_commit_and_gets_inputs_that_it_has() {
    for (file, workflow) in workflows() {
        let steps = workflow.jobs.into_values().flat_map(|job| job.steps);
        for (action, with) in steps.filter_map(|step| Some((step.uses?, step.with))) {
            let (name, commit) = action.split_once('@').expect("a commit");
            let digits = commit.bytes().filter(u8::is_ascii_hexdigit).count();
            assert_eq!((digits, commit.len()), (40, 40), "{file}: {action}");
            let (_, inputs) = INPUTS.iter().find(|(known, _)| *known == name).expect(name);
            for input in with.keys() {
                assert!(inputs.contains(&input.as_str()), "{file}: {name}: {input}");
            }
        }
    }
    for (file, text) in texts() {
        for line in text.lines().filter(|line| line.contains("uses: actions/")) {
            assert!(line.contains(" # v"), "{file}: which version is it? {line}");
        }
    }
}

#[test]
fn all_containers_and_their_variables_are_the_same() {
    let jobs = workflows()
        .into_values()
        .flat_map(|one| one.jobs.into_values());
    let inside: Vec<Job> = jobs.filter(|job| job.container.is_some()).collect();
    assert_eq!(inside.len(), 3);
    let minor = format!("rust:{}.", env!("CARGO_PKG_RUST_VERSION"));
    for job in &inside {
        assert_eq!(job.container, inside[0].container);
        assert!(job.container.as_ref().unwrap().starts_with(&minor));
        let git: Vec<_> = job
            .env
            .iter()
            .filter(|(name, _)| name.starts_with("GIT_"))
            .collect();
        let expected = [
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("GIT_CONFIG_VALUE_0", "*"),
        ];
        assert_eq!(git.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(job.env[name], value);
        }
    }
}

#[test]
fn every_command_is_one_of_the_repository_or_of_the_tools_that_publish() {
    let mut seen = BTreeMap::new();
    for command in commands() {
        let words = words(&command);
        let [program, first, ..] = words.as_slice() else {
            let script = repository(&command);
            let mode = fs::metadata(&script).expect(&command).permissions().mode();
            assert_ne!(mode & 0o100, 0, "{command}");
            *seen.entry(command).or_insert(0) += 1;
            continue;
        };
        match (program.as_str(), first.as_str()) {
            ("cargo", "xtask") => {
                if let Err(error) = Cli::try_parse_from(&words[1..]) {
                    panic!("{command}: {error}");
                }
            }
            ("skopeo", "login" | "copy") | ("gh", "release") => {}
            _ => panic!("not a command of the repository: {command}"),
        }
        *seen.entry(program.clone()).or_insert(0) += 1;
    }
    let expected = [(".ci/run", 1), ("cargo", 2), ("gh", 1), ("skopeo", 3)];
    assert_eq!(
        seen,
        expected
            .map(|(name, count)| (name.to_owned(), count))
            .into()
    );
}

#[test]
fn the_tools_that_publish_have_the_options_that_they_are_given() {
    if !can_publish("the_tools_that_publish_have_the_options_that_they_are_given") {
        return;
    }
    for command in commands() {
        let words = words(&command);
        let depth = match words[0].as_str() {
            "skopeo" => 1,
            "gh" => 2,
            _ => continue,
        };
        let mut asked: Vec<&str> = words[1..=depth].iter().map(String::as_str).collect();
        asked.push("--help");
        let help = said(&words[0], &asked, &repository("."));
        let has = |option: &str| help.split([' ', ',', '\n', '=']).any(|word| word == option);
        for option in words.iter().filter(|word| word.starts_with('-')) {
            assert!(has(option), "{command}: {option} is not in:\n{help}");
        }
    }
}

/// The files that are published are those that are packaged.
#[test]
fn the_images_that_are_pushed_are_those_of_the_package() {
    let pushed: Vec<String> = commands()
        .iter()
        .filter(|command| command.starts_with("skopeo copy"))
        .flat_map(|command| words(command))
        .filter(|word| word.contains("://") || word.starts_with("oci-archive:"))
        .map(|word| word.replace("${GITHUB_REF_NAME#v}", "VERSION"))
        .collect();
    assert_eq!(
        pushed,
        [
            "oci-archive:package/tidegate-VERSION.oci.tar",
            "docker://ghcr.io/${GITHUB_REPOSITORY,,}:VERSION",
            "oci-archive:package/tidegate-inspect-VERSION.oci.tar",
            "docker://ghcr.io/${GITHUB_REPOSITORY,,}-inspect:VERSION",
        ]
    );
}
