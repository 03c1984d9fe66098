use std::sync::Arc;

use async_trait::async_trait;
use oncesink_sinks::{
    fault::{Fault, FaultClass},
    model::{TableName, WriteMode},
    sink::Sink,
};

use super::{
    Mapping, RouteConfig, RoutePlan, Router, TopicPlan,
    bind::{Bound, bind, halt},
    mapping::mapping,
    topics::table_name,
};
use crate::source::{RecordRef, TopicSelector};

/// The routes of a pipeline, bound by the catalogue of its database.
#[derive(Debug)]
pub struct Routes {
    configs: Vec<RouteConfig>,
    sink: Arc<dyn Sink>,
}

impl Routes {
    #[must_use]
    pub fn new(configs: Vec<RouteConfig>, sink: Arc<dyn Sink>) -> Self {
        Self { configs, sink }
    }

    #[must_use]
    pub fn configs(&self) -> &[RouteConfig] {
        &self.configs
    }

    /// What to subscribe to: one selector a route.
    #[must_use]
    pub fn topic_selectors(&self) -> Vec<TopicSelector> {
        self.configs.iter().map(|config| config.topics.clone()).collect()
    }

    /// The tables that a topic goes to, in the order of the file. Asks the database nothing.
    ///
    /// # Errors
    /// `table-name`, where the topic does not fill in a table's name.
    pub fn tables_of(&self, topic: &str) -> Result<Vec<TableName>, Fault> {
        Ok(self.routes_of(topic)?.into_iter().map(|(_, table)| table).collect())
    }

    /// What `plan` prints of a topic, one entry a route, checked against `record`.
    ///
    /// # Errors
    /// Those of [`Router::bind`].
    pub async fn describe_mapping(&self, topic: &str, record: Option<&RecordRef<'_>>) -> Result<Vec<Mapping>, Fault> {
        let mut mappings = Vec::new();
        for (config, bound) in self.bind_routes(topic, self.routes_of(topic)?).await? {
            bound.decoder(config)?;
            mappings.push(mapping(config, topic, &bound, record));
        }
        Ok(mappings)
    }

    fn routes_of(&self, topic: &str) -> Result<Vec<(&RouteConfig, TableName)>, Fault> {
        let taking = self.configs.iter().filter_map(|config| Some((config, config.topics.captures(topic)?)));
        taking
            .map(|(config, captures)| match table_name(&config.table, &captures) {
                Ok(table) => Ok((config, table)),
                Err(error) => Err(halt(config, "table-name", error, "")),
            })
            .collect()
    }

    async fn bind_routes<'a>(&self, topic: &str, routes: Vec<(&'a RouteConfig, TableName)>) -> Result<Vec<(&'a RouteConfig, Bound)>, Fault> {
        let mut all: Vec<(&RouteConfig, Bound)> = Vec::with_capacity(routes.len());
        for (config, table) in routes {
            let bound = bind(config, topic, self.sink.describe(&table).await?)?;
            if let Some((other, _)) = all.iter().find(|(other, earlier)| order_is_lost(config, other) && earlier.target.table.name == bound.target.table.name) {
                let detail = format!(
                    "the routes {} and {} both write {topic} to {}: a batch is written route by route, so an older record could overwrite a newer one",
                    other.name, config.name, bound.target.table.name
                );
                return Err(halt(config, "same-table-twice", detail, "make them one route, or give both `write: append`"));
            }
            all.push((config, bound));
        }
        Ok(all)
    }
}

/// Whether rows of two routes into one table could depend on which comes first.
fn order_is_lost(one: &RouteConfig, other: &RouteConfig) -> bool {
    one.write != WriteMode::Append || other.write != WriteMode::Append
}

#[async_trait]
impl Router for Routes {
    async fn bind(&self, topic: &str) -> Result<TopicPlan, Fault> {
        let routes = self.routes_of(topic)?;
        let Some((first, _)) = routes.first() else {
            return Err(Fault::new(FaultClass::Halt, "no-route", format!("no route takes the topic {topic}")));
        };
        let delivery = first.delivery;
        if let Some((other, _)) = routes.iter().find(|(config, _)| config.delivery != delivery) {
            let detail = format!("the routes {} and {} both take {topic}, but one is {delivery} and the other {}", first.name, other.name, other.delivery);
            return Err(halt(other, "deliveries-differ", detail, "delivery belongs to a topic: give both routes the same"));
        }
        let mut plans = Vec::with_capacity(routes.len());
        for (config, bound) in self.bind_routes(topic, routes).await? {
            let decoder = bound.decoder(config)?;
            plans.push(RoutePlan { target: bound.target, on_bad_record: config.on_bad_record, decoder: Box::new(decoder) });
        }
        Ok(TopicPlan { topic: Arc::from(topic), delivery, routes: plans })
    }
}
