//! Random schedules of three brokers over the model, with every fault: brokers append, publish, truncate, end each other,
//! leave, are cut off, crash and come back, while calls are lost, delayed and doubled and watches do what they want. The
//! store's own events are the truth that every answer and every read is compared with.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafscale_journal::etcd::EtcdJournal;
use kafscale_journal::etcd::kv::WatchReply;
use kafscale_journal::etcd::model::{Call, CallFault, Client, Faults, WatchFault, World};
use kafscale_journal::sessions::{LiveSession, Sessions, Victim};
use kafscale_journal::{AppendError, Journal, OpenError, Pointer, Position, ReadError, Record};
use kafscale_ports::Env;
use tokio::time::{Instant, sleep, timeout};

use super::lab::{identity, settings, world};
use super::planted::{Bug, plant};
use super::truth::Truth;

/// SplitMix64.
#[derive(Clone)]
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}

/// A fault now and then: one call or reply in so many.
struct Now {
    rng: Rng,
    every: u64,
}

impl Faults for Now {
    fn call(&mut self, _call: &Call) -> CallFault {
        if !self.rng.one_in(self.every) {
            return CallFault::None;
        }
        match self.rng.below(7) {
            0 => CallFault::LoseRequest,
            1 => CallFault::LoseReply,
            2 => CallFault::Delay,
            3 => CallFault::Duplicate,
            4 => CallFault::Hang,
            // A call is given up after three seconds.
            5 => CallFault::LateReply(self.rng.millis(3_500)),
            _ => CallFault::HangAfter,
        }
    }

    fn reply(&mut self, _reply: &WatchReply) -> WatchFault {
        if !self.rng.one_in(self.every) {
            return WatchFault::None;
        }
        match self.rng.below(7) {
            0 => WatchFault::Lose,
            1 => WatchFault::LoseEvent(usize::try_from(self.rng.below(4)).unwrap()),
            2 => WatchFault::Repeat,
            3 => WatchFault::Rewind(self.rng.below(9)),
            4 => WatchFault::Split(usize::try_from(self.rng.below(4)).unwrap()),
            5 => WatchFault::Close,
            _ => WatchFault::Stall,
        }
    }
}

struct Away;

impl Faults for Away {
    fn call(&mut self, _call: &Call) -> CallFault {
        CallFault::Hang
    }

    fn reply(&mut self, _reply: &WatchReply) -> WatchFault {
        WatchFault::Stall
    }
}

/// What an entry came to, as its caller was told.
#[derive(Debug, Clone, Copy)]
enum Told {
    Committed(Position),
    Never,
    Unknown,
}

#[derive(Default)]
struct Notes {
    told: Vec<(u64, u64, Bytes, Told)>,
    /// What each reader has read without a break.
    read: Vec<Vec<Record>>,
    counts: BTreeMap<&'static str, u64>,
    nonce: u64,
    unique: u64,
    /// The store has gone back in time: whoever notices stops for good.
    rewound: bool,
    /// What the journals do wrong.
    bug: Option<Bug>,
}

type Shared = Rc<RefCell<Notes>>;

/// Somebody says that the store went back, or is damaged.
fn notice(notes: &Shared, why: &dyn std::fmt::Display) {
    assert!(notes.borrow().rewound, "{why}");
    count(notes, "noticed");
}

fn count(notes: &Shared, what: &'static str) {
    *notes.borrow_mut().counts.entry(what).or_default() += 1;
}

/// One life of a broker.
struct Life {
    journal: Arc<EtcdJournal>,
    client: Client,
    rng: Rng,
    notes: Shared,
    nonce: u64,
    n: u64,
    known: Vec<LiveSession>,
    every: u64,
}

enum How {
    Append,
    Leave,
    Publish(Pointer),
    End(Victim),
    Expel(Victim),
}

impl Life {
    fn noise(&mut self) -> Now {
        Now { rng: Rng(self.rng.below(u64::MAX)), every: self.every }
    }

    /// Opens a session; each attempt has its own nonce.
    async fn open(&mut self, broker_id: i32) {
        loop {
            let nonce = {
                let mut notes = self.notes.borrow_mut();
                notes.nonce += 1;
                notes.nonce
            };
            let entry = Bytes::from(format!("opening {nonce}"));
            match self.journal.open(identity(broker_id), nonce, entry.clone()).await {
                Ok(position) => {
                    self.notes.borrow_mut().told.push((nonce, 0, entry, Told::Committed(position)));
                    (self.nonce, self.n) = (nonce, 1);
                    return;
                }
                Err(OpenError::Failed(_)) => count(&self.notes, "opening failed"),
                Err(error @ OpenError::InUse { .. }) => panic!("{error}"),
            }
            if let Err(error @ ReadError::Damaged { .. }) = self.journal.end().await {
                return notice(&self.notes, &error);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Appends as a broker does: what is unknown is repeated until it is known. False: the session is over.
    async fn append(&mut self, how: How) -> bool {
        let (nonce, n) = (self.nonce, self.n);
        let entry = {
            let mut notes = self.notes.borrow_mut();
            notes.unique += 1;
            let entry = match &how {
                How::Append | How::Leave | How::Publish(_) => format!("{nonce} {n} {}", notes.unique),
                How::End(victim) | How::Expel(victim) => format!("{nonce} {n} {} ends {}", notes.unique, victim.nonce),
            };
            let entry = Bytes::from(entry);
            notes.told.push((nonce, n, entry.clone(), Told::Unknown));
            entry
        };
        let index = self.notes.borrow().told.len() - 1;
        let told = |told| self.notes.borrow_mut().told[index].3 = told;
        let mut maybe = false;
        loop {
            let journal = &self.journal;
            let result = match &how {
                How::Append => journal.append(nonce, n, entry.clone()).await,
                How::Leave => journal.leave(nonce, n, entry.clone()).await,
                How::Publish(pointer) => journal.publish(nonce, n, entry.clone(), pointer.clone()).await,
                How::End(victim) => journal.end_other(nonce, n, entry.clone(), *victim).await,
                How::Expel(victim) => journal.expel(nonce, n, entry.clone(), *victim).await,
            };
            match result {
                Ok(position) => {
                    told(Told::Committed(position));
                    self.n += 1;
                    return true;
                }
                Err(AppendError::Unknown(_)) => {
                    maybe = true;
                    count(&self.notes, "unknown");
                }
                Err(AppendError::Refused(_)) if maybe => {}
                Err(AppendError::Refused(_)) => {
                    count(&self.notes, "refused");
                    told(Told::Never);
                    return true;
                }
                Err(AppendError::Fenced) => {
                    count(&self.notes, if maybe { "fenced after unknown" } else { "fenced" });
                    if !maybe {
                        told(Told::Never);
                    }
                    return false;
                }
                Err(AppendError::Dead(why)) => {
                    notice(&self.notes, &why);
                    return false;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn step(&mut self) -> bool {
        match self.rng.below(60) {
            0 => {
                self.append(How::Leave).await;
                count(&self.notes, "left");
                return false;
            }
            1..=3 => return self.publish().await,
            4..=7 => return self.end_somebody().await,
            8 => {
                if let Some(victim) = self.another() {
                    count(&self.notes, "expelled");
                    return self.append(How::Expel(victim)).await;
                }
            }
            9 => {
                count(&self.notes, "cut off");
                self.client.set_faults(Away);
                sleep(self.rng.millis(12_000)).await;
                let noise = self.noise();
                self.client.set_faults(noise);
            }
            10 => {
                if self.journal.truncate().await.is_ok() {
                    count(&self.notes, "truncated again");
                }
            }
            _ => {
                sleep(self.rng.millis(30)).await;
                return self.append(How::Append).await;
            }
        }
        true
    }

    /// The journal's end: nothing that was committed before is beyond it.
    async fn end(&self) -> Option<Position> {
        let committed = self.notes.borrow().told.iter().fold(0, |newest, (.., told)| match told {
            Told::Committed(position) => position.ordinal.max(newest),
            Told::Never | Told::Unknown => newest,
        });
        let end = self.journal.end().await.ok()?;
        assert!(
            self.notes.borrow().rewound || end.ordinal >= committed,
            "the end is before what was committed: {end:?}, {committed}"
        );
        Some(end)
    }

    async fn publish(&mut self) -> bool {
        let Some(end) = self.end().await else { return true };
        let ordinal = end.ordinal - self.rng.below(end.ordinal.min(5));
        let truncatable = ordinal - self.rng.below(ordinal.min(8));
        let pointer = Pointer { ordinal, truncatable, value: Bytes::from(ordinal.to_string()) };
        count(&self.notes, "published");
        let lives = self.append(How::Publish(pointer)).await;
        if self.journal.truncate().await.is_ok() {
            count(&self.notes, "truncated");
        }
        lives
    }

    fn another(&mut self) -> Option<Victim> {
        let others: Vec<&LiveSession> = self.known.iter().filter(|s| s.nonce != self.nonce).collect();
        let index = usize::try_from(self.rng.below(others.len().max(1) as u64)).unwrap();
        others.get(index).map(|session| Victim { broker_id: session.identity.broker_id, nonce: session.nonce })
    }

    /// Looks who has gone since the last time, and ends them.
    async fn end_somebody(&mut self) -> bool {
        let Ok(live) = self.journal.live().await else { return true };
        let gone = |session: &&LiveSession| !live.iter().any(|alive| alive.nonce == session.nonce);
        let gone: Vec<LiveSession> = self.known.iter().filter(gone).cloned().collect();
        self.known = live;
        let own = self.nonce;
        for session in gone.iter().filter(|session| session.nonce != own) {
            let victim = Victim { broker_id: session.identity.broker_id, nonce: session.nonce };
            count(&self.notes, "ended another");
            if !self.append(How::End(victim)).await {
                return false;
            }
        }
        true
    }

    async fn run(mut self, broker_id: i32) {
        self.open(broker_id).await;
        while self.step().await {}
    }
}

/// Reads from the beginning, or from the pointer where that is gone, up to an ordinal. False: it cannot go on.
async fn follow(journal: &EtcdJournal, notes: &Shared, until: u64) -> bool {
    let begin = || {
        let read = &mut notes.borrow_mut().read;
        read.push(Vec::new());
        read.len() - 1
    };
    let (mut reading, mut after) = (begin(), 0);
    while after < until {
        match journal.read(after).await {
            Ok(records) => {
                for record in records {
                    after += 1;
                    assert_eq!(record.position.ordinal, after, "no gaps");
                    notes.borrow_mut().read[reading].push(record);
                }
            }
            Err(ReadError::Truncated { first }) => {
                count(notes, "reader truncated");
                assert!(first > after + 1);
                // It would load a snapshot here.
                (reading, after) = (begin(), first - 1);
            }
            Err(ReadError::Failed(_)) => sleep(Duration::from_millis(50)).await,
            Err(error @ ReadError::Damaged { .. }) => {
                notice(notes, &error);
                return false;
            }
        }
    }
    true
}

async fn start(client: &Client, notes: &Shared) -> Option<Arc<EtcdJournal>> {
    loop {
        let kv = plant(client, notes.borrow().bug);
        match EtcdJournal::start(kv, Env::real(), settings(), 42).await {
            Ok(journal) => return Some(Arc::new(journal)),
            Err(ReadError::Failed(_)) => sleep(Duration::from_millis(100)).await,
            Err(error @ (ReadError::Damaged { .. } | ReadError::Truncated { .. })) => {
                notice(notes, &error);
                return None;
            }
        }
    }
}

/// One broker id: life after life, each ended by its own will, by the others, or by a crash at any await.
async fn broker(world: Arc<World>, broker_id: i32, notes: Shared, mut rng: Rng, until: Instant) {
    while Env::real().clock.now() < until {
        let every = [6, 15, 60][usize::try_from(rng.below(3)).unwrap()];
        let client = world.client(Now { rng: Rng(rng.below(u64::MAX)), every });
        let (span, rng_of_life) = (rng.millis(20_000), Rng(rng.below(u64::MAX)));
        let life = async {
            let Some(journal) = start(&client, &notes).await else { return };
            let (client, notes, rng) = (client.clone(), Rc::clone(&notes), rng_of_life);
            let (known, nonce, n) = (Vec::new(), 0, 0);
            let life =
                Life { journal: Arc::clone(&journal), client, rng, notes: Rc::clone(&notes), nonce, n, known, every };
            tokio::select! {
                biased;
                () = life.run(broker_id) => {}
                _stopped = follow(&journal, &notes, u64::MAX) => {}
            }
        };
        if timeout(span, life).await.is_err() {
            count(&notes, "crashed");
        }
        sleep(rng.millis(2000)).await;
    }
}

/// What happens to the store itself.
async fn weather(world: Arc<World>, truth: Rc<RefCell<Truth>>, mut rng: Rng, until: Instant) {
    while Env::real().clock.now() < until {
        sleep(rng.millis(1000)).await;
        match rng.below(6) {
            0 => {
                truth.borrow_mut().take(&world);
                // Everything but the present is forgotten.
                let _already = world.with(|store| store.compact(store.revision()));
            }
            1 => world.close_watches(),
            2 => world.set_batch(usize::try_from(1 + rng.below(5)).unwrap()),
            _ => {
                while world.late() > 0 && !rng.one_in(5) {
                    let index = usize::try_from(rng.below(world.late() as u64)).unwrap();
                    world.deliver_one_late(index);
                }
            }
        }
        truth.borrow_mut().take(&world);
    }
}

/// With a planted bug or without.
pub(crate) async fn play(seed: u64, bug: Option<Bug>) -> BTreeMap<&'static str, u64> {
    let world = world();
    let notes = Shared::new(RefCell::new(Notes { bug, ..Notes::default() }));
    let truth = Rc::new(RefCell::new(Truth::default()));
    let mut rng = Rng(seed);
    season(&world, &notes, &truth, &mut rng, Duration::from_secs(60)).await;

    // Everything has healed: what was late arrives, somebody starts anew, writes, and reads all there is.
    world.deliver_late();
    let journal = start(&world.client(()), &notes).await.unwrap();
    journal.open(identity(4), u64::MAX, Bytes::new()).await.unwrap();
    let last = journal.append(u64::MAX, 1, Bytes::new()).await.unwrap();
    timeout(Duration::from_secs(10), follow(&journal, &notes, last.ordinal)).await.expect("it reads to the end");
    truth.borrow_mut().take(&world);
    judge(&truth.borrow(), &notes.borrow());
    let mut counts = std::mem::take(&mut notes.borrow_mut().counts);
    counts.insert("repeats", truth.borrow().repeats);
    counts
}

/// Three brokers and the weather, for so long.
async fn season(world: &Arc<World>, notes: &Shared, truth: &Rc<RefCell<Truth>>, rng: &mut Rng, long: Duration) {
    let until = Env::real().clock.now() + long;
    let mut fork = || Rng(rng.below(u64::MAX));
    let run = |id, rng| broker(Arc::clone(world), id, Rc::clone(notes), rng, until);
    let (a, b, c) = (run(1, fork()), run(2, fork()), run(3, fork()));
    let weather = weather(Arc::clone(world), Rc::clone(truth), fork(), until);
    tokio::join!(a, b, c, weather);
}

fn judge(truth: &Truth, notes: &Notes) {
    for (nonce, n, entry, told) in &notes.told {
        let places = truth.places(*nonce, *n, entry);
        match told {
            Told::Committed(position) => assert!(places.contains(position), "{nonce} {n}: {position:?}, {places:?}"),
            Told::Never => assert_eq!(places, [], "{nonce} {n} was refused and is there"),
            Told::Unknown => {}
        }
    }
    notes.read.iter().flatten().for_each(|record| truth.check_read(record));
    assert!(notes.read.iter().flatten().any(|record| record.position.ordinal == truth.end()));
    // The pointer's own ordinal stands behind version, incarnation and base.
    let ordinals = truth.pointers.iter().map(|value| u64::from_be_bytes(value[25..33].try_into().unwrap()));
    assert!(ordinals.is_sorted(), "the pointer never goes back");
}

/// The store goes back to a backup in the middle of everything. Nobody may read a mixture: what a reader has read
/// without a break is all of the old story, or all of the new one.
async fn play_restored(seed: u64) -> BTreeMap<&'static str, u64> {
    let world = world();
    let notes = Shared::default();
    let old = Rc::new(RefCell::new(Truth::default()));
    let mut rng = Rng(seed);
    let mut of_restore = Rng(rng.below(u64::MAX));
    let new = Rc::new(RefCell::new(Truth::default()));
    let restore = async {
        sleep(Duration::from_secs(5) + of_restore.millis(10_000)).await;
        old.borrow_mut().take(&world);
        *new.borrow_mut() = old.borrow().clone();
        let backup = world.backup();
        sleep(of_restore.millis(3_000)).await;
        old.borrow_mut().take(&world);
        notes.borrow_mut().rewound = true;
        world.restore(&backup);
        // From here on the weather's notes are of the new story.
        std::mem::swap(&mut *old.borrow_mut(), &mut *new.borrow_mut());
        old.borrow_mut().rewound = true;
    };
    tokio::join!(season(&world, &notes, &old, &mut rng, Duration::from_secs(30)), restore);
    old.borrow_mut().take(&world);
    let (new, old) = (old.borrow(), new.borrow());
    let common = new.records.iter().zip(&old.records).take_while(|(a, b)| a == b).count() as u64;
    for read in &notes.borrow().read {
        let is_of = |truth: &Truth| read.iter().all(|record| truth.has(record));
        assert!(is_of(&old) || is_of(&new), "seed {seed}: a mixture; the stories part after entry {common}");
    }
    std::mem::take(&mut notes.borrow_mut().counts)
}

const SEEDS: u64 = 200;

#[tokio::test(start_paused = true)]
async fn three_brokers_keep_the_contract_under_every_fault() {
    let mut counts = BTreeMap::<&str, u64>::new();
    for seed in 0..SEEDS {
        println!("seed {seed}");
        for (what, times) in play(seed, None).await {
            *counts.entry(what).or_default() += times;
        }
    }
    println!("{counts:?}");
    for what in [
        "unknown",
        "refused",
        "fenced",
        "fenced after unknown",
        "left",
        "published",
        "truncated",
        "truncated again",
        "expelled",
        "ended another",
        "cut off",
        "crashed",
        "reader truncated",
        "opening failed",
        "repeats",
    ] {
        assert!(counts.get(what).is_some_and(|times| *times > 0), "never happened: {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_reads_a_mixture_when_the_store_goes_back_in_time() {
    let mut noticed = 0;
    for seed in 0..SEEDS {
        println!("seed {seed}");
        noticed += play_restored(seed).await.get("noticed").copied().unwrap_or_default();
    }
    assert!(noticed > SEEDS, "{noticed}");
}
