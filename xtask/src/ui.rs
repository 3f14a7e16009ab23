//! What the user sees while they wait: a spinner on a terminal, plain lines elsewhere.

use std::{
    env,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How to talk to the user. Everything goes to stderr.
pub struct Ui {
    fancy: bool,
}

impl Ui {
    /// Spinners when stderr is a terminal and `NO_COLOR` is not set.
    pub fn from_env() -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            fancy: !plain && std::io::stderr().is_terminal(),
        }
    }

    /// Begins a step; it ends with [`Step::done`], and counts as failed when dropped before.
    pub fn step(&self, name: &str) -> Step {
        let bar = self.fancy.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() {
            eprintln!("> {name}");
        }
        Step {
            name: name.to_owned(),
            bar,
            since: Instant::now(),
            ended: false,
        }
    }

    /// Something worth knowing that is no error.
    pub fn note(&self, text: &str) {
        eprintln!("note: {text}");
    }

    /// Something that makes the result worth less.
    pub fn warn(&self, text: &str) {
        let line = "!".repeat(72);
        eprintln!("{line}\nwarning: {text}\n{line}");
    }
}

/// A step under way.
pub struct Step {
    name: String,
    bar: Option<ProgressBar>,
    since: Instant,
    ended: bool,
}

impl Step {
    /// What the step is doing just now; shown on terminals only.
    pub fn progress(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Ends the step well.
    pub fn done(mut self) {
        self.end("ok");
    }

    /// Takes the spinner away and prints the outcome.
    fn end(&mut self, outcome: &str) {
        self.ended = true;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!(
            "{outcome}: {} ({:.1} s)",
            self.name,
            self.since.elapsed().as_secs_f64()
        );
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.end("failed");
        }
    }
}
