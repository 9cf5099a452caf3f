//! A broker on a directory, clients that speak the wire protocol, and members of groups.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use kafscale_broker::config::{Machine, Settings};
use kafscale_broker::{Between, Broker, End, Outside};
use kafscale_ports::clock::SystemClock;
use kafscale_ports::disk::RealDisk;
use kafscale_ports::random::SystemRandom;
use kafscale_ports::{Env, Spawn};
use kafscale_wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use kafscale_wire::frame::{decode_response, encode_request};
use kafscale_wire::heartbeat::HeartbeatRequest;
use kafscale_wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use kafscale_wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafscale_wire::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use kafscale_wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use kafscale_wire::{ErrorCode, Request, Text};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::pipes::{Client, Dialer, pipes};

pub(crate) const TOPIC: &str = "records";
pub(crate) const GROUP: &str = "readers";

/// The tasks of one life of a broker, which can be ended between two polls.
#[derive(Default)]
struct Tasks(Mutex<Vec<AbortHandle>>);

impl Spawn for Tasks {
    #[expect(clippy::disallowed_methods, reason = "a test's own tasks")]
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        self.0.lock().push(tokio::spawn(task).abort_handle());
    }
}

/// One life of a broker.
pub(crate) struct Life {
    pub(crate) broker: Broker,
    pub(crate) net: Dialer,
    tasks: Arc<Tasks>,
}

impl Life {
    pub(crate) async fn start(directory: &Path) -> Self {
        struct Nothing;
        impl Between for Nothing {}
        Self::start_between(directory, &Nothing).await
    }

    pub(crate) async fn start_between(directory: &Path, between: &dyn Between) -> Self {
        Self::start_as(0, directory, between).await
    }

    /// The broker with this id, which advertises the port 7 + id.
    pub(crate) async fn start_as(id: i32, directory: &Path, between: &dyn Between) -> Self {
        let (broker_id, address) = (id.to_string(), format!("kafka.example:{}", 7 + id));
        let flags = [("data-dir", directory.to_str().unwrap()), ("advertise", &*address), ("broker-id", &*broker_id)];
        let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::parse(&flags, &[], Machine { memory_bytes: 1 << 30 }).unwrap();
        let tasks = Arc::new(Tasks::default());
        let env =
            Env { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), tasks: Arc::<Tasks>::clone(&tasks) };
        let (listener, net) = pipes();
        let outside =
            Outside { env, disk: Arc::new(RealDisk), kafka: vec![listener], connect: None, http: None, logs: None };
        Self { broker: Broker::start_between(settings, outside, between).await.unwrap(), net, tasks }
    }

    /// As SIGTERM does.
    pub(crate) async fn stop(self) {
        assert_eq!(self.broker.stop().await, End::Stopped);
    }

    /// As SIGKILL does.
    pub(crate) async fn kill(self) {
        self.tasks.0.lock().iter().for_each(AbortHandle::abort);
        drop(self.broker);
        // The runtime drops what was aborted, and with it the lock of the directory.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn client(&self) -> Caller {
        self.named("test")
    }

    pub(crate) fn named(&self, id: &str) -> Caller {
        Caller { pipe: self.net.connect(1 << 16), correlation: 0, id: id.to_owned() }
    }

    pub(crate) async fn create_topic(&self, partitions: i32) {
        let topic = CreatableTopic {
            name: Text::from(TOPIC),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
        assert_eq!(self.client().call(5, request).await.topics[0].error_code, 0);
    }
}

/// A connection.
pub(crate) struct Caller {
    pub(crate) pipe: Client,
    correlation: i32,
    id: String,
}

impl Caller {
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        self.send(version, &request).await;
        self.receive::<R>(version).await
    }

    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation += 1;
        let slices = encode_request(self.correlation, Some(&self.id), version, request);
        self.pipe.send(&slices.concat()).await;
    }

    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let frame = Bytes::from(self.pipe.answer().await);
        let (correlation, response) = decode_response(frame, version, 1 << 24).unwrap();
        assert_eq!(correlation, self.correlation);
        response
    }
}

/// A consumer in the group, as clients since Kafka 2.4 are. Its subscription is its name.
pub(crate) struct Member {
    pub(crate) caller: Caller,
    pub(crate) id: String,
    pub(crate) generation: i32,
    name: &'static str,
}

impl Member {
    pub(crate) fn new(life: &Life, name: &'static str) -> Self {
        let caller = life.named(name);
        Self { caller, id: String::new(), generation: -1, name }
    }

    /// As [`Member::new`], with what is known from an earlier life.
    pub(crate) fn again(life: &Life, before: &Self) -> Self {
        let (id, generation) = (before.id.clone(), before.generation);
        Self { id, generation, ..Self::new(life, before.name) }
    }

    pub(crate) fn wants_to_join(&self) -> JoinGroupRequest {
        let range =
            JoinGroupRequestProtocol { name: Text::from("range"), metadata: Bytes::from_static(self.name.as_bytes()) };
        JoinGroupRequest {
            group_id: Text::from(GROUP),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 1_500_000,
            member_id: Text::from(&*self.id),
            protocol_type: Text::from("consumer"),
            protocols: vec![range],
            ..Default::default()
        }
    }

    /// Sends a JoinGroup that will be parked, with a member id.
    pub(crate) async fn ask_to_join(&mut self) {
        if self.id.is_empty() {
            let answer = self.caller.call(9, self.wants_to_join()).await;
            assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.code());
            assert!(answer.member_id.starts_with(self.name) && answer.member_id.len() == self.name.len() + 37);
            self.id = String::from(&*answer.member_id);
        }
        let request = self.wants_to_join();
        self.caller.send(9, &request).await;
    }

    pub(crate) async fn joined(&mut self) -> JoinGroupResponse {
        let answer = self.caller.receive::<JoinGroupRequest>(9).await;
        if answer.error_code == 0 {
            assert_eq!(&*answer.member_id, self.id);
            self.generation = answer.generation_id;
        }
        answer
    }

    pub(crate) async fn join(&mut self) -> JoinGroupResponse {
        self.ask_to_join().await;
        self.joined().await
    }

    pub(crate) fn wants_to_sync(&self, assignments: &[(&str, &'static str)]) -> SyncGroupRequest {
        let assignment = |(member, given): &(&str, &'static str)| SyncGroupRequestAssignment {
            member_id: Text::from(*member),
            assignment: Bytes::from_static(given.as_bytes()),
        };
        SyncGroupRequest {
            group_id: Text::from(GROUP),
            generation_id: self.generation,
            member_id: Text::from(&*self.id),
            protocol_type: Some(Text::from("consumer")),
            protocol_name: Some(Text::from("range")),
            assignments: assignments.iter().map(assignment).collect(),
            ..Default::default()
        }
    }

    pub(crate) async fn sync(&mut self, assignments: &[(&str, &'static str)]) -> SyncGroupResponse {
        let request = self.wants_to_sync(assignments);
        self.caller.call(5, request).await
    }

    pub(crate) async fn heartbeat(&mut self) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: Text::from(GROUP),
            generation_id: self.generation,
            member_id: Text::from(&*self.id),
            ..Default::default()
        };
        self.caller.call(4, request).await.error_code.into()
    }

    pub(crate) async fn commit(&mut self, offset: i64) -> ErrorCode {
        let mut request = commit(0, offset);
        request.generation_id_or_member_epoch = self.generation;
        request.member_id = Text::from(&*self.id);
        self.caller.call(9, request).await.topics[0].partitions[0].error_code.into()
    }
}

/// An offset of a client that is no member.
pub(crate) fn commit(partition_index: i32, committed_offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition { partition_index, committed_offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: Text::from(TOPIC), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest { group_id: Text::from(GROUP), topics: vec![topic], ..Default::default() }
}

/// What the group has committed of partition 0.
pub(crate) async fn committed(life: &Life) -> i64 {
    let topic = OffsetFetchRequestTopic { name: Text::from(TOPIC), partition_indexes: vec![0] };
    let request = OffsetFetchRequest { group_id: Text::from(GROUP), topics: Some(vec![topic]), ..Default::default() };
    let answer = life.client().call(5, request).await;
    assert_eq!(answer.error_code, 0);
    answer.topics[0].partitions[0].committed_offset
}

/// Two members in a first generation, each with an assignment.
pub(crate) async fn pair(life: &Life) -> (Member, Member) {
    let (mut a, mut b) = (Member::new(life, "a"), Member::new(life, "b"));
    a.ask_to_join().await;
    b.ask_to_join().await;
    let (of_a, of_b) = (a.joined().await, b.joined().await);
    assert_eq!((of_a.generation_id, of_b.generation_id), (1, 1));
    let leads = |answer: &JoinGroupResponse| answer.leader == answer.member_id;
    assert!(leads(&of_a) != leads(&of_b));
    let (leader, other) = if leads(&of_a) { (&mut a, &mut b) } else { (&mut b, &mut a) };
    let plan = [(leader.id.clone(), "first"), (other.id.clone(), "second")];
    let plan = plan.each_ref().map(|(id, given)| (id.as_str(), *given));
    assert_eq!(leader.sync(&plan).await.assignment, "first");
    assert_eq!(other.sync(&[]).await.assignment, "second");
    if leads(&of_a) { (a, b) } else { (b, a) }
}
