//! The requests of one connection that are not answered yet: the reader puts them in, the writer takes them out, in
//! order. Bounded. Allocates nothing while the connection is idle.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::future::{BoxFuture, CatchUnwind};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Reply;
use crate::limits::MAX_UNANSWERED;

/// A request under way.
pub(super) struct Call {
    /// Its API key.
    pub(super) key: i16,
    /// When its last byte had arrived.
    pub(super) received: Instant,
    /// Its answer, or the panic that came instead.
    pub(super) reply: CatchUnwind<AssertUnwindSafe<BoxFuture<'static, Reply>>>,
}

impl Call {
    pub(super) fn new(key: i16, received: Instant, reply: BoxFuture<'static, Reply>) -> Self {
        // After a panic the future is never polled again and the connection ends: nothing broken is seen.
        Self { key, received, reply: AssertUnwindSafe(reply).catch_unwind() }
    }
}

/// The queue between a connection's reader and its writer.
pub(super) struct Pipeline {
    state: Mutex<State>,
    room: Notify,
    filled: Notify,
}

struct State {
    queue: VecDeque<Call>,
    /// In the queue, or taken by the writer and not written yet.
    unanswered: usize,
    /// When the last answer was written.
    last_answer: Instant,
    /// No further request will come.
    ended: bool,
}

impl Pipeline {
    pub(super) fn new(now: Instant) -> Self {
        let state = State { queue: VecDeque::new(), unanswered: 0, last_answer: now, ended: false };
        Self { state: Mutex::new(state), room: Notify::new(), filled: Notify::new() }
    }

    /// Returns when one more request may be read.
    pub(super) async fn room(&self) {
        while self.state.lock().unanswered >= MAX_UNANSWERED {
            self.room.notified().await;
        }
    }

    pub(super) fn push(&self, call: Call) {
        let mut state = self.state.lock();
        state.unanswered += 1;
        state.queue.push_back(call);
        drop(state);
        self.filled.notify_one();
    }

    /// The next request in order; none when there is none left and [`Pipeline::end`] was called.
    pub(super) async fn next(&self) -> Option<Call> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(call) = state.queue.pop_front() {
                    return Some(call);
                }
                if state.ended {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// The next request, if there is one by now.
    pub(super) fn try_next(&self) -> Option<Call> {
        self.state.lock().queue.pop_front()
    }

    /// Says that `count` requests that were taken are answered.
    pub(super) fn answered(&self, count: usize, now: Instant) {
        let mut state = self.state.lock();
        state.unanswered -= count;
        state.last_answer = now;
        if state.unanswered == 0 {
            state.queue = VecDeque::new(); // an idle connection keeps no memory of its busiest moment
        }
        drop(state);
        self.room.notify_one();
    }

    /// Says that no further request will come.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.filled.notify_one();
    }

    /// Since when nothing is owed to the peer; none while something is.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.unanswered == 0).then_some(state.last_answer)
    }
}
