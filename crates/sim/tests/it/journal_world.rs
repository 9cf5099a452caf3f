//! A broker that does nothing but use the file journal, life after life on one simulated disk, and a model of what it
//! was told. Owns the workload and the checks; which fault comes when is the test's.
//!
//! The checks, after every start and for every reader: what was acknowledged or read is there, at its ordinal; what
//! was refused is not; the pointer never goes back; a start after a crash always succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use kafscale_journal::file::{FileJournal, Limits, StartError};
use kafscale_journal::{AppendError, Identity, Journal, OpenError, Pointer, ReadError, Record};
use kafscale_ports::Disk;
use kafscale_sim::disk::{Rule, SimDisk};
use kafscale_sim::rng::Rng;
use parking_lot::Mutex;

pub(crate) const DIR: &str = "/data/journal";

/// What the broker knows across its lives.
#[derive(Default)]
pub(crate) struct Model {
    known: BTreeMap<u64, Bytes>,
    attempted: BTreeSet<Bytes>,
    refused: BTreeSet<Bytes>,
    pointer: u64,
    pointers: BTreeSet<u64>,
    truncatable: u64,
    lives: u64,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It did all it had to do.
    Done,
    /// The journal failed for good, or a start met a failing disk.
    Dead,
    /// The disk froze under it.
    Frozen,
}

impl Model {
    /// Someone acts on this entry: it must stay.
    fn know(&mut self, record: &Record) -> Result<()> {
        let Record { position, entry, .. } = record;
        ensure!(!self.refused.contains(entry), "entry {} was refused, and is there", position.ordinal);
        ensure!(self.attempted.contains(entry), "entry {} was never appended", position.ordinal);
        let known = self.known.entry(position.ordinal).or_insert_with(|| entry.clone());
        ensure!(known == entry, "entry {} is not what it was", position.ordinal);
        Ok(())
    }

    fn last(&self) -> u64 {
        self.known.last_key_value().map_or(0, |(ordinal, _)| *ordinal)
    }
}

/// What a test does to a broker.
#[derive(Clone, Default)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    /// The first life's disk freezes at this operation.
    pub(crate) freeze_at: Option<u64>,
    /// Later lives freeze too.
    pub(crate) later_freezes: bool,
    /// In force in all lives.
    pub(crate) bugs: Vec<Rule>,
    /// In force in the second life only.
    pub(crate) second_life: Vec<Rule>,
    /// In force in the first two lives.
    pub(crate) faults: Vec<Rule>,
    /// The first life ends by a kill of the process, not by a loss of power.
    pub(crate) kill_first: bool,
}

/// Runs a case: four lives and what lies between them. Returns the operations of the first life.
pub(crate) fn run(case: &Case) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(lives(case))
}

async fn lives(case: &Case) -> Result<u64> {
    let mut rng = Rng::new(case.seed);
    let mut disk = SimDisk::new(rng.u64());
    for dir in ["/data", DIR] {
        disk.create_dir(Path::new(dir)).await?;
        disk.sync_dir(Path::new(dir).parent().context("a parent")?).await?;
    }
    disk.set_latency_us(1, 200);
    disk.set_write_back(8);
    let model = Arc::new(Mutex::new(Model::default()));
    let limits = Limits { file_bytes: [600, 20_000][usize::from(rng.one_in(3))], tail_bytes: 2000, read_bytes: 3000 };
    let mut ops = 0;
    for life in 1..=4 {
        disk.heal();
        case.bugs.iter().for_each(|bug| disk.add(bug.clone()));
        if life <= 2 {
            case.faults.iter().for_each(|fault| disk.add(fault.clone()));
        }
        if life == 2 {
            case.second_life.iter().for_each(|fault| disk.add(fault.clone()));
        }
        let before = disk.ops();
        match case.freeze_at {
            Some(at) if life == 1 => disk.crash_at(before + at),
            Some(_) if life <= 3 && case.later_freezes => disk.crash_at(before + rng.within(1..151)),
            Some(_) | None => {}
        }
        let end =
            one_life(&disk, &model, limits, rng.fork("life", life)).await.with_context(|| format!("life {life}"))?;
        ensure!(end != End::Dead || life <= 2, "life {life}: dead without a fault");
        if life == 1 {
            ops = disk.ops() - before;
        }
        // A process that found its journal dead is started again at once; the machine fails later, or not.
        let killed = (life == 1 && case.kill_first) || (end == End::Dead && rng.one_in(2));
        if killed {
            disk.kill()
        } else {
            disk.crash(&mut rng)
        }
        disk = disk.remount();
    }
    Ok(ops)
}

async fn one_life(disk: &SimDisk, model: &Arc<Mutex<Model>>, limits: Limits, rng: Rng) -> Result<End> {
    tokio::select! {
        biased;
        end = broker(disk, model, limits, rng) => end,
        () = disk.frozen() => Ok(End::Frozen),
    }
}

async fn broker(disk: &SimDisk, model: &Arc<Mutex<Model>>, limits: Limits, rng: Rng) -> Result<End> {
    let started = FileJournal::start_with(Arc::new(disk.clone()), PathBuf::from(DIR), 42, limits).await;
    let journal = match started {
        Ok(journal) => journal,
        Err(StartError::Io { .. }) => return Ok(End::Dead),
        Err(error) => return Err(error.into()),
    };
    let first = match check_start(&journal, model).await {
        Ok(first) => first,
        Err(error) if is_failed_read(&error) => return Ok(End::Dead),
        Err(error) => return Err(error),
    };
    let mut work = Work { journal: &journal, model, nonce: 0, n: 0, rng };
    tokio::select! {
        biased;
        end = work.run() => end,
        read = reader(&journal, model, first - 1) => match read {
            Ok(()) => bail!("a reader does not end"),
            Err(error) if is_failed_read(&error) => Ok(End::Dead),
            Err(error) => Err(error),
        },
    }
}

fn is_failed_read(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<ReadError>(), Some(ReadError::Failed(_)))
}

/// Holds what a start found against the model. Returns the first ordinal kept.
async fn check_start(journal: &FileJournal, model: &Arc<Mutex<Model>>) -> Result<u64> {
    let end = journal.end().await?.ordinal;
    let stored = journal.pointer().await?;
    let first = match journal_first(journal, end).await? {
        Some(first) => first,
        None => end + 1,
    };
    {
        let mut model = model.lock();
        ensure!(end >= model.last(), "entry {} was acknowledged, and the journal ends at {end}", model.last());
        ensure!(end <= model.last() + 1, "one append was in flight, and {} entries came", end - model.last());
        let ordinal = stored.as_ref().map_or(0, |pointer| pointer.ordinal);
        ensure!(ordinal >= model.pointer, "the pointer went back from {} to {ordinal}", model.pointer);
        ensure!(ordinal == 0 || model.pointers.contains(&ordinal), "pointer {ordinal} was never published");
        ensure!(first <= model.truncatable + 1, "entry {first} is the first, {} was kept", model.truncatable + 1);
        model.pointer = ordinal;
        model.lives += 1;
    }
    let mut after = first - 1;
    while after < end {
        for record in journal.read(after).await? {
            after += 1;
            ensure!(record.position.ordinal == after, "entry {} follows {}", record.position.ordinal, after - 1);
            model.lock().know(&record)?;
        }
    }
    Ok(first)
}

/// The first ordinal that can be read, if there is any entry.
async fn journal_first(journal: &FileJournal, end: u64) -> Result<Option<u64>> {
    if end == 0 {
        return Ok(None);
    }
    match journal.read(0).await {
        Ok(_) => Ok(Some(1)),
        Err(ReadError::Truncated { first }) => Ok(Some(first)),
        Err(error) => Err(error.into()),
    }
}

/// Whatever a reader sees must stay, and must come in order.
async fn reader(journal: &FileJournal, model: &Arc<Mutex<Model>>, mut after: u64) -> Result<()> {
    loop {
        match journal.read(after).await {
            Ok(records) => {
                for record in records {
                    after += 1;
                    ensure!(record.position.ordinal == after, "a reader met a gap at {after}");
                    model.lock().know(&record)?;
                }
            }
            Err(ReadError::Truncated { first }) => after = first - 1,
            Err(error) => return Err(error.into()),
        }
    }
}

struct Work<'a> {
    journal: &'a FileJournal,
    model: &'a Arc<Mutex<Model>>,
    nonce: u64,
    n: u64,
    rng: Rng,
}

/// What one attempt is.
#[derive(Clone)]
enum Step {
    Open,
    Append,
    Leave,
    Publish(Pointer),
}

impl Work<'_> {
    async fn run(&mut self) -> Result<End> {
        let id = self.model.lock().lives;
        self.nonce = id;
        let mut steps = vec![Step::Open];
        steps.resize(12, Step::Append);
        for (at, step) in steps.into_iter().enumerate() {
            if self.attempt(step).await? == End::Dead {
                return Ok(End::Dead);
            }
            if at % 5 == 4 && (self.publish().await? == End::Dead || self.truncate().await? == End::Dead) {
                return Ok(End::Dead);
            }
        }
        if self.rng.one_in(2) { self.attempt(Step::Leave).await } else { Ok(End::Done) }
    }

    async fn publish(&mut self) -> Result<End> {
        let end = self.model.lock().last();
        let back = self.rng.within(0..3);
        let ordinal = end.saturating_sub(back);
        let pointer = Pointer { ordinal, truncatable: ordinal.saturating_sub(2), value: self.bytes() };
        self.model.lock().pointers.insert(ordinal);
        self.attempt(Step::Publish(pointer)).await
    }

    async fn truncate(&mut self) -> Result<End> {
        let pointer = match self.journal.pointer().await {
            Ok(pointer) => pointer,
            Err(ReadError::Failed(_)) => return Ok(End::Dead),
            Err(error) => return Err(error.into()),
        };
        let truncatable = pointer.map_or(0, |pointer| pointer.truncatable);
        {
            let mut model = self.model.lock();
            model.truncatable = model.truncatable.max(truncatable);
        }
        match self.journal.truncate().await {
            Ok(()) => Ok(End::Done),
            Err(ReadError::Failed(_)) => Ok(End::Dead),
            Err(error) => Err(error.into()),
        }
    }

    /// Bytes that no other entry has: a few, or several pages.
    fn bytes(&mut self) -> Bytes {
        let len = if self.rng.one_in(5) { self.rng.within(4000..13_001) } else { self.rng.within(0..300) };
        let fill = u8::try_from(self.rng.within(0..255)).expect("a byte") + 1;
        let mut bytes = self.rng.u64().to_le_bytes().to_vec();
        bytes.resize(bytes.len() + usize::try_from(len).expect("few"), fill);
        bytes.into()
    }

    /// One step, until it is known what became of it.
    async fn attempt(&mut self, step: Step) -> Result<End> {
        let mut entry = self.bytes();
        self.model.lock().attempted.insert(entry.clone());
        loop {
            let error = match self.call(&step, entry.clone()).await {
                Ok(ordinal) => {
                    let mut model = self.model.lock();
                    ensure!(!model.refused.contains(&entry), "a refused entry was committed");
                    let known = model.known.entry(ordinal).or_insert_with(|| entry.clone());
                    ensure!(*known == entry, "two entries have ordinal {ordinal}");
                    if let Step::Publish(pointer) = &step {
                        model.pointer = model.pointer.max(pointer.ordinal);
                    }
                    self.n += 1;
                    return Ok(End::Done);
                }
                Err(error) => error,
            };
            match error {
                AppendError::Fenced => bail!("the only broker was fenced"),
                AppendError::Dead(_) => return Ok(End::Dead),
                AppendError::Unknown(_) => {}
                AppendError::Refused(_) => {
                    // Other bytes under the same number: the refused ones must never be seen.
                    self.model.lock().refused.insert(entry);
                    entry = self.bytes();
                    self.model.lock().attempted.insert(entry.clone());
                }
            }
        }
    }

    async fn call(&self, step: &Step, entry: Bytes) -> Result<u64, AppendError> {
        let (journal, nonce, n) = (self.journal, self.nonce, self.n);
        let position = match step {
            Step::Open => {
                let opened = journal.open(Identity { broker_id: 1, token: u128::from(nonce) }, nonce, entry).await;
                match opened {
                    Ok(position) => position,
                    // An opening that failed is not repeated but followed by one with a new nonce; here: a new life.
                    Err(OpenError::Failed(error)) => return Err(AppendError::Dead(error)),
                    Err(OpenError::InUse { .. }) => return Err(AppendError::Fenced),
                }
            }
            Step::Append => journal.append(nonce, n, entry).await?,
            Step::Leave => journal.leave(nonce, n, entry).await?,
            Step::Publish(pointer) => journal.publish(nonce, n, entry, pointer.clone()).await?,
        };
        Ok(position.ordinal)
    }
}
