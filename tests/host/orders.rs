//! Callbacks in any order, about any context, in any weather, from several machines at once.

use proptest::prelude::*;

use crate::{
    cases,
    days::{self, ASKS_FOR_TLS, MYSQL_FULL, POSTGRES_FULL, busy, startup},
    envoy::{Envoy, Shared},
    machine::{Context, Machine, Sort},
    module::Build,
    seen,
    weather::{OVERSIZED, Weather, any_weather},
    world::{connection, request},
};

/// Contexts that are called about: so few that they meet, and some that no host has.
const IDS: [u32; 12] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
];

fn id() -> impl Strategy<Value = u32> {
    prop::sample::select(&IDS[..])
}

#[derive(Clone, Debug)]
enum Call {
    Create(u32, u32),
    Delete(u32),
    /// With a length that may be another than it has.
    Configure(u32, Text, Option<u32>),
    Tick(u32),
    Request(u32, Context),
    Connection(u32, Context),
    /// As a host does it: a new context, and its arrival.
    Arrive(u32, u32, Context),
    Data(usize, u32, Vec<u8>, Option<u32>, bool),
    /// Somebody else writes into the shared data, at the key of this number.
    Scribble(usize, Vec<u8>),
    Wait(u64),
    Clock(u64),
    /// The machine is gone, and another takes its place.
    Lose,
}

/// A configuration: of requests, of connections, of another rule, or any bytes.
#[derive(Clone, Debug)]
enum Text {
    Busy(Sort, u8),
    Bytes(Vec<u8>),
}

impl Text {
    fn bytes(&self, build: Build) -> Vec<u8> {
        match self {
            Self::Busy(sort, rule) => {
                let name = ["db", "other"][usize::from(*rule) % 2];
                busy(build, *sort, name).into_bytes()
            }
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

fn text() -> impl Strategy<Value = Text> {
    let sort = prop_oneof![Just(Sort::Http), Just(Sort::Tcp)];
    prop_oneof![
        6 => (sort, 0..2_u8).prop_map(|(sort, rule)| Text::Busy(sort, rule)),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Text::Bytes),
    ]
}

fn stream() -> impl Strategy<Value = Context> {
    let ports = prop::sample::select(&[5432_u16, 6000, 3306, 7000][..]);
    prop_oneof![
        (0..4_u8, any::<bool>()).prop_map(|(caller, moved)| {
            request(&format!("c{caller}"), if moved { "/moved" } else { "/" })
        }),
        (0..4_u8, ports).prop_map(|(from, port)| connection(&format!("10.0.0.{from}"), port)),
    ]
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(ASKS_FOR_TLS.to_vec()),
        Just(POSTGRES_FULL.to_vec()),
        Just(MYSQL_FULL.to_vec()),
        (0..4_u8).prop_map(|user| startup(&format!("u{user}"))),
        prop::collection::vec(any::<u8>(), 0..40),
        Just(vec![0; OVERSIZED]),
    ]
}

/// What a length may be that is not the right one.
fn length() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![
        6 => Just(None),
        1 => prop::sample::select(&[0, 1, i32::MAX as u32, 1 << 31, u32::MAX][..]).prop_map(Some),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        2 => (id(), id()).prop_map(|(id, root)| Call::Create(id, root)),
        3 => id().prop_map(Call::Delete),
        2 => (id(), text(), length())
            .prop_map(|(id, text, length)| Call::Configure(id, text, length)),
        4 => id().prop_map(Call::Tick),
        2 => (id(), stream()).prop_map(|(id, stream)| Call::Request(id, stream)),
        2 => (id(), stream()).prop_map(|(id, stream)| Call::Connection(id, stream)),
        8 => (3..9_u32, 1..3_u32, stream())
            .prop_map(|(id, root, stream)| Call::Arrive(id, root, stream)),
        6 => (0..2_usize, id(), data(), length(), any::<bool>())
            .prop_map(|(side, id, data, length, end)| Call::Data(side, id, data, length, end)),
        1 => (0..9_usize, prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(key, bytes)| Call::Scribble(key, bytes)),
        6 => prop_oneof![0..10_u64, 10..500_u64, 500..100_000_u64].prop_map(Call::Wait),
        1 => prop_oneof![Just(0), Just(u64::MAX), any::<u64>()].prop_map(Call::Clock),
        1 => Just(Call::Lose),
    ]
}

/// One machine begins as a host would have it: two root contexts, for requests and for connections.
fn machine(build: Build, envoy: &Shared) -> Machine {
    let mut machine = Machine::start(build, envoy);
    for (root, sort) in [(1, Sort::Http), (2, Sort::Tcp)] {
        create(&mut machine, root, 0, Context::default());
        let text = busy(build, sort, "db");
        assert!(machine.configure(root, text.as_bytes(), text.len() as u32));
    }
    machine
}

fn create(machine: &mut Machine, id: u32, root: u32, context: Context) {
    let context = Context { root, ..context };
    machine.state().contexts.insert(id, context);
    machine.create(id, root);
}

fn arrive(machine: &mut Machine, id: u32, stream: Context) {
    let sort = stream.sort;
    let known = machine.state().contexts.entry(id).or_default();
    *known = Context {
        root: known.root,
        ..stream
    };
    let paused = match sort {
        Sort::Http => machine.request(id),
        _ => machine.connection(id),
    };
    if let Some(context) = machine.state().contexts.get_mut(&id) {
        (context.began, context.paused) = (true, paused != 0);
    }
}

fn play(machine: &mut Machine, envoy: &Shared, build: Build, call: Call) {
    let ms = |ms: u64| ms.saturating_mul(1_000_000);
    match call {
        Call::Create(id, root) => create(machine, id, root, Context::default()),
        Call::Delete(id) => {
            machine.delete(id);
            machine.state().contexts.remove(&id);
        }
        Call::Configure(id, text, length) => {
            let bytes = text.bytes(build);
            machine.configure(id, &bytes, length.unwrap_or(bytes.len() as u32));
        }
        Call::Tick(id) => machine.tick(id),
        Call::Request(id, stream) => arrive(
            machine,
            id,
            Context {
                sort: Sort::Http,
                ..stream
            },
        ),
        Call::Connection(id, stream) => arrive(
            machine,
            id,
            Context {
                sort: Sort::Tcp,
                ..stream
            },
        ),
        Call::Arrive(id, root, stream) => {
            create(machine, id, root, stream.clone());
            arrive(machine, id, stream);
        }
        Call::Data(side, id, bytes, length, end) => {
            let length = length.unwrap_or(bytes.len() as u32);
            let known = machine.state().contexts.get_mut(&id);
            if let Some(context) = known {
                context.buffers[side] = Some(bytes);
            }
            machine.data(side, id, length, end);
        }
        Call::Scribble(key, bytes) => {
            let mut envoy = envoy.borrow_mut();
            let keys = envoy.shared.keys().cloned().collect::<Vec<_>>();
            if let Some(key) = keys.get(key % keys.len().max(1)) {
                envoy.set_shared(key.clone(), bytes, 0);
            }
        }
        Call::Wait(long) => {
            let now = envoy.borrow().now.saturating_add(ms(long));
            envoy.borrow_mut().set_clock(now);
        }
        Call::Clock(now) => envoy.borrow_mut().set_clock(now),
        Call::Lose => {
            let mut new = self::machine(build, envoy);
            new.state().weather = machine.state().weather.clone();
            *machine = new;
        }
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn no_order_of_callbacks_in_no_weather_traps_or_grows(
        inspect in any::<bool>(),
        steps in prop::collection::vec((0..3_usize, call(), any_weather()), 1..120),
    ) {
        let build = if inspect { Build::Inspect } else { Build::Plain };
        let envoy = Envoy::start();
        let mut machines = [(); 3].map(|()| machine(build, &envoy));
        for (index, call, weather) in steps {
            let machine = &mut machines[index];
            machine.state().weather = weather;
            play(machine, &envoy, build, call);
        }
    }

    #[test]
    fn callbacks_out_of_turn_cost_no_slot(
        inspect in any::<bool>(),
        steps in prop::collection::vec((0..2_usize, call()), 1..120),
    ) {
        let build = if inspect { Build::Inspect } else { Build::Plain };
        let envoy = Envoy::start();
        let mut machines = [(); 2].map(|()| machine(build, &envoy));
        for (index, call) in steps {
            // Whoever writes into what the workers share can do anything to them.
            if !matches!(call, Call::Scribble(..)) {
                play(&mut machines[index], &envoy, build, call);
            }
        }
        // Everything ends, and some time passes by a clock that goes as clocks go.
        envoy.borrow_mut().set_clock(crate::envoy::BEGIN);
        for machine in &mut machines {
            // Twice, for it may be a root context's and a stream's.
            for id in IDS.into_iter().chain(IDS) {
                machine.delete(id);
            }
            machine.state().contexts.clear();
            create(machine, 100, 0, Context::default());
            let text = busy(build, Sort::Http, "db");
            prop_assert!(machine.configure(100, text.as_bytes(), text.len() as u32));
            // A machine that has seen nothing buries nobody.
            create(machine, 150, 100, request("a", "/"));
            arrive(machine, 150, request("a", "/"));
            machine.delete(150);
            machine.state().contexts.remove(&150);
        }
        for _ in 0..100 {
            let now = envoy.borrow().now + 100_000_000;
            envoy.borrow_mut().set_clock(now);
            for machine in &mut machines {
                machine.tick(100);
            }
        }
        let inflight = envoy.borrow().metric("db", "tidegate_inflight");
        prop_assert_eq!(inflight, 0, "slots are lost");
        for (number, id) in (200..200 + 2 * days::LIMIT as u32).enumerate() {
            let machine = &mut machines[number % 2];
            create(machine, id, 100, request("a", "/"));
            arrive(machine, id, request("a", "/"));
        }
        let open = machines.iter().flat_map(|machine| machine.see().contexts.values());
        prop_assert!(open.filter(|context| context.is_open()).count() <= days::LIMIT);
    }
}

/// What is counted as open when each stream arrives or is created twice, and when all have ended.
fn told_twice(build: Build, again: impl Fn(&mut Machine, u32)) -> (u64, u64) {
    let envoy = Envoy::start();
    let mut machine = machine(build, &envoy);
    let inflight = |machine: &mut Machine| {
        for _ in 0..30 {
            let now = envoy.borrow().now + 100_000_000;
            envoy.borrow_mut().set_clock(now);
            machine.tick(1);
        }
        envoy.borrow().metric("db", "tidegate_inflight")
    };
    create(&mut machine, 3, 1, request("a", "/"));
    arrive(&mut machine, 3, request("a", "/"));
    again(&mut machine, 3);
    let open = inflight(&mut machine);
    machine.delete(3);
    (open, inflight(&mut machine))
}

#[test]
fn an_arrival_that_is_told_twice_takes_one_slot_and_gives_it_back() {
    for build in Build::ALL {
        let again = |machine: &mut Machine, id| arrive(machine, id, request("a", "/"));
        assert_eq!(told_twice(build, again), (1, 0), "{build:?}");
    }
}

#[test]
fn a_stream_that_is_created_twice_takes_one_slot_and_gives_it_back() {
    for build in Build::ALL {
        let again = |machine: &mut Machine, id| {
            create(machine, id, 1, request("a", "/"));
            arrive(machine, id, request("a", "/"));
        };
        assert_eq!(told_twice(build, again), (1, 0), "{build:?}");
    }
}

#[test]
fn a_stream_that_is_created_again_has_the_place_that_it_had() {
    const ONE: &str =
        r#"{"mode": "enforce", "rules": [{"name": "db", "limits": {"inflight": 1}}]}"#;
    for build in Build::ALL {
        let envoy = Envoy::start();
        let mut machine = Machine::start(build, &envoy);
        create(&mut machine, 1, 0, Context::default());
        assert!(machine.configure(1, ONE.as_bytes(), ONE.len() as u32));
        for _ in 0..2 {
            create(&mut machine, 3, 1, request("a", "/"));
            arrive(&mut machine, 3, request("a", "/"));
            assert!(!machine.see().contexts[&3].paused, "{build:?}");
        }
        create(&mut machine, 5, 1, request("a", "/"));
        arrive(&mut machine, 5, request("a", "/"));
        assert!(machine.see().contexts[&5].paused, "{build:?}");
    }
}

#[test]
fn an_upstream_that_hangs_in_the_middle_of_a_good_answer_is_told() {
    const OPEN: &str = r#"{"rules": [{"name": "db"}]}"#;
    const TIMED_OUT: u64 = 0x4;
    for (flags, told) in [(0, 0), (TIMED_OUT, 1)] {
        let envoy = Envoy::start();
        let mut machine = Machine::start(Build::Plain, &envoy);
        create(&mut machine, 1, 0, Context::default());
        assert!(machine.configure(1, OPEN.as_bytes(), OPEN.len() as u32));
        let mut stream = request("a", "/");
        stream.set_property("response\0code", 200_u64.to_le_bytes());
        stream.set_property("response\0flags", flags.to_le_bytes());
        create(&mut machine, 3, 1, stream.clone());
        arrive(&mut machine, 3, stream);
        machine.state().effective = 3;
        machine.delete(3);
        for _ in 0..3 {
            let now = envoy.borrow().now + 100_000_000;
            envoy.borrow_mut().set_clock(now);
            machine.tick(1);
        }
        let refusals = envoy
            .borrow()
            .metric("db", "tidegate_upstream_refusals_total");
        assert_eq!(refusals, told);
    }
}

#[test]
fn a_host_that_calls_about_nothing_it_knows_is_answered() {
    for build in Build::ALL {
        let envoy = Envoy::start();
        let mut machine = Machine::start(build, &envoy);
        machine.state().weather = Weather::Fine;
        for id in IDS {
            machine.tick(id);
            machine.delete(id);
            assert_eq!(machine.request(id), 0, "it goes on");
            assert_eq!(machine.connection(id), 0, "it goes on");
            for side in 0..2 {
                let answer = machine.data(side, id, u32::MAX, true);
                assert!(answer.is_none_or(|answer| answer == 0), "it goes on");
            }
            // A root context that was never created has no configuration.
            let text = busy(build, Sort::Http, "db");
            assert!(!machine.configure(id, text.as_bytes(), text.len() as u32));
        }
        // The same contexts over and over are no more contexts.
        let memory = |machine: &mut Machine| {
            for _ in 0..3_000 {
                for id in IDS {
                    machine.create(id, 0);
                    machine.create(id, 1);
                }
            }
            machine.memory()
        };
        let few = memory(&mut machine);
        let many = (0..5).map(|_| memory(&mut machine)).max();
        assert_eq!(many, Some(few), "{build:?}");
    }
    seen::tell("calls about nothing");
}
