//! The demo: a surge in front of a real PostgreSQL, with and without the plugin.

mod bootstrap;
mod cast;
mod load;
mod run;
mod stats;
mod verdict;
mod view;

use std::{fs, net::Ipv4Addr, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    bootstrap::{Changes, Guard, SHIPPED as BOOTSTRAP},
    cast::{Envoy, Folder, Postgres},
    run::{Report, Stage},
    view::{Colour, Paint},
};
use crate::{
    checkout::Context,
    module::Kind,
    setup::{self, Part},
    wasm,
};

/// `limits.inflight` in the demo.
pub const LIMIT: u32 = 40;
/// `hold.max_wait` in the demo, as in the shipped bootstrap.
pub const MAX_WAIT: &str = "100ms";

/// What can be chosen.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long the surge lasts, in seconds
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(3..=120))]
    seconds: u32,
    /// How many clients the surge has
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=400))]
    clients: u32,
}

/// Sets up what is missing, runs both runs and says what came of them.
///
/// 0: the guard held. 1: it did not, or something failed.
pub fn run(ctx: &Context, options: &Options) -> Result<ExitCode> {
    setup::ensure(ctx, &[Part::Envoy, Part::Postgres])?;
    wasm::build(ctx)?;
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

/// Both runs and the verdict.
async fn play(ctx: &Context, options: &Options) -> Result<ExitCode> {
    let since = Instant::now();
    let paint = Paint::from_env();
    let shipped = read(ctx, BOOTSTRAP)?;
    let module = ctx.checkout.artifacts.join(Kind::Inspect.file_name());

    let folder = Folder::new()?;
    let [admin, listener, database, live] = cast::free_ports()?;
    let html = ctx.checkout.root.join("envoy/status/index.html");
    let page = bootstrap::page(&read(ctx, bootstrap::PAGE)?, live, admin, &html)?;
    let mut postgres = Postgres::start(ctx, &folder, database).await?;

    let surge_source = load::surge_source().unwrap_or_else(|| {
        ctx.ui
            .note("this machine has no 127.0.0.2, so the surge comes from 127.0.0.1 too");
        Ipv4Addr::LOCALHOST
    });
    introduce(paint, options);
    println!(
        "live page: http://{}/ (of the second run)\n\
         who comes: grep tidegate_event {}",
        cast::local(live),
        folder.join(cast::ENVOY_LOG).display()
    );
    let mut reports = Vec::new();
    for guarded in [false, true] {
        let changes = Changes {
            admin,
            listener,
            database,
            guard: guarded.then_some(Guard {
                module: &module,
                limit: LIMIT,
                max_wait: MAX_WAIT,
            }),
        };
        let text = bootstrap::edited(&shipped, &changes)?;
        let envoy = Envoy::start(ctx, &folder, [&text, &page], admin, listener).await?;
        if guarded {
            envoy.check_guard(LIMIT).await?;
        }
        println!("\n{}", paint.paint(Colour::Bold, title(guarded)));
        println!("{}", view::HEADER);
        let stage = Stage {
            postgres: &mut postgres,
            envoy,
            guarded,
            surge_seconds: options.seconds,
            surge_clients: options.clients,
            surge_source,
        };
        reports.push(run::run(stage, paint).await?);
    }
    let [without, with] = <[Report; 2]>::try_from(reports)
        .ok()
        .context("there are two runs")?;
    println!("\n{}", verdict::text(paint, &without, &with));
    println!(
        "\nThis was {BOOTSTRAP} with other ports and `inflight` {LIMIT}.\n\
         The demo took {} s. Where to look next: README.md, {BOOTSTRAP};\n\
         `cargo xtask envoy {BOOTSTRAP}` runs that file as it is.",
        since.elapsed().as_secs()
    );
    Ok(ExitCode::from(u8::from(!with.guard_held())))
}

/// A file of the checkout.
fn read(ctx: &Context, file: &str) -> Result<String> {
    let path = ctx.checkout.root.join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The heading of a run.
fn title(guarded: bool) -> &'static str {
    if guarded {
        "With tidegate: the same Envoy, the same clients"
    } else {
        "Without tidegate: Envoy passes every connection on"
    }
}

/// Says what is about to happen.
fn introduce(paint: Paint, options: &Options) {
    println!(
        "\n{}\nPostgreSQL: max_connections {}, {} of them for superusers. tidegate: no more than \
         {LIMIT} at a time,\nthe others wait up to {MAX_WAIT}, newest first, and then are refused.\n\
         Normal clients: {} of them, 20 connections a second together, each for one transaction.\n\
         Surge: {} clients for {} s; each keeps its connection for {} ms, at once wants another,\n\
         and tries again {} ms after a refusal.",
        paint.paint(
            Colour::Bold,
            "A surge of connections, real clients -> real Envoy -> real PostgreSQL"
        ),
        cast::MAX_CONNECTIONS,
        cast::RESERVED,
        load::NORMAL_CLIENTS,
        options.clients,
        options.seconds,
        load::KEEP.as_millis(),
        load::RETRY.as_millis(),
    );
}
