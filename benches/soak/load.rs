//! Those who come: steadily, in surges, to leave again, or to do harm.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tidegate::scenario::Random;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, oneshot, watch},
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use crate::hostile::{
    crowd::{Stage, connect, one, words},
    stand::Door,
    vices::VICES,
};

/// Who comes now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weather {
    /// Everybody comes several times as often.
    pub everybody: bool,
    pub hostile: bool,
    /// One caller wants all; by door.
    pub one_caller: [bool; 4],
    /// Many come, and leave; by door.
    pub aborts: [bool; 4],
}

/// How often clients came, and what became of them.
#[derive(Debug, Default)]
pub struct Tally {
    pub came: AtomicUsize,
    pub served: AtomicUsize,
    pub hostile: AtomicUsize,
}

/// The load, in a thread of its own.
pub struct Load {
    weather: watch::Sender<Weather>,
    tally: Arc<Tally>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// So many names come steadily to each door, and so often all of them together, a second.
const NAMES: u64 = 12;
const PER_S: [f64; 4] = [60.0, 30.0, 8.0, 8.0];
/// How much more often they come when everybody does.
const MORE: f64 = 5.0;
/// So many connections the one caller wants, and so many clients come to leave.
const GREEDY: usize = 60;
const LEAVING: usize = 30;
/// So many hostile clients are there at once.
const HOSTILE: usize = 40;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(1500);

impl Load {
    /// Begins. Nobody begins or ends anything while the stage stands still.
    pub fn start(doors: [SocketAddr; 4], seed: u64, stage: Stage) -> Self {
        let (weather, feels) = watch::channel(Weather::default());
        let tally = Arc::<Tally>::default();
        let (stop, stopped) = oneshot::channel();
        let counts = Arc::clone(&tally);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            LocalSet::new().block_on(&runtime, async move {
                for (index, (door, to)) in Door::ALL.into_iter().zip(doors).enumerate() {
                    let all = Crowd {
                        door,
                        index,
                        to,
                        stage: stage.clone(),
                        feels: feels.clone(),
                        tally: Arc::clone(&counts),
                    };
                    spawn_local(all.clone().steady(Random::new(seed ^ index as u64)));
                    for number in 0..GREEDY {
                        spawn_local(all.clone().greedy());
                        if number < LEAVING {
                            let random = Random::new(seed ^ (number as u64) << 8);
                            spawn_local(all.clone().leaving(random));
                        }
                    }
                }
                spawn_local(hostile(doors, stage, feels, counts, Random::new(!seed)));
                stopped.await.ok();
            });
        });
        Self {
            weather,
            tally,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Changes who comes.
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    /// What came of it so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|end| end.is_ok()));
    }
}

/// Those who come to one door.
#[derive(Clone)]
struct Crowd {
    door: Door,
    index: usize,
    to: SocketAddr,
    stage: Stage,
    feels: watch::Receiver<Weather>,
    tally: Arc<Tally>,
}

impl Crowd {
    async fn steady(self, mut random: Random) {
        loop {
            let more = if self.feels.borrow().everybody {
                MORE
            } else {
                1.0
            };
            let gap = -(1.0 - random.unit()).ln() / (PER_S[self.index] * more);
            sleep(Duration::from_secs_f64(gap)).await;
            self.stage.go().await;
            let name = random.below(NAMES) as u8;
            let stay = Duration::from_millis(20 + random.below(180));
            let all = self.clone();
            spawn_local(async move {
                let from = Ipv4Addr::new(127, 0, 0, 10 + name);
                let served = all.visit(from, &format!("c-{name}"), PATIENCE, stay).await;
                all.tally.came.fetch_add(1, Ordering::Relaxed);
                let served = usize::from(served.is_ok_and(|served| served));
                all.tally.served.fetch_add(served, Ordering::Relaxed);
            });
        }
    }

    /// One of those who are all the same caller: it wants a place, and soon another one.
    async fn greedy(mut self) {
        const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
        let index = self.index;
        loop {
            let wanted = |weather: &Weather| weather.one_caller[index] || weather.aborts[index];
            let begins = self.feels.wait_for(wanted).await.is_ok();
            if !begins {
                return;
            }
            let stay = Duration::from_millis(200);
            self.visit(FROM, "greedy", PATIENCE, stay).await.ok();
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// One that leaves soon, mostly while it is held.
    async fn leaving(mut self, mut random: Random) {
        let index = self.index;
        loop {
            let wanted = |weather: &Weather| weather.aborts[index];
            let begins = self.feels.wait_for(wanted).await.is_ok();
            if !begins {
                return;
            }
            let patience = Duration::from_millis(random.below(120));
            let from = Ipv4Addr::new(127, 0, 1, random.below(250) as u8);
            self.visit(from, "leaving", patience, Duration::ZERO)
                .await
                .ok();
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks for a little and stays; whether it was served.
    async fn visit(
        &self,
        from: Ipv4Addr,
        name: &str,
        patience: Duration,
        stay: Duration,
    ) -> io::Result<bool> {
        self.stage.go().await;
        let mut stream = connect(from, self.to).await?;
        self.stage.go().await;
        stream.write_all(&words(self.door, name)).await?;
        let answer = timeout(patience, self.answer(&mut stream)).await;
        let served = matches!(answer, Ok(Ok(true)));
        if served && self.door != Door::Api {
            sleep(stay).await;
        }
        self.stage.go().await;
        Ok(served)
    }

    async fn answer(&self, stream: &mut TcpStream) -> io::Result<bool> {
        /// The session is ready for a statement.
        const READY: &[u8] = b"Z\0\0\0\x05I";
        let has = |answer: &[u8], part: &[u8]| answer.windows(part.len()).any(|one| one == part);
        let (mut answer, mut bytes) = (Vec::new(), [0; 2048]);
        loop {
            let size = stream.read(&mut bytes).await?;
            answer.extend(&bytes[..size]);
            match self.door {
                Door::Api => return Ok(answer.starts_with(b"HTTP/1.1 200")),
                // A refusal of MySQL's has a NUL.
                Door::Service | Door::Mysql => return Ok(size > 0 && !answer.contains(&0)),
                Door::Postgres if size == 0 || answer.starts_with(b"E") => return Ok(false),
                Door::Postgres if has(&answer, b"SELECT 1\0") => {
                    return Ok(true);
                }
                Door::Postgres if has(&answer, READY) => {
                    answer.clear();
                    self.stage.go().await;
                    stream.write_all(b"Q\0\0\0\x0dSELECT 1\0").await?;
                }
                Door::Postgres => {}
            }
        }
    }
}

/// Clients with any vice, while there are to be some.
async fn hostile(
    doors: [SocketAddr; 4],
    stage: Stage,
    mut feels: watch::Receiver<Weather>,
    tally: Arc<Tally>,
    mut random: Random,
) {
    let room = Arc::new(Semaphore::new(HOSTILE));
    let mut number = 0;
    while feels.wait_for(|weather| weather.hostile).await.is_ok() {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let vice = VICES[random.below(VICES.len() as u64) as usize];
        let doors = Door::ALL.iter().zip(doors);
        let to = doors.into_iter().find(|(door, _)| **door == vice.door);
        let to = to.expect("one of all").1;
        number += 1;
        let (stage, tally) = (stage.clone(), Arc::clone(&tally));
        spawn_local(async move {
            one(vice, number, to, stage).await;
            tally.hostile.fetch_add(1, Ordering::Relaxed);
            drop(place);
        });
    }
}
