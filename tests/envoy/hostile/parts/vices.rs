//! What hostile clients do, as steps that a client takes on a connection.

use std::{net::Ipv4Addr, time::Duration};

use tidegate::{protocol::postgres, scenario::Random};

use super::{
    crowd::words,
    stand::{CALLER, Door},
};

/// One thing that a client does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Says all of it at once.
    Say(Vec<u8>),
    /// Says it byte by byte, with so much time between two.
    Dribble(Vec<u8>, Duration),
    /// Does nothing.
    Stay(Duration),
    /// Reads and forgets, until the end or for so long.
    Read(Duration),
    /// Says that it has said all.
    HalfClose,
    /// Ends with a reset, and not with a farewell.
    Reset,
}

use Step::{Dribble, HalfClose, Read, Reset, Say, Stay};

/// A way to be hostile.
#[derive(Clone, Copy)]
pub struct Vice {
    pub name: &'static str,
    pub door: Door,
    /// One connection in so many of its equal share: a database makes a process for each, and some
    /// bring a hundred requests or a megabyte.
    pub costs: usize,
    /// What the client of that number does.
    steps: fn(&mut Client) -> Vec<Step>,
}

/// A hostile client.
pub struct Client {
    pub number: u32,
    pub random: Random,
}

impl Client {
    /// The one of that number; it does the same each time.
    pub fn new(number: u32) -> Self {
        Self {
            number,
            random: Random::new(u64::from(number)),
        }
    }

    /// What it does.
    pub fn steps(&mut self, vice: &Vice) -> Vec<Step> {
        (vice.steps)(self)
    }

    /// An address that is its own, of some sixteen million.
    pub fn address(&self) -> Ipv4Addr {
        // Not those of the decent, nor the last of the network.
        let bits = self.number % 0x00fe_0000 + 0x0001_0000;
        Ipv4Addr::from(0x7f00_0000 | bits)
    }

    fn name(&self) -> String {
        format!("h-{}", self.number)
    }

    fn up_to(&mut self, end: u64) -> usize {
        // What it is below fits.
        self.random.below(end) as usize
    }

    /// A moment; some are shorter than the hold and some longer.
    fn moment(&mut self) -> Duration {
        Duration::from_millis(self.random.below(250))
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = 1 + self.up_to(most);
        (0..length).map(|_| self.random.bits() as u8).collect()
    }
}

/// How long an answer is read; refusals come sooner.
const READ: Duration = Duration::from_millis(400);
/// The pause between two bytes of one who dribbles.
const DRIP: Duration = Duration::from_millis(20);

const fn vice(
    name: &'static str,
    door: Door,
    costs: usize,
    steps: fn(&mut Client) -> Vec<Step>,
) -> Vice {
    Vice {
        name,
        door,
        costs,
        steps,
    }
}

/// All of them.
pub const VICES: &[Vice] = &[
    vice("tcp: resets at once", Door::Service, 1, |_| vec![Reset]),
    vice("tcp: speaks and resets", Door::Service, 1, |_| {
        vec![Say(b"words".into()), Reset]
    }),
    vice("tcp: resets while held", Door::Service, 1, |it| {
        vec![Say(b"words".into()), Stay(it.moment()), Reset]
    }),
    vice("tcp: says nothing", Door::Service, 1, |it| {
        vec![Stay(it.moment())]
    }),
    vice("tcp: half-closes and stays", Door::Service, 1, |it| {
        vec![HalfClose, Stay(it.moment())]
    }),
    vice("tcp: dribbles while held", Door::Service, 1, |_| {
        vec![Dribble(b"slowly".into(), DRIP)]
    }),
    vice(
        "tcp: a line of the PROXY protocol",
        Door::Service,
        1,
        |_| vec![Say(PROXY.into()), Read(READ)],
    ),
    vice(
        "tcp: a TLS greeting that breaks off",
        Door::Service,
        1,
        |it| vec![Say(hello(it)), Read(READ)],
    ),
    vice("http: says nothing", Door::Api, 1, |it| {
        vec![Stay(it.moment())]
    }),
    vice("http: resets with a request open", Door::Api, 1, |it| {
        vec![Say(get(it)), Stay(it.moment() / 4), Reset]
    }),
    vice("http: a head that never ends", Door::Api, 1, |it| {
        let mut head = get(it);
        head.truncate(head.len() - 2);
        vec![Dribble(head, Duration::from_millis(2)), Reset]
    }),
    vice("http: a body that never ends", Door::Api, 1, |it| {
        let head = request(it, "POST / HTTP/1.1", "content-length: 1000000\r\n");
        vec![Say(head), Dribble(b"slowly".into(), DRIP), Reset]
    }),
    vice("http: chunks that are none", Door::Api, 1, |it| {
        let mut head = request(it, "POST / HTTP/1.1", "transfer-encoding: chunked\r\n");
        head.extend(b"ffffffffffffffff\r\n");
        head.extend(it.bytes(64));
        vec![Say(head), Read(READ)]
    }),
    vice("http: ninety headers", Door::Api, 1, |it| {
        let headers: String = (0..90)
            .map(|n| format!("x-h-{n}: {}\r\n", "v".repeat(500)))
            .collect();
        vec![Say(request(it, "GET / HTTP/1.1", &headers)), Read(READ)]
    }),
    vice("http: x-forwarded-for of a megabyte", Door::Api, 4, |it| {
        let hops = "10.1.2.3, ".repeat(105_000);
        let header = format!("x-forwarded-for: {hops}10.9.9.9\r\n");
        vec![Say(request(it, "GET / HTTP/1.1", &header)), Read(READ)]
    }),
    vice("http: x-forwarded-for of 5,000 hops", Door::Api, 1, |it| {
        let header = format!(
            "x-forwarded-for: {}10.9.9.9\r\n",
            "10.1.2.3, ".repeat(5_000)
        );
        vec![Say(request(it, "GET / HTTP/1.1", &header)), Read(READ)]
    }),
    vice("http: names of any bytes", Door::Api, 1, |it| {
        vec![Say(named(it)), Read(READ)]
    }),
    vice("http: in the name of a decent one", Door::Api, 1, |_| {
        vec![Say(words(Door::Api, "decent")), Read(READ)]
    }),
    vice("http: a hundred new names, pipelined", Door::Api, 4, |it| {
        vec![Say(pipelined(it, 100)), Read(READ * 10)]
    }),
    vice("http: pipelined, and gone", Door::Api, 1, |it| {
        vec![Say(pipelined(it, 20)), Reset]
    }),
    vice(
        "http: asks to be upgraded, or to connect",
        Door::Api,
        1,
        |it| {
            let head = if it.number.is_multiple_of(2) {
                let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
                request(it, "GET / HTTP/1.1", upgrade)
            } else {
                request(it, "CONNECT db.example:5432 HTTP/1.1", "")
            };
            vec![Say(head), Read(it.moment()), Reset]
        },
    ),
    vice("http: no HTTP at all", Door::Api, 1, |it| {
        let words = match it.number % 3 {
            0 => it.bytes(2_000),
            1 => PROXY.into(),
            _ => hello(it),
        };
        vec![Say(words), Read(READ)]
    }),
    vice(
        "http/2: a hundred streams, each reset",
        Door::Api,
        20,
        |it| vec![Say(h2_streams(it, 100, true, "")), Read(READ)],
    ),
    vice("http/2: a hundred streams, and gone", Door::Api, 20, |it| {
        vec![Say(h2_streams(it, 100, false, "")), Reset]
    }),
    vice(
        "grpc: deadlines of no time and of years",
        Door::Api,
        1,
        |it| {
            let timeout = ["1n", "0S", "99999999H", "-1S", "999999999999H", "x"][it.up_to(6)];
            vec![Say(h2_streams(it, 5, false, timeout)), Read(READ)]
        },
    ),
    vice("http/2: frames of any bytes", Door::Api, 1, |it| {
        let mut words = h2_streams(it, 2, false, "");
        words.extend(it.bytes(500));
        vec![Say(words), Read(READ)]
    }),
    vice(
        "postgres: half a message, of 4 GiB",
        Door::Postgres,
        2,
        |it| {
            let length = [u32::MAX, 1 << 31, 10_001, 0][it.up_to(4)];
            vec![Say(length.to_be_bytes().into()), Read(READ)]
        },
    ),
    vice(
        "postgres: half a message, of 10,000",
        Door::Postgres,
        2,
        |it| {
            let mut start = 10_000_u32.to_be_bytes().to_vec();
            start.extend(V3);
            start.extend(vec![b'x'; it.up_to(9_000)]);
            vec![Say(start), Stay(it.moment()), Reset]
        },
    ),
    vice("postgres: names of any bytes", Door::Postgres, 4, |it| {
        let name = nasty(it);
        vec![Say(startup(&name)), Read(READ)]
    }),
    vice(
        "postgres: asks for encryption again",
        Door::Postgres,
        2,
        |it| {
            let ask = [postgres::ASKS_FOR_TLS, postgres::ASKS_FOR_GSSAPI];
            let asks = (0..50).flat_map(|n| ask[(it.number as usize + n) % 2]);
            vec![Say(asks.copied().collect()), Read(READ)]
        },
    ),
    vice(
        "postgres: cancels what is not its own",
        Door::Postgres,
        2,
        |it| {
            let mut cancel = vec![0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e];
            cancel.extend(it.random.bits().to_be_bytes());
            vec![Say(cancel), Read(READ)]
        },
    ),
    vice("postgres: any bytes", Door::Postgres, 2, |it| {
        vec![Say(it.bytes(12_000)), Read(READ)]
    }),
    vice(
        "postgres: dribbles its name while held",
        Door::Postgres,
        2,
        |_| vec![Dribble(startup(b"slow"), Duration::from_millis(5)), Reset],
    ),
    vice("mysql: any bytes", Door::Mysql, 1, |it| {
        vec![Say(it.bytes(4_000)), Read(READ)]
    }),
    vice("mysql: resets while refused", Door::Mysql, 1, |it| {
        vec![Stay(it.moment()), Say(it.bytes(8)), Reset]
    }),
];

const PROXY: &[u8] = b"PROXY TCP4 10.9.0.1 10.9.0.2 5432 5432\r\nPROXY UNKNOWN\r\n";
const V3: [u8; 4] = [0, 3, 0, 0];

/// A TLS record that promises a ClientHello, and something else in it.
fn hello(it: &mut Client) -> Vec<u8> {
    let mut record = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    record.extend(it.bytes(200));
    record
}

fn request(it: &Client, line: &str, headers: &str) -> Vec<u8> {
    let name = it.name();
    format!("{line}\r\nhost: api.example\r\n{CALLER}: {name}\r\n{headers}\r\n").into_bytes()
}

fn get(it: &Client) -> Vec<u8> {
    request(it, "GET / HTTP/1.1", "")
}

/// A request whose caller has a nasty name.
fn named(it: &mut Client) -> Vec<u8> {
    let head = format!("GET / HTTP/1.1\r\nhost: api.example\r\n{CALLER}: ");
    [
        head.as_bytes(),
        &nasty(it),
        b"\r\nconnection: close\r\n\r\n",
    ]
    .concat()
}

/// So many requests, each in a name of its own, of which the last closes the connection.
fn pipelined(it: &Client, count: u32) -> Vec<u8> {
    let one = |n: u32| {
        let last = if n + 1 == count {
            "connection: close\r\n"
        } else {
            ""
        };
        let name = it.number.wrapping_mul(count).wrapping_add(n);
        format!("GET / HTTP/1.1\r\nhost: api.example\r\n{CALLER}: p-{name}\r\n{last}\r\n")
    };
    (0..count).map(one).collect::<String>().into_bytes()
}

/// What would be dangerous where a name is written down without care.
pub const NASTY: [&[u8]; 10] = [
    br#"","rule":"x"}tidegate_event {"event":"surge_ended"#,
    b"<script>alert(1)</script>",
    b"'; DROP TABLE orders; --",
    b"x{rule=\"orders-db\"} 1",
    b"rule=.=other;.;reason=.=x;.;a.b.c",
    b"\x1b[2J\x1b]0;owned\x07",
    b"a\r\ntidegate_event {\"event\":\"fault\"}",
    b"\xff\xfe\xc3\x28",
    "\u{202e}\u{2028}\u{feff}".as_bytes(),
    b"%s%n${jndi:ldap://x}",
];

/// One of them, and mostly more after it, so that it is new and may be long.
fn nasty(it: &mut Client) -> Vec<u8> {
    let mut name = NASTY[it.up_to(NASTY.len() as u64)].to_vec();
    if it.up_to(8) > 0 {
        name.extend(it.name().into_bytes());
        name.extend(vec![b'x'; it.up_to(2_000)]);
    }
    name
}

/// The message that begins a session of PostgreSQL's; a NUL would end the name.
pub fn startup(application_name: &[u8]) -> Vec<u8> {
    let name = application_name.iter().copied().filter(|&byte| byte != 0);
    let mut body = V3.to_vec();
    body.extend(b"user\0app\0database\0postgres\0application_name\0");
    body.extend(name);
    body.extend([0, 0]);
    // It is shorter than 10,000.
    let length = body.len() as u32 + 4;
    [&length.to_be_bytes()[..], &body].concat()
}

/// HTTP/2 from its preface: so many requests at once, each of which may be reset at once.
fn h2_streams(it: &Client, count: u32, reset: bool, grpc_timeout: &str) -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const RST_STREAM: u8 = 3;
    const HEADERS: u8 = 1;
    const END_ALL: u8 = 5;
    let mut words = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    words.extend(h2_frame(SETTINGS, 0, 0, b""));
    for n in 0..count {
        // GET, http, /: indices of HPACK's static table.
        let mut block = vec![0x82, 0x86, 0x84];
        let name = format!("{}-{n}", it.name());
        let mut headers = vec![(":authority", "api.example"), (CALLER, &name)];
        if !grpc_timeout.is_empty() {
            headers.push(("content-type", "application/grpc"));
            headers.push(("te", "trailers"));
            headers.push(("grpc-timeout", grpc_timeout));
        }
        for (name, value) in headers {
            // A literal that is not to be indexed; none is longer than 126 bytes.
            block.push(0);
            for text in [name, value] {
                block.push(text.len() as u8);
                block.extend(text.bytes());
            }
        }
        let stream = 2 * n + 1;
        words.extend(h2_frame(HEADERS, END_ALL, stream, &block));
        if reset {
            const CANCEL: [u8; 4] = [0, 0, 0, 8];
            words.extend(h2_frame(RST_STREAM, 0, stream, &CANCEL));
        }
    }
    words
}

fn h2_frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    // Each body is short.
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(body);
    frame
}
