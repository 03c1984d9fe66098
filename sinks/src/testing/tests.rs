//! The contract can be kept, and each of its checks can be broken.

use std::collections::BTreeSet;

use super::{Feature, Fixture, FixtureError, MemorySink, Mistake, Outcome, Place, TableLayout, checks, run};

#[derive(Debug)]
struct InMemory {
    features: Vec<Feature>,
    mistake: Option<Mistake>,
}

impl InMemory {
    fn with(mistake: Option<Mistake>) -> Self {
        Self { features: Feature::ALL.to_vec(), mistake }
    }
}

#[async_trait::async_trait]
impl Fixture for InMemory {
    fn features(&self) -> Vec<Feature> {
        self.features.clone()
    }

    async fn fresh(&self, layout: &TableLayout) -> Result<Box<dyn Place>, FixtureError> {
        let sink = MemorySink::with_table(layout.clone());
        Ok(Box::new(match self.mistake {
            Some(mistake) => sink.with_mistake(mistake),
            None => sink,
        }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_right_keeps_it() {
    let report = run(&InMemory::with(None)).await;
    assert!(report.is_kept(), "{report}");
    assert_eq!(report.left_out().count(), 0, "{report}");
    assert_eq!(report.outcomes.len(), checks().len());
    // Without a table that hides no repeat, and without anything that is not asked of all.
    for only in [Feature::Upsert, Feature::InsertIfNew] {
        let report = run(&InMemory { features: vec![only], mistake: None }).await;
        assert!(report.is_kept(), "{report}");
    }
}

/// On one thread: then whoever gives way in the middle is overtaken for certain.
#[tokio::test]
async fn a_sink_that_is_wrong_breaks_it_and_every_check_can_be_broken() {
    let mut never_broken: BTreeSet<&str> = checks().iter().map(|check| check.name).collect();
    let mut unfound = Vec::new();
    for mistake in Mistake::ALL {
        let report = run(&InMemory::with(Some(*mistake))).await;
        if report.broken().next().is_none() {
            unfound.push(*mistake);
        }
        for name in report.broken() {
            never_broken.remove(name);
        }
    }
    assert!(unfound.is_empty(), "no check finds {unfound:?}");
    assert!(never_broken.is_empty(), "no mistake breaks {never_broken:?}");
}

#[tokio::test]
async fn what_is_not_declared_is_reported_as_left_out() {
    let report = run(&InMemory { features: vec![Feature::Append], mistake: Some(Mistake::VersionsAreIgnored) }).await;
    assert!(report.is_kept(), "{report}");
    let outcome = |name: &str| report.outcomes.iter().find(|(of, _)| *of == name).map(|(_, outcome)| outcome.clone());
    assert_eq!(outcome("append_writes_every_record"), Some(Outcome::Kept));
    assert_eq!(outcome("an_older_version_is_stale"), Some(Outcome::LeftOut(vec![Feature::Upsert, Feature::Versions])));
    assert!(report.to_string().contains("left out  an_older_version_is_stale: not declared: upsert, versions"), "{report}");
}

#[tokio::test]
async fn a_sink_without_a_place_keeps_nothing() {
    #[derive(Debug)]
    struct Nowhere;

    #[async_trait::async_trait]
    impl Fixture for Nowhere {
        fn features(&self) -> Vec<Feature> {
            vec![Feature::Append]
        }

        async fn fresh(&self, _: &TableLayout) -> Result<Box<dyn Place>, FixtureError> {
            Err("the disk is full".into())
        }
    }

    let report = run(&Nowhere).await;
    assert!(!report.is_kept() && report.to_string().contains("the disk is full"), "{report}");
}
