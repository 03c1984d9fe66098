//! A topic that was deleted and made again while it is read. The client notices by the topic's id, tells nobody, and goes on at the
//! offset where it was, which is another record now. Only its debug log says so, before the first record of the new topic is fetched,
//! and over the same queue as the records.

use rdkafka::config::RDKafkaLogLevel;

/// The client's debug context that has the line.
pub(super) const DEBUG_CONTEXT: &str = "metadata";

/// How the client prints the id of a topic that it knew by name only.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The topic that has another id now than the one it was read under.
pub(super) fn recreated(level: RDKafkaLogLevel, message: &str) -> Option<&str> {
    if !matches!(level, RDKafkaLogLevel::Debug) {
        return None;
    }
    let (before, ids) = message.split_once(" changed id from ")?;
    let (old, new) = ids.split_once(" to ")?;
    let topic = before.rsplit_once("Topic ")?.1;
    (old != NO_ID && old != new).then_some(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_topic_that_had_another_id_before_is_recreated() {
        let debug = |message| recreated(RDKafkaLogLevel::Debug, message);
        assert_eq!(debug("[thrd:main]: Topic orders.eu changed id from 2Wl0pQ9lTXe5v3yFzC7Rsg to 0IYyNzqkTOS3uhd5vGkd0w"), Some("orders.eu"));
        assert_eq!(debug("[thrd:main]: Topic orders changed id from AAAAAAAAAAAAAAAAAAAAAA to 0IYyNzqkTOS3uhd5vGkd0w"), None);
        assert_eq!(debug("[thrd:main]: Topic orders [0] Leader 1 Epoch 0"), None);
        assert_eq!(recreated(RDKafkaLogLevel::Info, "Topic orders changed id from 2Wl0pQ9lTXe5v3yFzC7Rsg to 0IYyNzqkTOS3uhd5vGkd0w"), None);
    }
}
