//! What is remembered for a time, beside how long Kafka may deliver a record again.

use std::{sync::Arc, time::Duration};

use oncesink_sinks::model::{DedupBackend, Delivery};

use super::connect::{KAFKA_LIMIT, MendedBy, Obstacle, blocking};
use crate::{
    route::RouteConfig,
    settings::Pipeline,
    source::kafka::{Kept, kept},
};

/// Whether events and deletes are remembered for as long as topics may deliver them again. Warnings where something else stops such a repeat, or where
/// the group's offsets must be lost or set back for it.
pub async fn outlives_topics(pipeline: &Pipeline, topics: &[Arc<str>]) -> Result<Vec<String>, Obstacle> {
    let asked: Vec<Arc<str>> =
        topics.iter().filter(|topic| pipeline.routes.iter().any(|route| route.topics.takes(topic) && remembers(route))).cloned().collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let config = pipeline.kafka.clone();
    let kept = match blocking(move || kept(&config, &asked, KAFKA_LIMIT)).await {
        Ok(kept) => kept,
        // Few may describe a topic's settings, and nothing is lost by not knowing.
        Err(error) => return Ok(vec![format!("whether what is remembered outlives what the topics keep is not known: {error}")]),
    };
    let mut warnings = Vec::new();
    for (topic, kept) in kept {
        let routes = || pipeline.routes.iter().filter(|route| route.topics.takes(&topic));
        let is_short = |setting: &str, time: Duration, consequence: &str| {
            let written = humantime::format_duration(time);
            (kept > Kept::For(time)).then(|| format!("{topic} {kept}, and {setting} is {written}: {consequence}"))
        };
        if let Some(redis) = &pipeline.redis
            && routes().any(RouteConfig::remembers_events)
            && let Some(what) = is_short("redis.ttl", redis.ttl, "what is read again after that is new to Redis")
        {
            if let Some(route) = routes().find(|route| route.dedup == [DedupBackend::Redis]) {
                let mend = format!("--> {}\nmake redis.ttl longer, or add processed-event to its `dedup`", route.place);
                return Err(Obstacle { mended_by: MendedBy::File, what: format!("{what}, and nothing else stops it"), mend: Some(mend) });
            }
            warnings.push(what);
        }
        if routes().any(goes_by_ids_alone) {
            let consequence = "what is read again after that takes effect again; make it longer";
            warnings.extend(is_short("retention.processed_events", pipeline.processed_event_retention, consequence));
        }
        if routes().any(goes_by_tombstones) {
            let consequence =
                "an older write that is read again after that, from another partition than the delete of its row, brings the row back; make it longer";
            warnings.extend(is_short("retention.tombstones", pipeline.tombstone_retention, consequence));
        }
    }
    Ok(warnings)
}

fn remembers(route: &RouteConfig) -> bool {
    route.remembers_events() || goes_by_ids_alone(route) || goes_by_tombstones(route)
}

/// No checkpoint says what was read before.
fn goes_by_ids_alone(route: &RouteConfig) -> bool {
    route.delivery == Delivery::AtLeastOnce && route.marks_events()
}

/// The same of its deletes.
fn goes_by_tombstones(route: &RouteConfig) -> bool {
    route.delivery == Delivery::AtLeastOnce && route.remembers_deletes()
}
