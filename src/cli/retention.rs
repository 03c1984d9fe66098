//! What is remembered for a time, beside how long Kafka may deliver a record again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use oncesink_sinks::model::{DedupBackend, Delivery};

use super::connect::{KAFKA_LIMIT, MendedBy, Obstacle, blocking};
use crate::{
    route::RouteConfig,
    settings::Pipeline,
    source::kafka::{Kept, kept},
};

/// Where something is forgotten that Kafka may still deliver.
#[derive(Debug, Default)]
pub struct Short {
    /// Where something else stops such a repeat, or the group's offsets must be lost or set back for it; or where nobody knows.
    pub warnings: Vec<String>,
    pub obstacles: Vec<Obstacle>,
}

/// Whether events and deletes are remembered for as long as topics, each of so many partitions, may deliver them again.
pub async fn outlives_topics(pipeline: &Pipeline, topics: &BTreeMap<Arc<str>, usize>) -> Short {
    let mut short = Short::default();
    let asked: Vec<Arc<str>> = topics.keys().filter(|topic| routes_of(pipeline, topic).any(remembers)).cloned().collect();
    if asked.is_empty() {
        return short;
    }
    let told = {
        let (config, asked) = (pipeline.kafka.clone(), asked.clone());
        blocking(move || Ok(kept(&config, &asked, KAFKA_LIMIT))).await
    };
    let (kept, untold) = told.unwrap_or_else(|error| (BTreeMap::new(), Some(error)));
    if let Some(error) = untold {
        // Few may ask for a topic's settings, and nothing is lost by not knowing.
        let untold: Vec<&str> = asked.iter().filter(|topic| !kept.contains_key(*topic)).map(AsRef::as_ref).collect();
        let topics = untold.join(", ");
        short.warnings.push(format!(
            "whether what is remembered outlives what Kafka keeps of {topics} is not known; it takes the right to describe their settings (DESCRIBE_CONFIGS): {error}"
        ));
    }
    for (topic, kept) in &kept {
        judge(pipeline, topic, *kept, topics, &mut short);
    }
    short
}

fn judge(pipeline: &Pipeline, topic: &Arc<str>, kept: Kept, topics: &BTreeMap<Arc<str>, usize>, short: &mut Short) {
    let is_short = |setting: &str, time: Duration, consequence: &str| {
        let written = humantime::format_duration(time);
        (kept > Kept::For(time)).then(|| format!("{topic} {kept}, and {setting} is {written}: {consequence}"))
    };
    let mend = match kept {
        Kept::For(_) => "make it longer",
        Kept::ForEver => "exactly-once goes by its checkpoint instead",
    };
    if let Some(redis) = &pipeline.redis
        && routes_of(pipeline, topic).any(RouteConfig::remembers_events)
        && let Some(what) = is_short("redis.ttl", redis.ttl, "what is read again after that is new to Redis")
    {
        match routes_of(pipeline, topic).find(|route| route.dedup == [DedupBackend::Redis]) {
            Some(route) => {
                let mend = format!("--> {}\nmake redis.ttl longer, or add processed-event to its `dedup`", route.place);
                short.obstacles.push(Obstacle { mended_by: MendedBy::File, what: format!("{what}, and nothing else stops it"), mend: Some(mend) });
            }
            None => short.warnings.push(what),
        }
    }
    if routes_of(pipeline, topic).any(goes_by_ids) {
        let consequence = format!("what is read again after that takes effect again; {mend}");
        short.warnings.extend(is_short("retention.processed_events", pipeline.processed_event_retention, &consequence));
    }
    // Within one partition the delete is read again, too, after the write.
    let partitions = |route: &RouteConfig| topics.iter().filter(|(topic, _)| route.topics.takes(topic)).map(|(_, partitions)| partitions).sum::<usize>();
    if routes_of(pipeline, topic).any(|route| goes_by_tombstones(route) && partitions(route) > 1) {
        let consequence =
            format!("an older write that is read again after that, from another partition than the delete of its row, brings the row back; {mend}");
        short.warnings.extend(is_short("retention.tombstones", pipeline.tombstone_retention, &consequence));
    }
}

fn routes_of<'a>(pipeline: &'a Pipeline, topic: &'a str) -> impl Iterator<Item = &'a RouteConfig> {
    pipeline.routes.iter().filter(move |route| route.topics.takes(topic))
}

fn remembers(route: &RouteConfig) -> bool {
    route.remembers_events() || goes_by_ids(route) || goes_by_tombstones(route)
}

/// No checkpoint says what was applied before.
fn goes_by_ids(route: &RouteConfig) -> bool {
    route.delivery == Delivery::AtLeastOnce && route.marks_events()
}

/// The same of its deletes.
fn goes_by_tombstones(route: &RouteConfig) -> bool {
    route.delivery == Delivery::AtLeastOnce && route.remembers_deletes()
}
