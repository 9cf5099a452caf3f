//! A client's connection to a group's coordinator: found, opened again when it is lost, requests in order, each written
//! into the history with what became of it.

use std::collections::VecDeque;
use std::sync::Arc;

use kafscale_wire::find_coordinator::FindCoordinatorRequest;
use kafscale_wire::{ErrorCode, Request, Response};
use tokio::time::{Duration, timeout};

use crate::clients::Shared;
use crate::clients::link::{Answer, Link, Lost};
use crate::clients::lookup::PATIENCE;
use crate::history::groups::{Asked, Reply, Told, What, Who};

/// How long a client waits before it looks for the coordinator again.
const RETRY_MS: u64 = 100;
/// How long a client waits for an answer; for that of a join, until all have joined, and then so long.
const PATIENCE_MS: u64 = 10_000;

struct Pending {
    index: usize,
    kind: &'static str,
    deadline_ms: u64,
}

/// An answer, and which request of the history it answers.
#[derive(Debug)]
pub struct Answered {
    /// In the history.
    pub index: usize,
    /// What was asked, by name.
    pub kind: &'static str,
    answer: Answer,
}

/// See the module's documentation.
pub struct Desk {
    shared: Arc<Shared>,
    client: String,
    group: String,
    find_version: i16,
    link: Option<Link>,
    number: u64,
    pending: VecDeque<Pending>,
    /// Not before this time.
    retry_ms: u64,
}

impl Desk {
    /// Not connected yet.
    pub fn new(shared: &Arc<Shared>, client: &str, group: &str, find_version: i16) -> Self {
        let (shared, client, group) = (Arc::clone(shared), client.to_owned(), group.to_owned());
        Self { shared, client, group, find_version, link: None, number: 0, pending: VecDeque::new(), retry_ms: 0 }
    }

    /// Whether it is connected.
    pub fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// Connects to the coordinator, if it is time to.
    pub async fn open(&mut self) {
        if self.link.is_some() || self.shared.clock.ms() < self.retry_ms {
            return;
        }
        match find(&self.shared, &self.client, &self.group, self.find_version).await {
            Ok(link) => {
                self.number = self.shared.history.lock().groups.link();
                self.link = Some(link);
            }
            Err(Lost) => self.retry_ms = self.shared.clock.ms() + RETRY_MS,
        }
    }

    /// Sends a request; its index in the history, if it may have arrived.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R, who: &Who, what: What) -> Option<usize> {
        let link = self.link.as_mut()?;
        let asked_ms = self.shared.clock.ms();
        // A join is answered when all have joined.
        let rebalance_ms = if let What::Join { rebalance_timeout_ms, .. } = what { rebalance_timeout_ms } else { 0 };
        let patience_ms = u64::try_from(rebalance_ms).unwrap_or(0) + PATIENCE_MS;
        let kind = what.name();
        let index = self.shared.history.lock().groups.ask(Asked {
            client: self.client.clone(),
            link: self.number,
            group: self.group.clone(),
            who: who.clone(),
            what,
            asked_ms,
            reply: Reply::Open,
        });
        self.pending.push_back(Pending { index, kind, deadline_ms: asked_ms + patience_ms });
        if link.send(version, request).await.is_err() {
            self.close();
        }
        Some(index)
    }

    /// Whether a request of this kind waits for its answer.
    pub fn waits_for(&self, kind: &'static str) -> bool {
        self.pending.iter().any(|pending| pending.kind == kind)
    }

    /// When it gives up, or tries again.
    pub fn due_ms(&self) -> Option<u64> {
        match &self.link {
            Some(_) => self.pending.iter().map(|pending| pending.deadline_ms).min(),
            None => Some(self.retry_ms),
        }
    }

    /// Whether some answer is overdue.
    pub fn is_overdue(&self) -> bool {
        let now_ms = self.shared.clock.ms();
        self.pending.iter().any(|pending| pending.deadline_ms <= now_ms)
    }

    /// The next answer; never, if it is not connected. Cancel-safe.
    pub async fn answer(&mut self) -> Result<Answered, Lost> {
        let Some(link) = &mut self.link else { return std::future::pending().await };
        let answer = link.answer().await?;
        let pending = self.pending.pop_front().ok_or(Lost)?;
        Ok(Answered { index: pending.index, kind: pending.kind, answer })
    }

    /// Reads an answer and writes into the history what it says; `None` if nobody can read it.
    pub fn tell<R: Response>(&mut self, answered: Answered, said: impl FnOnce(&R) -> Option<Told>) -> Option<Told> {
        let Answered { index, answer, .. } = answered;
        let response = self.link.as_ref()?.decode::<R>(answer).ok();
        let told = response.as_ref().and_then(said);
        let now_ms = self.shared.clock.ms();
        let mut history = self.shared.history.lock();
        let Some(told) = told else {
            let what = anyhow::anyhow!("{}: {} does not answer all that was asked", self.client, R::NAME);
            history.odd("answers", &what);
            history.groups.lose(index, now_ms);
            return None;
        };
        match &told {
            Told::Code(code) => history.answered(R::KEY, *code),
            Told::Each(codes) => codes.iter().for_each(|code| history.answered(R::KEY, *code)),
            Told::Named(_) => history.answered(R::KEY, ErrorCode::MemberIdRequired.code()),
            Told::Joined { .. } | Told::Synced(_) | Told::Offsets(_) => history.answered(R::KEY, 0),
        }
        history.groups.tell(index, told.clone(), now_ms);
        Some(told)
    }

    /// Asks one thing, alone, and waits for what is said.
    pub async fn ask<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        (who, what): (&Who, What),
        said: impl FnOnce(&R::Response) -> Option<Told>,
    ) -> Option<Told> {
        self.open().await;
        self.send(version, request, who, what).await?;
        let answered = timeout(Duration::from_millis(PATIENCE_MS), self.answer()).await;
        let Ok(Ok(answered)) = answered else {
            self.close();
            return None;
        };
        self.tell(answered, said)
    }

    /// Gives the connection up; whatever was asked may have happened.
    pub fn close(&mut self) {
        self.link = None;
        let now_ms = self.shared.clock.ms();
        self.retry_ms = now_ms + RETRY_MS;
        let mut history = self.shared.history.lock();
        self.pending.drain(..).for_each(|pending| history.groups.lose(pending.index, now_ms));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.close();
    }
}

async fn find(shared: &Arc<Shared>, client: &str, group: &str, version: i16) -> Result<Link, Lost> {
    let mut link = Link::connect(shared, client).await?;
    let mut request = FindCoordinatorRequest::default();
    if version >= 4 {
        request.coordinator_keys = vec![group.into()];
    } else {
        request.key = group.into();
    }
    let response = link.call(version, &request, PATIENCE).await?;
    let listed = response.coordinators.first().map(|coordinator| coordinator.error_code);
    let code = if version >= 4 { listed.ok_or(Lost)? } else { response.error_code };
    shared.history.lock().answered(FindCoordinatorRequest::KEY, code);
    if code == 0 { Ok(link) } else { Err(Lost) }
}
