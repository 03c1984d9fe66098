//! Processed events expire: what a pipeline does for it now and then.

use std::time::Duration;

use super::Transactional;
use crate::{
    checkpoint::{Expired, Expiry},
    fault::Fault,
    generation::Due,
    session::{Session, finish},
};

/// A roll-over waits for the batches that hold the generation. If one takes longer than the server lets it wait, the next look tries again.
impl Transactional {
    pub(super) async fn expire_in_its_own_session(&self, expiry: &Expiry) -> Result<Expired, Fault> {
        let mut session = self.database.connect().await?;
        session.begin().await?;
        let expired = expire(session.as_mut(), expiry).await;
        match expired {
            Ok(expired) => finish(session.as_mut()).await.map(|()| expired),
            Err(fault) => {
                // The session ends with this, and with it whatever it holds.
                let _ = session.rollback().await;
                Err(fault)
            }
        }
    }
}

async fn expire(session: &mut dyn Session, expiry: &Expiry) -> Result<Expired, Fault> {
    if !session.keep_house().await? {
        return Ok(Expired::SomebodyElseLooks);
    }
    session.note_retention(&expiry.pipeline, milliseconds(expiry.retention)).await?;
    session.note_committed(&expiry.pipeline, &expiry.committed).await?;
    let generations = session.generations().await?;
    Ok(match generations.due() {
        Due::Nothing => Expired::Nothing,
        Due::EmptyNext => {
            session.empty_next(generations.newest).await?;
            Expired::Emptied
        }
        Due::Waits { partition } => Expired::Waits { partition },
        Due::RollOver => {
            session.roll_over(generations.newest).await?;
            Expired::RolledOver
        }
    })
}

pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
