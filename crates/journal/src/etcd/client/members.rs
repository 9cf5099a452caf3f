//! Single members: their sizes, their defragmentation, and the alarm at the quota. Each endpoint that was given is taken
//! for a member.

use async_trait::async_trait;
use futures::future::join_all;

use super::super::kv::{Failure, Refusal};
use super::super::quota::{Member, Members, Sizes};
use super::proto::alarm_request::{Action, Alarm};
use super::{Etcd, convert, proto};

impl Etcd {
    async fn sizes(&self, index: usize) -> Result<Sizes, Failure> {
        let path = "/etcdserverpb.Maintenance/Status";
        let status: proto::StatusResponse = self.unary_at(Some(index), path, proto::StatusRequest {}).await?;
        let member = status.header.map_or(0, |header| header.member_id);
        Ok(Sizes {
            is_leader: status.leader == member,
            physical: convert::unsigned(status.db_size),
            in_use: convert::unsigned(status.db_size_in_use),
            quota: convert::unsigned(status.db_size_quota),
            alarm: status.errors.iter().any(|error| error.contains("NOSPACE")),
        })
    }

    async fn alarm(&self, action: Action, member_id: u64) -> Result<Vec<u64>, Failure> {
        let request = proto::AlarmRequest { action: action.into(), member_id, alarm: Alarm::Nospace.into() };
        let answer: proto::AlarmResponse = self.unary("/etcdserverpb.Maintenance/Alarm", request).await?;
        let of_space = answer.alarms.into_iter().filter(|alarm| alarm.alarm() == Alarm::Nospace);
        Ok(of_space.map(|alarm| alarm.member_id).collect())
    }
}

#[async_trait]
impl Members for Etcd {
    async fn members(&self) -> Vec<Member> {
        let names = self.endpoints.names();
        let sizes = join_all((0..names.len()).map(|index| self.sizes(index))).await;
        names.into_iter().zip(sizes).map(|(name, sizes)| Member { name, sizes: sizes.ok() }).collect()
    }

    async fn defragment(&self, name: &str) -> Result<(), Failure> {
        let Some(index) = self.endpoints.names().iter().position(|known| known == name) else {
            return Err(Failure::Refused(Refusal::Invalid(format!("{name} is not one of the endpoints"))));
        };
        let path = "/etcdserverpb.Maintenance/Defragment";
        let _done: proto::DefragmentResponse = self.unary_at(Some(index), path, proto::DefragmentRequest {}).await?;
        Ok(())
    }

    async fn disarm(&self) -> Result<(), Failure> {
        for member in self.alarm(Action::Get, 0).await? {
            self.alarm(Action::Deactivate, member).await?;
        }
        Ok(())
    }
}
