//! The tasks of one simulated broker, behind a gate. Owns crash (all of them are dropped between two polls) and
//! pause (none is polled while the world goes on); needs tokio's current-thread runtime to be deterministic.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use kafscale_ports::Spawn;
use parking_lot::Mutex;

type Task = BoxFuture<'static, ()>;

/// What may happen to the tasks now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Paused,
    Crashed,
}

struct Slot {
    /// Absent while it is polled.
    task: Option<Task>,
    waker: Option<Waker>,
}

struct Inside {
    stage: Stage,
    next: u64,
    slots: BTreeMap<u64, Slot>,
}

/// Starts tasks that can be crashed and paused together.
#[derive(Clone)]
pub struct Gate {
    inside: Arc<Mutex<Inside>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// An open gate without tasks.
    pub fn new() -> Self {
        let inside = Inside { stage: Stage::Running, next: 0, slots: BTreeMap::new() };
        Self { inside: Arc::new(Mutex::new(inside)) }
    }

    /// Drops all tasks, in the order in which they were started, and every one that is started later. A task that
    /// calls this itself is dropped when its poll returns.
    pub fn crash(&self) {
        let slots = {
            let mut inside = self.inside.lock();
            inside.stage = Stage::Crashed;
            std::mem::take(&mut inside.slots)
        };
        for (_, slot) in slots {
            drop(slot.task);
            slot.waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Polls no task from now on. Time and the other brokers go on.
    pub fn pause(&self) {
        let mut inside = self.inside.lock();
        if inside.stage == Stage::Running {
            inside.stage = Stage::Paused;
        }
    }

    /// Ends a pause.
    pub fn resume(&self) {
        let wakers: Vec<Waker> = {
            let mut inside = self.inside.lock();
            if inside.stage != Stage::Paused {
                return;
            }
            inside.stage = Stage::Running;
            inside.slots.values_mut().filter_map(|slot| slot.waker.take()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.inside.lock().slots.len()
    }

    fn poll(&self, id: u64, cx: &mut Context<'_>) -> Poll<()> {
        let task = {
            let mut inside = self.inside.lock();
            let stage = inside.stage;
            let Some(slot) = inside.slots.get_mut(&id) else { return Poll::Ready(()) };
            slot.waker = Some(cx.waker().clone());
            if stage == Stage::Paused {
                return Poll::Pending;
            }
            slot.task.take()
        };
        let Some(mut task) = task else { return Poll::Ready(()) };
        let polled = task.as_mut().poll(cx);
        let mut inside = self.inside.lock();
        let Some(slot) = inside.slots.get_mut(&id) else {
            // Crashed during its own poll. Dropping it may call this gate, so not under the lock.
            drop(inside);
            drop(task);
            return Poll::Ready(());
        };
        match polled {
            Poll::Pending => slot.task = Some(task),
            Poll::Ready(()) => {
                inside.slots.remove(&id);
                drop(inside);
                drop(task);
            }
        }
        polled
    }
}

impl Spawn for Gate {
    #[expect(clippy::disallowed_methods, reason = "this is the simulator's spawn port")]
    fn spawn(&self, _name: &'static str, task: Task) {
        let id = {
            let mut inside = self.inside.lock();
            if inside.stage == Stage::Crashed {
                drop(inside);
                drop(task);
                return;
            }
            inside.next += 1;
            let id = inside.next;
            inside.slots.insert(id, Slot { task: Some(task), waker: None });
            id
        };
        let gate = self.clone();
        tokio::spawn(poll_fn(move |cx| gate.poll(id, cx)));
    }
}
