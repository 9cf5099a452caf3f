//! From groups to frames.

use super::COLUMN;
use super::write::Out;
use crate::command::{CommitOffsets, GroupMember, OffsetCommit, TopicPartition};
use crate::encode::columns::deltas;
use crate::encode::groups::{assignment_to, commit_to, member_to};
use crate::encode::proto::{self, frame::Kind};
use crate::state::{CommittedOffset, Gathered, Group, GroupStage, Member, State, Unfinished};

/// Members and assignments go on in another frame from here.
const FRAME_TARGET_BYTES: usize = 1024 * 1024;

pub(super) fn frames<S: FnMut(&[u8])>(out: &mut Out<'_, S>, state: &State) {
    for (id, group) in state.groups.iter() {
        out.frame(Kind::Group(group_to(id, group)));
        member_frames(out, &group.membership().members);
        let offsets: Vec<(TopicPartition, &CommittedOffset)> = group.offsets().collect();
        for some in offsets.chunks(COLUMN) {
            out.frame(Kind::GroupOffsets(offsets_to(some)));
        }
    }
    for (id, unfinished) in state.groups.unfinished() {
        out.frame(Kind::Unfinished(unfinished_to(id, unfinished)));
        match &unfinished.gathered {
            Gathered::Join(membership) => member_frames(out, &membership.members),
            Gathered::Sync(assignments) => {
                for some in by_bytes(assignments, |(id, bytes)| id.len() + bytes.len()) {
                    let assignments = some.iter().map(assignment_to).collect();
                    out.frame(Kind::GroupAssignments(proto::GroupAssignments { assignments }));
                }
            }
        }
    }
}

fn group_to(id: &str, group: &Group) -> proto::GroupState {
    let stage = match group.stage() {
        GroupStage::Empty => proto::Stage::Empty,
        GroupStage::Joined => proto::Stage::Joined,
        GroupStage::Assigned => proto::Stage::Assigned,
    };
    proto::GroupState {
        group: id.to_owned(),
        generation: group.generation(),
        stage: stage.into(),
        changed_ms: group.changed_ms(),
        protocol_type: group.protocol_type().to_owned(),
        protocol: group.protocol().to_owned(),
        leader: group.leader().to_owned(),
    }
}

fn member_frames<S: FnMut(&[u8])>(out: &mut Out<'_, S>, members: &[Member]) {
    let bytes = |m: &Member| m.subscription().len() + m.assignment().len() + m.client_id().len() + 128;
    for some in by_bytes(members, bytes) {
        let members = some.iter().map(member_state).collect();
        out.frame(Kind::GroupMembers(proto::GroupMembers { members }));
    }
}

fn member_state(member: &Member) -> proto::MemberState {
    let joined = GroupMember {
        id: member.id().clone(),
        instance: member.instance().map(str::to_owned),
        client_id: member.client_id().to_owned(),
        client_host: member.client_host().to_owned(),
        session_timeout_ms: member.session_timeout_ms(),
        rebalance_timeout_ms: member.rebalance_timeout_ms(),
        subscription: member.subscription().clone(),
    };
    proto::MemberState { member: Some(member_to(&joined)), assignment: member.assignment().to_vec() }
}

/// Cuts where what came since the last cut reaches [`FRAME_TARGET_BYTES`].
fn by_bytes<T>(all: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut cuts = vec![0];
    let mut sum = 0;
    for (place, one) in all.iter().enumerate() {
        sum += bytes(one);
        if sum >= FRAME_TARGET_BYTES {
            cuts.push(place + 1);
            sum = 0;
        }
    }
    cuts.push(all.len());
    cuts.windows(2).filter_map(|cut| all.get(cut[0]..cut[1])).filter(|some| !some.is_empty()).collect()
}

fn offsets_to(offsets: &[(TopicPartition, &CommittedOffset)]) -> proto::GroupOffsets {
    let one = |(partition, stored): &(TopicPartition, &CommittedOffset)| OffsetCommit {
        partition: *partition,
        offset: stored.offset,
        leader_epoch: stored.leader_epoch,
        metadata: stored.metadata.to_string(),
    };
    let commit = CommitOffsets {
        group: String::new(),
        generation: 0,
        member: String::new(),
        offsets: offsets.iter().map(one).collect(),
    };
    proto::GroupOffsets {
        offsets: Some(commit_to(&commit)),
        committed: deltas(offsets.iter().map(|(_, stored)| stored.committed_ms)),
    }
}

fn unfinished_to(id: &str, unfinished: &Unfinished) -> proto::UnfinishedState {
    let mut message = proto::UnfinishedState {
        group: id.to_owned(),
        nonce: unfinished.nonce,
        generation: unfinished.generation,
        next: unfinished.next,
        sync: true,
        ..Default::default()
    };
    if let Gathered::Join(membership) = &unfinished.gathered {
        message.sync = false;
        message.protocol_type = membership.protocol_type.to_string();
        message.protocol = membership.protocol.to_string();
        message.leader = membership.leader.to_string();
    }
    message
}
