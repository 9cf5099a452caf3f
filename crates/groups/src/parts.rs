//! Cuts what a generation says into commands that each fit a journal entry.

use bytes::Bytes;
use kafscale_metadata::{
    Command, CommitOffsets, CompleteJoin, CompleteSync, GroupMember, MemberId, OffsetCommit, Part,
};

use crate::settings::PART_BYTES;

/// What an item takes besides its strings and bytes, at most.
const ITEM_BYTES: usize = 64;

/// The commands that begin a generation. `whole` has all members; the part it names does not matter.
pub(crate) fn join(whole: CompleteJoin) -> Vec<Command> {
    let cost = |m: &GroupMember| {
        let instance = m.instance.as_ref().map_or(0, String::len);
        m.id.len() + instance + m.client_id.len() + m.client_host.len() + m.subscription.len()
    };
    let (head, members) = (CompleteJoin { members: Vec::new(), ..whole.clone() }, whole.members);
    let parts = numbered(cut(members, cost));
    parts.map(|(part, members)| Command::CompleteJoin(CompleteJoin { members, part, ..head.clone() })).collect()
}

/// The commands that hand out an assignment.
pub(crate) fn sync(group: &str, generation: i32, assignments: Vec<(MemberId, Bytes)>) -> Vec<Command> {
    let parts = numbered(cut(assignments, |(id, assignment)| id.len() + assignment.len()));
    let command = |(part, assignments)| {
        Command::CompleteSync(CompleteSync { group: group.to_owned(), generation, assignments, part })
    };
    parts.map(command).collect()
}

/// The commands of one commit, each with the places of its offsets in the request.
pub(crate) fn commit(head: &CommitOffsets, offsets: Vec<(usize, OffsetCommit)>) -> (Vec<Command>, Vec<Vec<usize>>) {
    let chunks = cut(offsets, |(_, offset)| offset.metadata.len());
    let places = chunks.iter().map(|chunk| chunk.iter().map(|(place, _)| *place).collect()).collect();
    let command = |chunk: Vec<(usize, OffsetCommit)>| {
        let offsets = chunk.into_iter().map(|(_, offset)| offset).collect();
        Command::CommitOffsets(CommitOffsets { offsets, ..head.clone() })
    };
    (chunks.into_iter().map(command).collect(), places)
}

fn numbered<T>(chunks: Vec<Vec<T>>) -> impl Iterator<Item = (Part, Vec<T>)> {
    let last = chunks.len() - 1;
    (0..).zip(chunks).map(move |(index, chunk)| (Part { index, last: index as usize == last }, chunk))
}

/// At least one chunk; none above the bound, unless it is a single item.
fn cut<T>(items: Vec<T>, cost: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut chunks, mut bytes) = (vec![Vec::new()], 0);
    for item in items {
        let more = cost(&item) + ITEM_BYTES;
        let chunk = chunks.last_mut().expect("there is always a chunk");
        if chunk.is_empty() || bytes + more <= PART_BYTES {
            bytes += more;
            chunk.push(item);
        } else {
            bytes = more;
            chunks.push(vec![item]);
        }
    }
    chunks
}
