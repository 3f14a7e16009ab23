//! The fuzz targets: built by the stable compiler, and driven by libFuzzer for a while.
//!
//! cargo-fuzz is not needed, and neither is the nightly compiler that it asks for: that one is for
//! the sanitizers, which would find little in code that is forbidden to be unsafe. What remains is
//! what it passes to the compiler with `-s none`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    checkout::Context,
    process::{NotReady, asked, cargo, last_lines, logged, shown, tool},
    setup::{self, COMPILER, Part},
};

/// Instruments edges and comparisons.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// An input that takes longer, in s of a machine that may be busy, is a crash; and so is a process that holds more, in MiB.
const TIMEOUT_S: u64 = 60;
const MEMORY_MIB: u64 = 1024;
/// How long each target runs where nothing is said.
const SECONDS: u64 = 5;

/// What is run, and for how long; all of them for a short time where nothing is said.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Which target; all of them, one after the other, when none is named
    target: Option<String>,
    /// End each after so many inputs
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// End each after so many seconds; 5 where neither is given
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Print the names of the targets
    #[arg(long)]
    list: bool,
}

/// Builds the targets and runs what was asked for. Fails with the first that crashes.
pub fn run(ctx: &Context, options: &Options) -> Result<()> {
    let targets = targets(&ctx.checkout.root)?;
    if options.list {
        targets.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    let chosen: Vec<&String> = match &options.target {
        None => targets.iter().collect(),
        Some(name) => targets.iter().filter(|target| *target == name).collect(),
    };
    if chosen.is_empty() {
        bail!("there is no such target; those are {}", targets.join(", "));
    }
    setup::ensure(ctx, &[Part::Compiler])?;
    if !COMPILER.is_there() {
        return Err(NotReady::new(COMPILER.loss()));
    }
    let programs = build(ctx)?;
    println!("{}", Summary::HEADER);
    let mut sum = 0;
    for target in chosen {
        let summary = fuzz(ctx, &programs, target, options)?;
        sum += summary.executions;
        println!("{}", summary.row(target));
    }
    println!("{sum} executions, no crash");
    Ok(())
}

/// The names of the targets, in order.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Some(name) = path.file_stem().filter(|_| path.extension().is_some()) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The folder with the programs of the targets.
fn build(ctx: &Context) -> Result<PathBuf> {
    let mut rustc = tool("rustc");
    rustc.args(["--print", "host-tuple"]);
    let host = asked(rustc).context("rustc does not say which machine this is")?;
    let target = ctx.checkout.target.join("fuzz");
    let mut command = cargo(ctx);
    command.args(["build", "--release", "--locked", "--bins"]);
    command.args(["--manifest-path", "fuzz/Cargo.toml"]);
    // With a target named, build scripts and macros are not instrumented.
    command
        .args(["--target", &host, "--target-dir"])
        .arg(&target);
    command.env_remove("RUSTFLAGS");
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    logged(ctx, "compile the fuzz targets", command)?;
    Ok(target.join(host).join("release"))
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    executions: u64,
    seconds: u64,
    /// Edges and comparisons that were reached, and how often they were counted differently.
    coverage: u64,
    features: u64,
    corpus: u64,
}

impl Summary {
    const HEADER: &str = "target        executions  seconds  coverage  features  corpus";

    /// From what libFuzzer printed.
    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut done = lines
            .find(|line| line.contains("\tDONE "))?
            .split_whitespace();
        let mut number = |name: &str| {
            done.find(|word| *word == name)?;
            done.next()?.split('/').next()?.parse().ok()
        };
        let (coverage, features) = (number("cov:")?, number("ft:")?);
        let corpus = number("corp:")?;
        let last = lines.find(|line| line.starts_with("Done "))?;
        let numbers: Vec<u64> = last
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let [executions, seconds] = numbers[..] else {
            return None;
        };
        Some(Self {
            executions,
            seconds,
            coverage,
            features,
            corpus,
        })
    }

    fn row(&self, target: &str) -> String {
        let Self {
            executions,
            seconds,
            coverage,
            features,
            corpus,
        } = self;
        format!("{target:<12}{executions:>12}{seconds:>9}{coverage:>10}{features:>10}{corpus:>8}")
    }
}

/// Runs one target. What it finds interesting is kept in `target/fuzz`, and used the next time.
fn fuzz(ctx: &Context, programs: &Path, target: &str, options: &Options) -> Result<Summary> {
    let root = &ctx.checkout.root;
    let folder = ctx.checkout.target.join("fuzz");
    let (corpus, crashes) = (folder.join("corpus").join(target), folder.join("crashes"));
    for folder in [&corpus, &crashes] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut command = tool(programs.join(target));
    command
        .arg(&corpus)
        .arg(root.join("fuzz/seeds").join(target));
    let dictionary = root.join(format!("fuzz/dictionaries/{target}.dict"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    match (options.runs, options.seconds) {
        (None, None) => command.arg(format!("-max_total_time={SECONDS}")),
        (runs, seconds) => command
            .args(runs.map(|runs| format!("-runs={runs}")))
            .args(seconds.map(|seconds| format!("-max_total_time={seconds}"))),
    };
    command.arg(format!("-timeout={TIMEOUT_S}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB}"));
    command.arg(format!("-artifact_prefix={}/{target}-", crashes.display()));
    command.arg("-print_final_stats=1");

    let log = ctx.checkout.log(&format!("fuzz {target}"));
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let what = shown(&command);
    let (since, copy) = (Instant::now(), file.try_clone()?);
    command.stdin(Stdio::null()).stdout(copy).stderr(file);
    let status = command
        .status()
        .with_context(|| format!("cannot run {what}"))?;
    // What is not text is in the words that it found interesting.
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        bail!(
            "the target {target} crashed: {status}\n  {what}\n  | {}\n  An input that breaks a \
             promise becomes a seed in fuzz/seeds/{target} when it is mended.",
            last_lines(&log, 60).join("\n  | ")
        );
    }
    let seconds = since.elapsed().as_secs();
    Summary::read(&text)
        .map(|summary| Summary { seconds, ..summary })
        .with_context(|| format!("{target} did not say what it did; see {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::repository;

    #[test]
    fn what_libfuzzer_says_at_its_end_is_understood() {
        let lines = [
            "#2\tINITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 27Mb",
            "#600\tDONE   cov: 11 ft: 17 corp: 3/9b lim: 4096 exec/s: 2097152 rss: 27Mb",
            "\"holf\" # Uses: 18",
            "Done 600 runs in 4 second(s)",
            "stat::number_of_executed_units: 600",
        ];
        let summary = Summary::read(&lines.join("\n")).expect("a summary");
        assert_eq!(
            summary.row("gate").split_whitespace().collect::<Vec<_>>(),
            ["gate", "600", "4", "11", "17", "3"]
        );
        assert_eq!(Summary::read("==1== ERROR"), None);
    }

    #[test]
    fn every_target_is_a_program_with_seeds_and_a_row_in_the_documentation() {
        let targets = targets(&repository("")).expect("targets");
        assert!(targets.len() >= 8, "{targets:?}");
        let manifest = fs::read_to_string(repository("fuzz/Cargo.toml")).expect("a manifest");
        let page = fs::read_to_string(repository("docs/reliability.md")).expect("a page");
        for target in &targets {
            let path = format!("path = \"fuzz_targets/{target}.rs\"");
            assert!(manifest.contains(&path), "{target}");
            let source = repository(&format!("fuzz/fuzz_targets/{target}.rs"));
            let source = fs::read_to_string(source).expect("a source");
            assert!(
                source.contains(&format!("tidegate_fuzz::{target}::run(data)")),
                "{target}"
            );
            let seeds = fs::read_dir(repository(&format!("fuzz/seeds/{target}")));
            assert!(seeds.expect("seeds").count() > 0, "{target}");
            assert!(page.contains(&format!("\n| `{target}` |")), "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
        let dictionaries = fs::read_dir(repository("fuzz/dictionaries")).expect("dictionaries");
        for entry in dictionaries {
            let name = entry.expect("an entry").path();
            let target = name
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            assert!(targets.contains(&target), "{target}");
        }
    }
}
