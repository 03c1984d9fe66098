//! A database that was restored to an older copy: what Redis remembers of the newer one is not believed.

use oncesink_sinks::{
    dedup::{Dedup, Rewound, ScreenError},
    model::NextOffset,
};

use super::{
    server::{Kind, Server},
    shop::Lane,
};
use crate::on_each_redis;

on_each_redis!(
    old_marks_are_dead,
    two_workers_find_it_at_once,
    a_worker_wakes_up_after_the_restore,
    a_mark_is_written_after_the_rewind_was_found,
    what_redis_has_lost_saves_no_mark,
    a_rewind_of_another_partition_meets_a_working_one,
);

async fn old_marks_are_dead(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (dedup, lane) = (server.dedup(), Lane::new(0, 100));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&dedup).await;
    let (_, before) = lane.screen(&dedup).await.unwrap();

    let (restored, again) = (server.dedup(), lane.again());
    let found = restored.claimed(&again.reached(50)).await.unwrap();
    assert_eq!(found.rewound, [Rewound { partition: lane.partition.clone(), durable: NextOffset::new(50), once: NextOffset::new(100) }]);
    let (known, after) = again.screen(&restored).await.unwrap();
    assert_eq!(known, 0, "also of those below the copy's offset");
    assert_ne!(before, after);

    // It is found once.
    assert!(restored.claimed(&again.reached(50)).await.unwrap().rewound.is_empty());
    again.remember(&restored).await;
    assert_eq!(again.known(&restored).await, 100);
}

async fn two_workers_find_it_at_once(kind: Kind) {
    let server = Server::start(kind, &[]);
    let lanes = [Lane::new(0, 100), Lane::new(1, 100)];
    let before = server.dedup();
    for lane in &lanes {
        before.claimed(&lane.reached(0)).await.unwrap();
        lane.remember(&before).await;
    }
    let (one, other) = (server.dedup(), server.dedup());
    let [first, second] = lanes.each_ref().map(Lane::again);
    let (first_at, second_at) = (first.reached(50), second.reached(40));
    let (found, found_too) = tokio::join!(one.claimed(&first_at), other.claimed(&second_at));
    let rewound = [found.unwrap().rewound, found_too.unwrap().rewound].concat();
    assert_eq!(rewound.len(), 1, "one rewind, one generation: {rewound:?}");
    let ((known, _), (known_too, _)) = (first.screen(&one).await.unwrap(), second.screen(&other).await.unwrap());
    assert_eq!((known, known_too), (0, 0));
    first.remember(&one).await;
    second.remember(&other).await;
    let ((known, generation), (known_too, generation_too)) = (first.screen(&one).await.unwrap(), second.screen(&other).await.unwrap());
    assert_eq!((known, known_too), (100, 100));
    assert_eq!(generation, generation_too);

    // The same partition by two: the second one holds it.
    let (one_more, last) = (first.again(), first.again());
    let (one_at, last_at) = (one_more.reached(30), last.reached(30));
    let found = tokio::join!(one.claimed(&one_at), other.claimed(&last_at));
    assert_eq!(found.0.unwrap().rewound.len() + found.1.unwrap().rewound.len(), 1);
    let held = [one_more.screen(&one).await, last.screen(&other).await];
    assert_eq!(held.iter().filter(|screened| matches!(screened, Ok((0, _)))).count(), 1);
    assert_eq!(held.iter().filter(|screened| matches!(screened, Err(ScreenError::NotHeld(_)))).count(), 1);
}

/// It has committed, then stood still; the database was restored to before that, and claimed by another worker, who saw nothing of it.
async fn a_worker_wakes_up_after_the_restore(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (sleeper, lane) = (server.dedup(), Lane::new(0, 100));
    sleeper.claimed(&lane.reached(50)).await.unwrap();
    let (_, generation) = lane.screen(&sleeper).await.unwrap();

    let (holder, again) = (server.dedup(), lane.again());
    assert!(holder.claimed(&again.reached(50)).await.unwrap().rewound.is_empty());
    let remembered = sleeper.remember(&generation, &lane.end(), &lane.events()).await.unwrap();
    assert_eq!(remembered.passed_over, std::slice::from_ref(&lane.partition));
    assert_eq!(again.known(&holder).await, 0);
    again.remember(&holder).await;
    assert!(matches!(lane.screen(&sleeper).await, Err(ScreenError::NotHeld(_))));
    assert_eq!(again.known(&holder).await, 100, "the sleeper has disturbed nobody");
}

/// The screening was before the rewind was found, the mark comes after: it is written under the old generation, or not at all.
async fn a_mark_is_written_after_the_rewind_was_found(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (sleeper, lane) = (server.dedup(), Lane::new(0, 100));
    sleeper.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&sleeper).await;
    let (_, generation) = lane.screen(&sleeper).await.unwrap();
    let (holder, again) = (server.dedup(), lane.again());
    assert_eq!(holder.claimed(&again.reached(50)).await.unwrap().rewound.len(), 1);
    sleeper.remember(&generation, &lane.end(), &lane.events()).await.unwrap();
    assert_eq!(again.known(&holder).await, 0);
}

/// A failover has taken back the last raise, on the node with the state; marks elsewhere are still there.
async fn what_redis_has_lost_saves_no_mark(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (dedup, lane) = (server.dedup(), Lane::new(0, 100));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&dedup).await;
    let state = format!("HSET oncesink:shop:next orders:0 {:019}:{}", 50, lane.claim.0);
    let mut set = 0;
    for mut connection in server.primaries().await {
        let mut words = state.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        // Of a Cluster's nodes one has it.
        set += usize::from(command.query_async::<u8>(&mut connection).await.is_ok());
    }
    assert_eq!(set, 1);
    let (restored, again) = (server.dedup(), lane.again());
    assert!(restored.claimed(&again.reached(50)).await.unwrap().rewound.is_empty(), "the state alone shows nothing");
    let known = restored.screen(&again.events()).await.unwrap().known;
    assert!(known[..50].iter().all(|known| *known), "below the database's offset");
    assert!(!known[50..].contains(&true), "above it");
}

async fn a_rewind_of_another_partition_meets_a_working_one(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (worker, lane) = (server.dedup(), Lane::new(0, 100));
    let (other, rewound) = (server.dedup(), Lane::new(1, 100));
    worker.claimed(&lane.reached(0)).await.unwrap();
    other.claimed(&rewound.reached(0)).await.unwrap();
    rewound.remember(&other).await;
    let (_, generation) = lane.screen(&worker).await.unwrap();
    assert_eq!(other.claimed(&rewound.again().reached(10)).await.unwrap().rewound.len(), 1);
    // What was under way is not marked. Then it goes on in the new generation, without a claim.
    let remembered = worker.remember(&generation, &lane.end(), &lane.events()).await.unwrap();
    assert_eq!(remembered.passed_over, std::slice::from_ref(&lane.partition));
    lane.remember(&worker).await;
    assert_eq!(lane.known(&worker).await, 100);
}
