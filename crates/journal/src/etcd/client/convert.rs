//! Between the port's values and etcd's messages. Owns nothing but the translation; etcd's numbers are signed and never
//! negative.

use super::super::kv::{
    Compare, Event, Failure, Found, Get, Is, KeyValue, Keys, Lease, LeaseId, Op, OpResult, Revision, Target, Txn,
    TxnReply,
};
use super::proto::compare::{Operand, Result as CompareResult, Target as CompareTarget};
use super::proto::request_op::Request;
use super::proto::response_op::Response;
use super::proto::{self, event};
use super::status::nonsense;

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn revision_of(header: Option<&proto::ResponseHeader>) -> Revision {
    header.map_or(0, |header| unsigned(header.revision))
}

pub(super) fn lease_of(id: LeaseId, ttl: i64) -> Lease {
    Lease { id, ttl_s: unsigned(ttl) }
}

/// First key and end; an empty end means one key.
pub(super) fn bounds(keys: Keys) -> (bytes::Bytes, bytes::Bytes) {
    match keys {
        Keys::One(key) => (key, bytes::Bytes::new()),
        Keys::Between(first, end) => (first, end),
    }
}

pub(super) fn range_request(get: Get) -> proto::RangeRequest {
    let (key, range_end) = bounds(get.keys);
    let (limit, keys_only) = (signed(get.limit), get.keys_only);
    proto::RangeRequest { key, range_end, limit, revision: 0, serializable: false, keys_only }
}

pub(super) fn compared_txn(txn: Txn) -> proto::TxnRequest {
    proto::TxnRequest {
        compare: txn.when.into_iter().map(compare).collect(),
        success: txn.then.into_iter().map(operation).collect(),
        failure: txn.otherwise.into_iter().map(operation).collect(),
    }
}

fn compare(compare: Compare) -> proto::Compare {
    let (key, range_end) = bounds(compare.keys);
    let result = match compare.is {
        Is::Equal => CompareResult::Equal,
        Is::NotEqual => CompareResult::NotEqual,
        Is::Less => CompareResult::Less,
        Is::Greater => CompareResult::Greater,
    };
    let (target, operand) = match compare.target {
        Target::Mod(revision) => (CompareTarget::Mod, Operand::ModRevision(signed(revision))),
        Target::Create(revision) => (CompareTarget::Create, Operand::CreateRevision(signed(revision))),
        Target::Version(version) => (CompareTarget::Version, Operand::Version(signed(version))),
        Target::Value(value) => (CompareTarget::Value, Operand::Value(value)),
    };
    proto::Compare { result: result.into(), target: target.into(), key, range_end, operand: Some(operand) }
}

fn operation(op: Op) -> proto::RequestOp {
    let request = match op {
        Op::Put { key, value, lease } => Request::Put(proto::PutRequest { key, value, lease }),
        Op::Delete(keys) => {
            let (key, range_end) = bounds(keys);
            Request::DeleteRange(proto::DeleteRangeRequest { key, range_end })
        }
        Op::Get(get) => Request::Range(range_request(get)),
    };
    proto::RequestOp { request: Some(request) }
}

pub(super) fn txn_reply(answer: proto::TxnResponse) -> Result<TxnReply, Failure> {
    let revision = revision_of(answer.header.as_ref());
    let results = answer.responses.into_iter().map(result).collect::<Result<_, _>>()?;
    Ok(TxnReply { revision, succeeded: answer.succeeded, results })
}

fn result(response: proto::ResponseOp) -> Result<OpResult, Failure> {
    match response.response {
        Some(Response::Put(_)) => Ok(OpResult::Put),
        Some(Response::DeleteRange(deleted)) => Ok(OpResult::Deleted(unsigned(deleted.deleted))),
        Some(Response::Range(range)) => Ok(OpResult::Got(found(range))),
        None => Err(nonsense("a transaction's answer lacks a result")),
    }
}

pub(super) fn found(answer: proto::RangeResponse) -> Found {
    let kvs = answer.kvs.into_iter().map(key_value).collect();
    Found { kvs, more: answer.more, count: unsigned(answer.count) }
}

fn key_value(kv: proto::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: unsigned(kv.create_revision),
        mod_revision: unsigned(kv.mod_revision),
        version: unsigned(kv.version),
        lease: kv.lease,
    }
}

pub(super) fn event(event: proto::Event) -> Result<Event, Failure> {
    let deleted = event.r#type() == event::Type::Delete;
    let kv = event.kv.ok_or_else(|| nonsense("a watch told of a change without its key"))?;
    Ok(Event { kv: key_value(kv), deleted })
}
