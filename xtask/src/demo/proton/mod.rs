//! The demo of a public incident: two infrastructures before one database in the middle of a
//! migration, and a change of one product's software that opens ten times the connections.
//!
//! It is what Proton described of 9 January 2025, in small: new connections to the database surged
//! after a software change, while two infrastructures ran side by side and load could not be moved,
//! and Mail went up and down until the change was found and taken back. The rates, the sizes and
//! which product it was are the demo's own.

mod verdict;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    LIMIT, MAX_WAIT, Scene, Theatre,
    cast::{self, Postgres, local},
    events::Event,
    load::{self, Group, Way, When},
    run::Plan,
    view::{Colour, Column, Paint},
};
use crate::{
    checkout::{Context, write_whole},
    process::{NotReady, cargo, logged, shown},
};

/// The bootstrap that it is about, and the ports of its listeners: old and new.
const BOOTSTRAP: &str = "envoy/migration.yaml";
const LISTENERS: [u16; 2] = [10004, 10005];
/// Where the log and the post-mortem are left, in the checkout.
const FOLDER: &str = "target/demo/proton";

/// The seconds before the change, and after it was taken back.
const CALM: u32 = 8;
const AFTER: u32 = 8;
/// So long does tidegate learn what is normal here; in the bootstrap it is a minute.
const WARM_UP: &str = "5s";
/// The changed software opens so many times the connections.
const TIMES: u32 = 10;
/// It tries again so long after a refusal, until it is served.
const RETRY: Duration = Duration::from_millis(100);
/// All of its clients begin within this time.
const RAMP: Duration = Duration::from_millis(500);

/// The infrastructures, by the order of their listeners.
const INFRASTRUCTURES: [&str; 2] = ["old", "new"];

/// A product, on each of the infrastructures.
struct Product {
    name: &'static str,
    /// Which network it has in the bootstrap.
    network: u8,
    clients: u32,
    /// From one connection of a client to the next.
    every: Duration,
    /// How long it keeps one.
    keep: Duration,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// All products together open 42 connections a second and have about 19 open.
const PRODUCTS: [Product; 5] = [
    Product {
        name: "mail",
        network: 1,
        clients: 12,
        every: ms(2000),
        keep: ms(200),
    },
    Product {
        name: "calendar",
        network: 2,
        clients: 4,
        every: ms(2000),
        keep: ms(200),
    },
    Product {
        name: "drive",
        network: 3,
        clients: 10,
        every: ms(1000),
        keep: ms(700),
    },
    Product {
        name: "batch",
        network: 4,
        clients: 4,
        every: ms(2000),
        keep: ms(500),
    },
    Product {
        name: "admin",
        network: ADMIN_NETWORK,
        clients: 1,
        every: ms(1000),
        keep: Duration::ZERO,
    },
];
const MAIL: usize = 0;
const DRIVE: usize = 2;
/// Operators come from one network to both infrastructures.
const ADMIN_NETWORK: u8 = 9;

/// The infrastructure and the product whose software is changed.
const CHANGED: (usize, usize) = (1, DRIVE);
/// The group of the changed software, after those of all products.
const CHANGED_GROUP: usize = INFRASTRUCTURES.len() * PRODUCTS.len();

/// What can be chosen.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long it takes until the change is taken back, in seconds
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(3..=120))]
    seconds: u32,
}

/// Builds the program that writes the post-mortem.
pub fn prepare(ctx: &Context) -> Result<()> {
    let mut command = cargo(ctx);
    command.args(["build", "--bin", "tidegatectl"]);
    logged(ctx, "build tidegatectl", command)
}

/// Both runs, the verdict and the post-mortem.
pub async fn play(ctx: &Context, options: &Options) -> Result<ExitCode> {
    let since = Instant::now();
    let [admin, database, live, old, new] = cast::free_ports()?;
    for (infrastructure, product) in everybody() {
        let source = source(infrastructure, product);
        if !load::has_address(source) {
            return Err(NotReady::new(format!(
                "this machine has no {source}, and the products are told apart by their addresses; \
                 run this demo on Linux, or type: sudo ifconfig lo0 alias {source}"
            )));
        }
    }
    let mut theatre = Theatre::open(ctx, [database, admin, live]).await?;
    let paint = theatre.paint;
    let scene = Scene {
        file: BOOTSTRAP,
        listeners: LISTENERS.into_iter().zip([old, new]).collect(),
        warm_up: Some(WARM_UP),
        titles: [
            "Without tidegate: two infrastructures, and nothing between them and their database",
            "With tidegate: both share one budget",
        ],
        plan: Plan {
            seconds: [CALM, options.seconds, AFTER],
            groups: groups(&theatre.postgres, [old, new].map(local)),
            columns: columns(),
            remark,
        },
    };
    introduce(paint, options);
    let [without, with] = theatre.play(&scene).await?;
    println!("\n{}", verdict::text(paint, &without, &with));
    let files = post_mortem(ctx, &theatre.folder.join(cast::ENVOY_LOG))?;
    println!("\nThe post-mortem, by `tidegatectl explain {FOLDER}/envoy.log`:");
    for file in &files {
        println!("  {}", file.display());
    }
    println!(
        "What a caller usually has is rough in it, with a part of the change: there were {CALM} s to \
         learn in,\nand a minute makes it known."
    );
    println!(
        "\nThis was {BOOTSTRAP} with other ports, `inflight` {LIMIT}, `warm_up` {WARM_UP}, and \
         127.x for 10.x.\n\
         What it can't do: both infrastructures lead to one database, so moving clients from one to\n\
         the other frees nothing. Where there is a replica, `redirect` leads there who would be \
         refused.\n\
         The demo took {} s. `cargo xtask envoy {BOOTSTRAP}` runs that file as it is.",
        since.elapsed().as_secs()
    );
    Ok(ExitCode::from(u8::from(!verdict::guard_held(&with))))
}

/// Every product on every infrastructure, by the numbers of their groups.
fn everybody() -> impl Iterator<Item = (usize, usize)> {
    let products =
        |infrastructure| (0..PRODUCTS.len()).map(move |product| (infrastructure, product));
    (0..INFRASTRUCTURES.len()).flat_map(products)
}

/// The group of a product on an infrastructure.
const fn group((infrastructure, product): (usize, usize)) -> usize {
    infrastructure * PRODUCTS.len() + product
}

/// Where a product comes from: networks as in the bootstrap, with 127 for 10.
fn source(infrastructure: usize, product: usize) -> Ipv4Addr {
    match PRODUCTS[product].network {
        ADMIN_NETWORK => Ipv4Addr::new(127, 0, ADMIN_NETWORK, 1),
        // There are two.
        network => Ipv4Addr::new(127, infrastructure as u8 + 1, network, 1),
    }
}

/// Whose address it is, in words.
fn whose(address: &str) -> Option<String> {
    let found = everybody()
        .find(|(infrastructure, product)| source(*infrastructure, *product).to_string() == address);
    let (infrastructure, product) = found?;
    let name = PRODUCTS[product].name;
    Some(match PRODUCTS[product].network {
        ADMIN_NETWORK => name.to_owned(),
        _ => format!(
            "{name} on the {} infrastructure",
            INFRASTRUCTURES[infrastructure]
        ),
    })
}

/// Who comes: every product on both infrastructures, and then the changed software, in the place
/// of what it was before.
fn groups(postgres: &Postgres, listeners: [SocketAddr; 2]) -> Vec<Group> {
    let mut groups = Vec::new();
    for (infrastructure, number) in everybody() {
        let product = &PRODUCTS[number];
        let account = match product.network {
            ADMIN_NETWORK => "operator",
            _ => "app",
        };
        groups.push(Group {
            when: match (infrastructure, number) {
                CHANGED => When::ButInSurge,
                _ => When::Always,
            },
            way: Way::Envoy(listeners[infrastructure]),
            from: source(infrastructure, number),
            account: postgres.account(account),
            clients: product.clients,
            within: product.every,
            every: product.every,
            keep: product.keep,
            retry: None,
        });
    }
    let before = groups[group(CHANGED)].clone();
    groups.push(Group {
        when: When::InSurge,
        clients: TIMES * before.clients,
        within: RAMP,
        retry: Some(RETRY),
        ..before
    });
    groups
}

/// The columns: the products, the changed one's two infrastructures apart; that is the last one.
fn columns() -> Vec<Column> {
    let both = |product: usize| vec![group((0, product)), group((1, product))];
    let products = PRODUCTS.iter().enumerate();
    let mut columns: Vec<Column> = products
        .filter(|(product, _)| *product != CHANGED.1)
        .map(|(number, product)| Column {
            name: product.name,
            groups: both(number),
        })
        .collect();
    columns.push(Column {
        name: "drive/old",
        groups: vec![group((1 - CHANGED.0, CHANGED.1))],
    });
    columns.push(Column {
        name: "drive/new",
        groups: vec![group(CHANGED), CHANGED_GROUP],
    });
    columns
}

/// What is said of an event when it happens.
fn remark(event: &Event) -> Option<String> {
    event.remark(|caller| {
        let whose = whose(&caller.key).unwrap_or_else(|| "nobody known".to_owned());
        format!(": that is {whose}")
    })
}

/// Says what is about to happen.
fn introduce(paint: Paint, options: &Options) {
    println!(
        "\n{}\nNumbers, and which product it is, are the demo's own.\n\
         PostgreSQL: max_connections {}, {} of them for superusers. Two listeners of one Envoy \
         lead to it,\none for the old infrastructure and one for the new. tidegate: no more than \
         {LIMIT} at a time by both\ntogether, the others wait up to {MAX_WAIT} and then are refused; \
         3 places are kept for operators.\n\
         On each infrastructure, connections a second and how long each is kept:",
        paint.paint(
            Colour::Bold,
            "A software change in the middle of a migration, as at Proton on 9 January 2025"
        ),
        cast::MAX_CONNECTIONS,
        cast::RESERVED,
    );
    for product in &PRODUCTS {
        println!(
            "  {:<9}{:>3}/s  {:>3} ms",
            product.name,
            per_s(product),
            product.keep.as_millis()
        );
    }
    let drive = &PRODUCTS[DRIVE];
    println!(
        "Change: after {CALM} s drive on the new infrastructure opens {TIMES} times the connections, \
         {} instead of {} a\nsecond, and tries again {} ms after a refusal. After {} s it is taken \
         back.",
        TIMES * per_s(drive),
        per_s(drive),
        RETRY.as_millis(),
        options.seconds,
    );
}

/// The connections that a product opens in a second, on each infrastructure.
fn per_s(product: &Product) -> u32 {
    product.clients * 1000 / product.every.as_millis() as u32
}

/// Writes the post-mortem from the log, which is left beside it.
fn post_mortem(ctx: &Context, log: &Path) -> Result<Vec<PathBuf>> {
    let folder = ctx.checkout.root.join(FOLDER);
    let kept = folder.join(cast::ENVOY_LOG);
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    write_whole(&kept, &text)?;
    let mut files = Vec::new();
    for (format, name) in [("markdown", "post-mortem.md"), ("html", "post-mortem.html")] {
        let file = folder.join(name);
        write_whole(&file, &explained(ctx, &kept, format)?)?;
        files.push(file);
    }
    Ok(files)
}

/// What `tidegatectl explain` writes of a log.
fn explained(ctx: &Context, log: &Path, format: &str) -> Result<Vec<u8>> {
    let mut command = cargo(ctx);
    command.args(["run", "--quiet", "--bin", "tidegatectl", "--", "explain"]);
    command.arg(log).args(["--format", format]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", shown(&command)))?;
    if !output.status.success() {
        bail!(
            "{}: {}\n{}",
            shown(&command),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SHIPPED: &str = include_str!("../../../../envoy/migration.yaml");

    #[test]
    fn every_product_comes_from_the_networks_of_its_class() {
        for (infrastructure, product) in everybody() {
            let [_, second, third, _] = source(infrastructure, product).octets();
            let name = PRODUCTS[product].name;
            let class = format!(r#"{{"name": "{name}", "match": {{"source": ["#);
            let (_, rest) = SHIPPED.split_once(&class).expect(name);
            let (networks, _) = rest.split_once(']').expect(name);
            let network = format!("\"10.{second}.{third}.0/24\"");
            assert!(
                networks.contains(&network),
                "{name}: {network} in {networks}"
            );
        }
        assert_eq!(SHIPPED.matches(r#"{"name": ""#).count(), PRODUCTS.len());
    }

    #[test]
    fn an_address_is_a_product_on_an_infrastructure() {
        let of = |address| whose(address).unwrap_or_default();
        assert_eq!(of("127.2.3.1"), "drive on the new infrastructure");
        assert_eq!(of("127.1.1.1"), "mail on the old infrastructure");
        assert_eq!(of("127.0.9.1"), "admin");
        assert_eq!(of("127.0.0.1"), "");
    }

    #[test]
    fn every_group_is_in_one_column() {
        let columns = columns();
        let all: Vec<usize> = columns.iter().flat_map(|one| one.groups.clone()).collect();
        let different: BTreeSet<usize> = all.iter().copied().collect();
        assert_eq!(all.len(), different.len());
        assert_eq!(different, (0..=CHANGED_GROUP).collect());
        assert_eq!(columns[MAIL].name, "mail");
    }

    #[test]
    fn what_is_normal_fits_into_the_limit_and_the_change_does_not_into_the_database() {
        let open = |product: &Product| per_s(product) as f32 * product.keep.as_secs_f32();
        let normal: f32 = 2.0 * PRODUCTS.iter().map(open).sum::<f32>();
        assert!(normal < 0.6 * LIMIT as f32, "{normal}");
        let more = (TIMES - 1) as f32 * open(&PRODUCTS[DRIVE]);
        assert!(normal + more > cast::MAX_CONNECTIONS as f32, "{more}");
        let rate: u32 = PRODUCTS.iter().map(per_s).sum();
        assert_eq!(2 * rate, 42);
    }
}
