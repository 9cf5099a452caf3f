//! The last look at the disk: every object that the journal names, read whole, and every kept snapshot. Gives the
//! truth that the checks compare with, and judges `objects` and `same-state`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafscale_log::segment;
use kafscale_log::store::ObjectName;
use kafscale_metadata::{ObjectId, SnapshotRef, State, snapshot};
use kafscale_ports::Disk;
use kafscale_ports::disk::OpenMode;

use super::{DATA_DIR, World};
use crate::checks::Truth;
use crate::chronicle::Placed;
use crate::clients::batch::decode;

impl World<'_> {
    /// Reads all that the journal refers to.
    pub(super) async fn truth(&mut self) -> Truth {
        let state = self.chronicle.state();
        let living = state.topics().map(|topic| (topic.id(), topic.partition_count())).collect();
        let mut truth = Truth {
            names: self.chronicle.names(),
            living,
            logs: BTreeMap::new(),
            groups: self.chronicle.timeline(),
            offsets_retention_ms: self.scenario.broker.offsets_retention_ms,
        };
        let mut objects: BTreeMap<ObjectId, Option<Bytes>> = BTreeMap::new();
        for placed in self.chronicle.placed() {
            if let Entry::Vacant(vacant) = objects.entry(placed.object) {
                let bytes = self.bundle(placed.object).await;
                if let Err(why) = &bytes {
                    self.break_rule("objects", format!("{:?}: {why:#}", placed.object));
                }
                vacant.insert(bytes.ok());
            }
            let Some(bytes) = objects.get(&placed.object).into_iter().flatten().next() else { continue };
            match batch(bytes, &placed) {
                Ok(ids) => {
                    let partition = (placed.partition.topic, placed.partition.partition);
                    truth.logs.entry(partition).or_default().insert(placed.first_offset, ids);
                }
                Err(why) => self.break_rule("objects", format!("{placed:?}: {why:#}")),
            }
        }
        self.judge_snapshots(&state).await;
        truth
    }

    async fn bundle(&self, object: ObjectId) -> Result<Bytes> {
        let bytes = self.object(|cluster| ObjectName::bundle(cluster, object)).await?;
        let reader = segment::open(&bytes)?;
        ensure!(reader.header.object == object, "it says that it is {:?}", reader.header.object);
        Ok(bytes)
    }

    async fn object(&self, name: impl FnOnce(u128) -> ObjectName) -> Result<Bytes> {
        let objects = Path::new(DATA_DIR).join("objects");
        let clusters = self.disk.mount.read_dir(&objects).await?;
        let cluster = clusters.first().and_then(|path| path.file_name()).context("no object was ever stored")?;
        let cluster = u128::from_str_radix(&cluster.to_string_lossy(), 16)?;
        read(&self.disk.mount, objects.join(name(cluster).to_string())).await
    }

    /// Each kept snapshot and what follows it give the state that the whole journal gives.
    async fn judge_snapshots(&mut self, state: &State) {
        for snapshot in [state.snapshot(), state.previous_snapshot()].into_iter().flatten() {
            self.record.coverage.add("snapshots folded to the end", 1);
            if let Err(why) = self.judge_snapshot(state, snapshot).await {
                self.break_rule("same-state", format!("{snapshot:?}: {why:#}"));
            }
        }
    }

    async fn judge_snapshot(&self, state: &State, kept: SnapshotRef) -> Result<()> {
        let directory = Path::new(DATA_DIR).join("objects");
        let incarnation = self.incarnation(&directory).await?;
        let name = |cluster| ObjectName::snapshot(cluster, incarnation, kept.ordinal, kept.object);
        let stored = snapshot::decode(&self.object(name).await?)?;
        ensure!(stored.ordinal() == kept.ordinal, "it is the state after entry {}", stored.ordinal());
        let folded = self.chronicle.catch_up(stored).map_err(anyhow::Error::msg)?;
        ensure!(folded.hash() == state.hash(), "folded to the end it has another hash than the whole journal");
        ensure!(folded == *state, "folded to the end it differs from the whole journal");
        Ok(())
    }

    /// The journal's life, as the snapshots' directory is named.
    async fn incarnation(&self, objects: &Path) -> Result<u128> {
        let cluster =
            self.disk.mount.read_dir(objects).await?.into_iter().next().context("no object was ever stored")?;
        let lives = self.disk.mount.read_dir(&cluster.join("snapshot")).await?;
        let name = lives.first().and_then(|path| path.file_name()).context("no snapshot was ever stored")?;
        Ok(u128::from_str_radix(&name.to_string_lossy(), 16)?)
    }
}

async fn read(disk: &dyn Disk, path: PathBuf) -> Result<Bytes> {
    let file = disk.open(&path, OpenMode::Existing).await.with_context(|| format!("{}", path.display()))?;
    let size = file.size().await?;
    Ok(file.read_at(0, usize::try_from(size)?).await?)
}

fn batch(object: &Bytes, placed: &Placed) -> Result<Vec<u64>> {
    let (start, bytes) = (placed.position as usize, placed.bytes as usize);
    ensure!(start + bytes <= object.len(), "the object has {} bytes", object.len());
    let batch = decode(object.slice(start..start + bytes))?;
    ensure!(batch.ids.len() == placed.records as usize, "it has {} records", batch.ids.len());
    Ok(batch.ids)
}
