//! The admin client: one operation a request, each awaited. Groups are listed and described by librdkafka's older call;
//! this binding has none for the offsets of groups.

use anyhow::{Context, Result, bail};
use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::groups::GroupMemberInfo;
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::host::Driven;
use crate::record_file::{self, Entry};

pub(crate) struct Admin(AdminClient<DefaultClientContext>);

impl Admin {
    pub(crate) fn new(config: &ClientConfig) -> Result<Admin> {
        Ok(Admin(config.create()?))
    }

    fn groups(&self, name: Option<&str>) -> Result<rdkafka::groups::GroupList> {
        Ok(self.0.inner().fetch_group_list(name, PATIENCE)?)
    }
}

impl Driven for Admin {
    fn carry_out(&mut self, operation: &str, request: &Value, _records: &mut Vec<Entry>) -> Result<Value> {
        let name = request["name"].as_str().unwrap_or_default();
        let count = request["partitions"].as_i64().unwrap_or_default();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        match operation {
            "create_topic" => {
                let topic = NewTopic::new(name, count as i32, TopicReplication::Fixed(1));
                only(block_on(self.0.create_topics([&topic], &options)))
            }
            "add_partitions" => {
                let more = NewPartitions::new(name, count as usize);
                only(block_on(self.0.create_partitions([&more], &options)))
            }
            "delete_topic" => only(block_on(self.0.delete_topics(&[name], &options))),
            "delete_group" => only(block_on(self.0.delete_groups(&[name], &options))),
            "list_groups" => {
                Ok(self.groups(None)?.groups().iter().map(|group| json!(group.name())).collect::<Vec<_>>().into())
            }
            "describe_group" => {
                let list = self.groups(Some(name))?;
                let group = list.groups().first().context("the group is not there")?;
                let members = group.members().iter().map(|m| Ok(json!([m.id(), "", owned(m)?])));
                Ok(json!({ "state": group.state(), "members": members.collect::<Result<Vec<_>>>()? }))
            }
            _ => bail!("the admin client cannot {operation}"),
        }
    }
}

/// The outcome for the only thing that was asked for.
fn only(answer: KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>) -> Result<Value> {
    match answer?.pop().context("an answer about nothing")? {
        Ok(_) => Ok(Value::Null),
        Err((_, code)) => Err(KafkaError::AdminOp(code).into()),
    }
}

/// The partitions of a member, `[topic, partition]`, from the assignment as the consumer protocol has it: a version, then
/// topics with their partitions.
fn owned(member: &GroupMemberInfo) -> Result<Vec<Value>> {
    let Some(mut left) = member.assignment().filter(|bytes| !bytes.is_empty()) else { return Ok(Vec::new()) };
    parse(&mut left).context("an assignment that ends early")
}

fn parse(left: &mut &[u8]) -> Option<Vec<Value>> {
    let mut partitions = Vec::new();
    record_file::take(left, 2)?;
    for _ in 0..record_file::number(left)? {
        let size = record_file::take(left, 2)?;
        let size = usize::from(u16::from_be_bytes([size[0], size[1]]));
        let topic = String::from_utf8(record_file::take(left, size)?.to_vec()).ok()?;
        for _ in 0..record_file::number(left)? {
            partitions.push(json!([topic, record_file::number(left)?]));
        }
    }
    Some(partitions)
}
