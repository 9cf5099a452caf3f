//! The suite over the backends.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kafscale_journal::Journal;
use kafscale_journal::conformance::{Backend, run, run_sessions};
use kafscale_journal::file::{FileJournal, Limits};
use kafscale_journal::memory::MemoryJournal;
use kafscale_ports::disk::RealDisk;
use tempfile::TempDir;

struct Memory;

#[async_trait]
impl Backend for Memory {
    async fn fresh(&mut self) -> Arc<dyn Journal> {
        MemoryJournal::new()
    }

    async fn restart(&mut self, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        journal
    }

    fn is_for_one_broker(&self) -> bool {
        false
    }
}

struct Files {
    root: TempDir,
    made: u32,
    limits: Limits,
}

impl Files {
    fn dir(&self) -> PathBuf {
        self.root.path().join(self.made.to_string())
    }

    async fn start(&self) -> Arc<dyn Journal> {
        Arc::new(FileJournal::start_with(Arc::new(RealDisk), self.dir(), 42, self.limits).await.unwrap())
    }
}

#[async_trait]
impl Backend for Files {
    async fn fresh(&mut self) -> Arc<dyn Journal> {
        self.made += 1;
        std::fs::create_dir(self.dir()).unwrap();
        self.start().await
    }

    async fn restart(&mut self, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        drop(journal);
        self.start().await
    }

    fn is_for_one_broker(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn memory_conforms() {
    run(&mut Memory).await;
    run_sessions(async || MemoryJournal::default(), async |journal, victim| journal.expire_session(victim.nonce)).await;
}

#[tokio::test]
async fn files_conform() {
    for limits in [
        Limits::default(),
        Limits { file_bytes: 300, tail_bytes: 500, read_bytes: 200 },
        Limits { file_bytes: 1, tail_bytes: 0, read_bytes: 1 },
    ] {
        run(&mut Files { root: TempDir::new().unwrap(), made: 0, limits }).await;
    }
}
