//! The demo: normal clients, and then a surge.

mod verdict;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    LIMIT, MAX_WAIT, Scene, Theatre,
    cast::{self, Postgres, local},
    load::{self, Group, Way, When},
    run::Plan,
    view::{Colour, Column, Paint},
};
use crate::checkout::Context;

/// The bootstrap that it is about, and its listener's port.
const BOOTSTRAP: &str = "envoy/postgres.yaml";
const LISTENER: u16 = 10002;

/// The seconds before and after the surge.
const CALM: u32 = 5;
const AFTER: u32 = 5;
/// So long does tidegate learn what is normal here; as shipped it is a minute.
const WARM_UP: &str = "4s";
/// How many normal clients there are.
const NORMAL_CLIENTS: u32 = 40;
/// What a normal client does between two connections; 40 of them begin 20 a second together.
const THINK: Duration = Duration::from_secs(2);
/// How long a client of the surge keeps a connection after its transaction.
const KEEP: Duration = Duration::from_millis(250);
/// How long a client of the surge waits after a refusal.
const RETRY: Duration = Duration::from_millis(100);
/// All clients of the surge begin within this time.
const RAMP: Duration = Duration::from_millis(500);
/// Where the surge comes from; everybody else comes from 127.0.0.1.
const SURGE_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The groups: the normal clients, the surge, and the operator, directly at PostgreSQL.
const NORMAL: usize = 0;
const SURGE: usize = 1;
const OPERATOR: usize = 2;

/// What can be chosen.
#[derive(Clone, Debug, clap::Args)]
// As a group of arguments it would have the name of the options that it is a part of.
#[group(skip)]
pub struct Options {
    /// How long the surge lasts, in seconds
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(3..=120))]
    seconds: u32,
    /// How many clients the surge has
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=400))]
    clients: u32,
}

/// Both runs and the verdict.
pub async fn play(ctx: &Context, options: &Options) -> Result<ExitCode> {
    let since = Instant::now();
    let [admin, listener, database, live] = cast::free_ports()?;
    let mut theatre = Theatre::open(ctx, [database, admin, live]).await?;
    let paint = theatre.paint;
    let (source, warm_up) = if load::has_address(SURGE_SOURCE) {
        (SURGE_SOURCE, Some(WARM_UP))
    } else {
        ctx.ui.note(
            "this machine has no 127.0.0.2, so the surge comes from 127.0.0.1 too: no caller can be \
             told from another one, and tidegate is left in its warm-up, in which its limit holds",
        );
        (Ipv4Addr::LOCALHOST, None)
    };
    let scene = Scene {
        file: BOOTSTRAP,
        listeners: vec![(LISTENER, listener)],
        warm_up,
        titles: [
            "Without tidegate: Envoy passes every connection on",
            "With tidegate: the same Envoy, the same clients",
        ],
        plan: Plan {
            seconds: [CALM, options.seconds, AFTER],
            groups: groups(&theatre.postgres, local(listener), source, options.clients),
            columns: vec![Column {
                name: "normal clients",
                groups: vec![NORMAL],
            }],
            remark: |event| event.remark(|_| String::new()),
        },
    };
    introduce(paint, options);
    let [without, with] = theatre.play(&scene).await?;
    println!("\n{}", verdict::text(paint, &without, &with));
    let learned = match warm_up {
        Some(warm_up) => format!(", `inflight` {LIMIT} and `warm_up` {warm_up}"),
        None => format!(" and `inflight` {LIMIT}"),
    };
    println!(
        "\nThis was {BOOTSTRAP} with other ports{learned}.\n\
         The demo took {} s. Where to look next: README.md, {BOOTSTRAP};\n\
         `cargo xtask envoy {BOOTSTRAP}` runs that file as it is.",
        since.elapsed().as_secs()
    );
    Ok(ExitCode::from(u8::from(!with.limit_held())))
}

/// Who comes, by their numbers.
fn groups(postgres: &Postgres, to: SocketAddr, source: Ipv4Addr, clients: u32) -> Vec<Group> {
    let second = Duration::from_secs(1);
    let normal = Group {
        when: When::Always,
        way: Way::Envoy(to),
        from: Ipv4Addr::LOCALHOST,
        account: postgres.account("app"),
        clients: NORMAL_CLIENTS,
        within: THINK,
        every: THINK,
        keep: Duration::ZERO,
        retry: None,
    };
    let surge = Group {
        when: When::InSurge,
        from: source,
        clients,
        within: RAMP,
        every: Duration::ZERO,
        keep: KEEP,
        retry: Some(RETRY),
        ..normal.clone()
    };
    // No superuser.
    let operator = Group {
        way: Way::Direct(postgres.address),
        account: postgres.account("operator"),
        clients: 1,
        within: second,
        every: second,
        ..normal.clone()
    };
    vec![normal, surge, operator]
}

/// Says what is about to happen.
fn introduce(paint: Paint, options: &Options) {
    println!(
        "\n{}\nPostgreSQL: max_connections {}, {} of them for superusers. tidegate: no more than \
         {LIMIT} at a time,\nthe others wait up to {MAX_WAIT}, newest first, and then are refused.\n\
         Normal clients: {NORMAL_CLIENTS} of them, 20 connections a second together, each for one \
         transaction.\n\
         Surge: {} clients for {} s; each keeps its connection for {} ms, at once wants another,\n\
         and tries again {} ms after a refusal.",
        paint.paint(
            Colour::Bold,
            "A surge of connections, real clients -> real Envoy -> real PostgreSQL"
        ),
        cast::MAX_CONNECTIONS,
        cast::RESERVED,
        options.clients,
        options.seconds,
        KEEP.as_millis(),
        RETRY.as_millis(),
    );
}
