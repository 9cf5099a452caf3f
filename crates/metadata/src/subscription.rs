//! Which topics a member of protocol type "consumer" subscribes to: the only look that anyone takes into a member's
//! bytes, and only to keep or forget offsets by it. All versions of the consumer protocol's subscription begin alike:
//!
//! ```text
//! version INT16 | topics ARRAY(INT32) of STRING(INT16) | user data and more, by version
//! ```

/// The topics of a subscription, as they stand there; none if the bytes are not one.
#[must_use]
pub fn subscribed_topics(subscription: &[u8]) -> Option<Vec<&str>> {
    let (version, rest) = subscription.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    // Each topic takes two bytes at least: a count that lies allocates nothing.
    if i16::from_be_bytes(*version) < 0 || count > rest.len() / 2 {
        return None;
    }
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (topic, after) = after.split_at_checked(length)?;
        topics.push(std::str::from_utf8(topic).ok()?);
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::subscribed_topics;

    const TWO: &[u8] = b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x03b.c\xff\xff\xff\xffand more";

    #[test]
    fn topics_of_any_version() {
        assert_eq!(subscribed_topics(TWO), Some(vec!["a", "b.c"]));
        assert_eq!(subscribed_topics(b"\x00\x00\x00\x00\x00\x00"), Some(vec![]));
        assert_eq!(subscribed_topics(b"\x7f\xff\x00\x00\x00\x01\x00\x00"), Some(vec![""]));
    }

    #[test]
    fn what_is_no_subscription_names_no_topics() {
        for length in 0..14 {
            assert_eq!(subscribed_topics(&TWO[..length]), None, "{length}");
        }
        assert_eq!(subscribed_topics(b"\xff\xff\x00\x00\x00\x00"), None);
        assert_eq!(subscribed_topics(b"\x00\x00\xff\xff\xff\xff"), None);
        assert_eq!(subscribed_topics(b"\x00\x00\x7f\xff\xff\xff\x00\x00"), None);
        assert_eq!(subscribed_topics(b"\x00\x00\x00\x00\x00\x01\xff\xff"), None);
        assert_eq!(subscribed_topics(b"\x00\x00\x00\x00\x00\x01\x00\x01\xff"), None);
    }
}
