//! What is measured: requests, connections, bytes, the start, and the files.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    contenders::{Contender, Layer, bootstrap, http, tcp},
    drive::{Requests, connections, draw, tap},
    harness::{
        Conduct, Envoy, Upstream, connect,
        places::{self, Folder},
    },
    rounds::Costs,
    table::{Bar, Column, Measured, Row, Section, Wanted},
};

/// A section: its name, and what measures it, given the noop in Rust and whether time is short.
type Measure = (&'static str, fn(&Path, bool) -> (Section, Vec<Row>));

/// All of them.
pub const ALL: [Measure; 5] = [
    ("http", requests),
    ("tcp", streams),
    ("bulk", bulk),
    ("start", start),
    ("size", size),
];

const ADDED: &[Column] = &[
    Column::new("us", "us", 2),
    Column::new("added_us", "added", 2),
    Column::new("added_us_q1", "from", 2),
    Column::new("added_us_q3", "to", 2),
    Column::new("x_noop_wat", "x noop WAT", 2),
    Column::new("x_noop_rust", "x noop Rust", 2),
];

/// What a contender is wanted to cost: no more than so many times what another adds.
type Goal = (&'static str, &'static str, f64);

/// Measures in several Envoys, one after the other: where the memory of each filter comes to lie is
/// chance, and the same for as long as a process lives.
fn starts(quick: bool, measure: impl FnMut(usize) -> Costs) -> Costs {
    Costs::join((0..if quick { 3 } else { 8 }).map(measure))
}

/// Requests that Envoy answers itself.
fn requests(noop: &Path, quick: bool) -> (Section, Vec<Row>) {
    const EACH: usize = 800;
    const USERS: usize = 16;
    const GOALS: &[Goal] = &[
        ("shadow", "noop_wat", 1.5),
        ("enforce", "noop_wat", 1.5),
        ("enforce", "admission_control", 1.0),
        ("inflight", "noop_wat", 1.5),
        ("inflight", "admission_control", 1.0),
        ("header", "noop_wat", 1.5),
        ("rules", "noop_wat", 2.5),
    ];
    let folder = Folder::new();
    let contenders = http(&noop_wat(&folder), noop);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let costs = starts(quick, |start| {
        let bootstrap = bootstrap(Layer::Http, &contenders, nowhere, start);
        let envoy = Envoy::start(&bootstrap, 1);
        let mut clients: Vec<(Requests, usize)> = contenders
            .iter()
            .map(|contender| Requests::to(envoy.listener(contender.slug), USERS))
            .map(|requests| (requests, 0))
            .collect();
        let costs = Costs::measure(contenders.len(), if quick { 10 } else { 40 }, |who| {
            let (client, sum) = &mut clients[who];
            let before = at_rest(&envoy);
            let count = client.make(EACH);
            *sum += count;
            micros(at_rest(&envoy) - before) / count as f64
        });
        for (contender, (requests, sum)) in contenders.iter().zip(&clients) {
            check(&envoy, contender, requests.first() + sum);
        }
        costs
    });
    let section = Section {
        slug: "http",
        title: "A request that Envoy answers itself: CPU time in us, and what a filter adds".into(),
        of: "filter",
        columns: ADDED,
    };
    (section, rows(&contenders, &costs, GOALS))
}

/// Connections to an upstream that answers one byte.
fn streams(noop: &Path, quick: bool) -> (Section, Vec<Row>) {
    const EACH: usize = 320;
    const GOALS: &[Goal] = &[
        ("enforce", "noop_rust", 1.2),
        ("inflight", "noop_rust", 1.2),
    ];
    let folder = Folder::new();
    let contenders = tcp(&noop_wat(&folder), noop);
    let upstream = Upstream::start(Conduct::Echo);
    let costs = starts(quick, |start| {
        let bootstrap = bootstrap(Layer::Tcp, &contenders, upstream.address, start);
        let envoy = Envoy::start(&bootstrap, 1);
        let mut targets: Vec<(SocketAddr, usize)> = contenders
            .iter()
            .map(|contender| (envoy.listener(contender.slug), 0))
            .collect();
        let costs = Costs::measure(contenders.len(), if quick { 5 } else { 20 }, |who| {
            let (address, sum) = &mut targets[who];
            let before = at_rest(&envoy);
            let count = connections(*address, EACH, || Ipv4Addr::LOCALHOST);
            *sum += count;
            micros(at_rest(&envoy) - before) / count as f64
        });
        for (contender, (_, sum)) in contenders.iter().zip(&targets) {
            check(&envoy, contender, *sum);
        }
        costs
    });
    let section = Section {
        slug: "tcp",
        title: "A connection that is opened, used once and closed: CPU time in us".into(),
        of: "filter",
        columns: ADDED,
    };
    (section, rows(&contenders, &costs, GOALS))
}

/// Bytes from the upstream over one connection.
fn bulk(noop: &Path, quick: bool) -> (Section, Vec<Row>) {
    const EACH: u64 = 64 << 20;
    const COLUMNS: &[Column] = &[
        Column::new("gb_per_cpu_s", "GB/CPU s", 2),
        Column::new("gb_per_s", "GB/s", 2),
        Column::new("of_none", "of none", 3),
        Column::new("of_none_q1", "from", 3),
        Column::new("of_none_q3", "to", 3),
    ];
    let folder = Folder::new();
    let contenders = tcp(&noop_wat(&folder), noop);
    let envoy = Envoy::start(&bootstrap(Layer::Tcp, &contenders, tap(), 0), 1);
    let addresses: Vec<SocketAddr> = contenders
        .iter()
        .map(|contender| envoy.listener(contender.slug))
        .collect();
    let mut speeds = vec![Vec::new(); contenders.len()];
    let costs = Costs::measure(contenders.len(), if quick { 15 } else { 320 }, |who| {
        // A new one each time, for the kernel gives to each connection what buffers it likes.
        let mut client = connect(addresses[who]);
        draw(&mut client, EACH / 8);
        let before = at_rest(&envoy);
        let began = Instant::now();
        draw(&mut client, EACH);
        speeds[who].push(began.elapsed().as_secs_f64());
        (at_rest(&envoy) - before).as_secs_f64()
    });
    let per = |seconds: f64| EACH as f64 / 1e9 / seconds;
    let rows = contenders.iter().enumerate().map(|(who, contender)| {
        let [q1, q2, q3] = costs.parts(0, who);
        let speeds = &mut speeds[who];
        speeds.sort_unstable_by(f64::total_cmp);
        let wanted = (contender.slug == "enforce").then_some(Wanted {
            what: "bytes per CPU time, of no filter's",
            value: Some(q2),
            bar: Bar::AtLeast(0.98),
        });
        Row {
            slug: contender.slug,
            name: contender.name.to_owned(),
            result: Ok(Measured {
                values: [
                    per(costs.median(who)),
                    per(speeds[speeds.len() / 2]),
                    q2,
                    q1,
                    q3,
                ]
                .map(Some)
                .to_vec(),
                wanted: wanted.into_iter().collect(),
                ..Measured::default()
            }),
        }
    });
    let section = Section {
        slug: "bulk",
        title: "A long download over one TCP connection".into(),
        of: "filter",
        columns: COLUMNS,
    };
    (section, rows.collect())
}

/// How long Envoy takes until it is ready.
fn start(noop: &Path, quick: bool) -> (Section, Vec<Row>) {
    const COLUMNS: &[Column] = &[
        Column::new("ready_ms", "ready, ms", 0),
        Column::new("added_ms", "added", 0),
        Column::new("added_ms_q1", "from", 0),
        Column::new("added_ms_q3", "to", 0),
    ];
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let folder = Folder::new();
    let contenders: Vec<Contender> = tcp(&noop_wat(&folder), noop)
        .into_iter()
        .filter(|contender| !matches!(contender.slug, "local_ratelimit" | "inflight"))
        .collect();
    let costs = Costs::measure(contenders.len(), if quick { 3 } else { 9 }, |who| {
        let bootstrap = bootstrap(Layer::Tcp, &contenders[who..=who], nowhere, 0);
        let began = Instant::now();
        let _envoy = Envoy::start(&bootstrap, 1);
        began.elapsed().as_secs_f64() * 1e3
    });
    let rows = contenders.iter().enumerate().map(|(who, contender)| {
        let [q1, q2, q3] = costs.added(who, 0);
        Row {
            slug: contender.slug,
            name: contender.name.to_owned(),
            result: Ok(Measured {
                values: [costs.median(who), q2, q1, q3].map(Some).to_vec(),
                ..Measured::default()
            }),
        }
    });
    let section = Section {
        slug: "start",
        title: "From the start of Envoy, with one worker, until it is ready (asked every 10 ms)"
            .into(),
        of: "filter",
        columns: COLUMNS,
    };
    (section, rows.collect())
}

/// The modules' files.
fn size(noop: &Path, _: bool) -> (Section, Vec<Row>) {
    const COLUMNS: &[Column] = &[
        Column::new("bytes", "bytes", 0),
        Column::new("kib", "KiB", 1),
    ];
    let ours = places::given("TIDEGATE_WASM_DIR");
    let row = |slug, file: &Path, wanted: Option<f64>| {
        let bytes = fs::metadata(file).expect("a module").len() as f64;
        let wanted = wanted.map(|most| Wanted {
            what: "KiB",
            value: Some(bytes / 1024.0),
            bar: Bar::AtMost(most),
        });
        let name = file.file_name().unwrap_or_default();
        Row {
            slug,
            name: name.to_string_lossy().into_owned(),
            result: Ok(Measured {
                values: vec![Some(bytes), Some(bytes / 1024.0)],
                wanted: wanted.into_iter().collect(),
                ..Measured::default()
            }),
        }
    };
    let rows = vec![
        row("noop_rust", noop, None),
        row("tidegate", &ours.join("tidegate.wasm"), Some(300.0)),
        row("inspect", &ours.join("tidegate-inspect.wasm"), Some(300.0)),
    ];
    let section = Section {
        slug: "size",
        title: "The modules, optimized".into(),
        of: "module",
        columns: COLUMNS,
    };
    (section, rows)
}

/// The filter that does nothing, in the text format.
fn noop_wat(folder: &Folder) -> std::path::PathBuf {
    let file = folder.path().join("noop.wasm");
    let module = wat::parse_file(places::repository("benches/overhead/noop.wat"));
    fs::write(&file, module.expect("it parses")).expect("the module");
    file
}

/// The CPU time that the worker has had, when it has done what there was to do.
fn at_rest(envoy: &Envoy) -> Duration {
    let mut last = envoy.workers_cpu();
    loop {
        thread::sleep(Duration::from_millis(3));
        let now = envoy.workers_cpu();
        if now == last {
            return now;
        }
        last = now;
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Makes sure that tidegate saw it all, and nothing wrong in it.
fn check(envoy: &Envoy, contender: &Contender, arrivals: usize) {
    let Some(rule) = &contender.rule else { return };
    let metrics = envoy.until_rule(rule, "tidegate_arrivals_total", arrivals as f64);
    for counter in [
        "tidegate_surges_total",
        "tidegate_rejected_total",
        "tidegate_shadow_rejected_total",
        "tidegate_held_total",
        "tidegate_faults_total",
    ] {
        assert_eq!(metrics.rule(rule, counter), 0.0, "{counter} of {rule}");
    }
}

/// A row for each contender, with what it adds.
fn rows(contenders: &[Contender], costs: &Costs, goals: &[Goal]) -> Vec<Row> {
    let place = |slug: &str| contenders.iter().position(|known| known.slug == slug);
    let added = |who: usize| costs.added(who, 0)[1];
    let times = |who: usize, of: &str| place(of).map(|of| added(who) / added(of));
    let row = |(who, contender): (usize, &Contender)| {
        let [q1, q2, q3] = costs.added(who, 0);
        let wanted = goals.iter().filter(|(slug, ..)| *slug == contender.slug);
        let wanted = wanted.map(|(_, of, most)| Wanted {
            what: match *of {
                "noop_wat" => "times what the noop in WAT adds",
                "noop_rust" => "times what the noop in Rust adds",
                _ => "times what admission_control adds",
            },
            value: times(who, of),
            bar: Bar::AtMost(*most),
        });
        Row {
            slug: contender.slug,
            name: contender.name.to_owned(),
            result: Ok(Measured {
                values: vec![
                    Some(costs.median(who)),
                    Some(q2),
                    Some(q1),
                    Some(q3),
                    times(who, "noop_wat"),
                    times(who, "noop_rust"),
                ],
                wanted: wanted.collect(),
                told: json!(null),
                ..Measured::default()
            }),
        }
    };
    contenders.iter().enumerate().map(row).collect()
}
