//! The demos: real clients, a real Envoy and a real PostgreSQL, with and without the plugin.

mod bootstrap;
mod cast;
mod events;
mod load;
mod numbers;
mod proton;
mod run;
#[cfg(test)]
mod samples;
mod stats;
mod surge;
mod view;

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    bootstrap::{Changes, Guard},
    cast::{Envoy, Folder, Postgres},
    run::{Plan, Report, Stage},
    view::{Colour, Paint},
};
use crate::{
    checkout::Context,
    module::Kind,
    setup::{self, Part},
    wasm,
};

/// `limits.inflight` in the demos.
pub const LIMIT: u32 = 40;
/// `hold.max_wait` in the demos, as in the shipped bootstraps.
pub const MAX_WAIT: &str = "100ms";

/// What can be chosen.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    surge: surge::Options,
}

/// What else is played.
#[derive(Clone, Debug, clap::Subcommand)]
enum Scenario {
    /// A migration: two infrastructures before one database, and a software change that opens ten
    /// times the connections
    ///
    /// One product's software on one of the infrastructures is changed, and after some seconds changed
    /// back: without tidegate, and with it. Leaves the post-mortem in target/demo/proton.
    Proton(proton::Options),
}

/// Sets up what is missing, runs both runs and says what came of them.
///
/// 0: the guard held. 1: it did not, or something failed.
pub fn run(ctx: &Context, options: &Options) -> Result<ExitCode> {
    setup::ensure(ctx, &[Part::Envoy, Part::Postgres])?;
    wasm::build(ctx)?;
    if let Some(Scenario::Proton(_)) = options.scenario {
        proton::prepare(ctx)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Whichever way this ends, what was started ends with the future that owns it.
        tokio::select! {
            biased;
            stopped = stopped() => stopped,
            code = play(ctx, options) => code,
        }
    })
}

/// Ends when the user wants the demo to end.
async fn stopped() -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let name = tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    };
    bail!("stopped by {name}; everything that was started is gone")
}

/// The scenario that was chosen.
async fn play(ctx: &Context, options: &Options) -> Result<ExitCode> {
    match &options.scenario {
        None => surge::play(ctx, &options.surge).await,
        Some(Scenario::Proton(options)) => proton::play(ctx, options).await,
    }
}

/// A file of the checkout.
fn read(ctx: &Context, file: &str) -> Result<String> {
    let path = ctx.checkout.root.join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// What is played, with and without the plugin.
struct Scene {
    /// The bootstrap in the repository that it is about.
    file: &'static str,
    /// The ports of its listeners: as shipped, and here.
    listeners: Vec<(u16, u16)>,
    /// `surge.warm_up` here, where it is another one than the bootstrap's.
    warm_up: Option<&'static str>,
    /// The headings of the run without the plugin, and of the one with it.
    titles: [&'static str; 2],
    /// What happens in each of them.
    plan: Plan,
}

/// Where it is played.
struct Theatre<'a> {
    ctx: &'a Context,
    paint: Paint,
    postgres: Postgres,
    database: u16,
    admin: u16,
    /// The live page's listener, without the plugin and with it.
    pages: [String; 2],
    // The last one: it is removed when nobody works in it any more.
    folder: Folder,
}

impl<'a> Theatre<'a> {
    /// With a fresh database; the ports are free.
    async fn open(ctx: &'a Context, [database, admin, live]: [u16; 3]) -> Result<Self> {
        let folder = Folder::new()?;
        let html = ctx.checkout.root.join("envoy/status/index.html");
        let module = ctx.checkout.artifacts.join(Kind::Inspect.file_name());
        let shipped = read(ctx, bootstrap::PAGE)?;
        let page = |module| bootstrap::page(&shipped, [live, admin], &html, module);
        let pages = [page(None)?, page(Some(module.as_path()))?];
        ctx.ui.note(&format!(
            "live page: http://{}/ (of the second run)",
            cast::local(live)
        ));
        ctx.ui.note(&format!(
            "who comes: grep tidegate_event {}",
            folder.join(cast::ENVOY_LOG).display()
        ));
        Ok(Self {
            ctx,
            pages,
            paint: Paint::from_env(),
            postgres: Postgres::start(ctx, &folder, database).await?,
            database,
            admin,
            folder,
        })
    }

    /// Both runs: without the plugin, and with it.
    async fn play(&mut self, scene: &Scene) -> Result<[Report; 2]> {
        let Self { ctx, paint, .. } = *self;
        let shipped = read(ctx, scene.file)?;
        let module = ctx.checkout.artifacts.join(Kind::Inspect.file_name());
        let mut reports = Vec::new();
        for (guarded, title) in [false, true].into_iter().zip(scene.titles) {
            let changes = Changes {
                file: scene.file,
                admin: self.admin,
                listeners: &scene.listeners,
                database: self.database,
                guard: guarded.then_some(Guard {
                    module: &module,
                    limit: LIMIT,
                    max_wait: MAX_WAIT,
                    warm_up: scene.warm_up,
                }),
            };
            let text = bootstrap::edited(&shipped, &changes)?;
            let page = &self.pages[usize::from(guarded)];
            let envoy = Envoy::start(ctx, &self.folder, [&text, page], self.admin).await?;
            if guarded {
                envoy.check_guard(LIMIT).await?;
            }
            println!("\n{}", paint.paint(Colour::Bold, title));
            println!("{}", view::header(&scene.plan.columns));
            let stage = Stage {
                postgres: &mut self.postgres,
                envoy,
                guarded,
            };
            reports.push(run::run(stage, &scene.plan, paint).await?);
        }
        <[Report; 2]>::try_from(reports)
            .ok()
            .context("there are two runs")
    }
}
