//! One form for all states that differ only in names: of workers, of partitions, of claims.

use crate::state::{Claim, Commit, Committed, Flight, Key, Lane, PARTITIONS, Phase, Span, State, Stored, WORKERS, Worker};

impl State {
    /// Whether the database may still go back in time.
    pub fn may_go_back(&self) -> bool {
        self.restores_left > 0 && self.faults_left > 0
    }

    /// Forgets what nothing can depend on any more, and numbers claims by their first use.
    pub fn normal(mut self) -> Self {
        if !self.may_go_back() {
            self.has_copy = false;
        }
        if !self.has_copy {
            self.copy = [Stored::default(); PARTITIONS];
        }
        for worker in &mut self.workers {
            worker.forget();
        }
        for partition in 0..PARTITIONS {
            self.number_claims(partition);
        }
        self
    }

    /// An id that no claim of the partition has.
    pub fn new_id(&self, partition: usize) -> u8 {
        let stored = [self.database[partition].row.claim.id, self.copy[partition].row.claim.id];
        let believed = self.workers.iter().flat_map(|worker| [worker.lanes[partition].claim.id, worker.spans[partition].claim.id]);
        let used = stored.into_iter().chain(believed).fold(0_u16, |used, id| used | 1 << id);
        (1..8).find(|id| used >> id & 1 == 0).expect("six ids at most are in use")
    }

    fn number_claims(&mut self, partition: usize) {
        let forward_only = !self.may_go_back();
        let row = self.database[partition].row.claim;
        let mut ids = [0_u8; 8];
        let mut next = 0;
        let mut number = |claim: &mut Claim| {
            if claim.epoch == 0 {
                return;
            }
            // Where no restore can bring old epochs back, all that lie below the row's are the same.
            if forward_only && row.epoch > 0 {
                claim.epoch = (claim.epoch + 2).saturating_sub(row.epoch).max(1);
            }
            let id = &mut ids[usize::from(claim.id)];
            if *id == 0 {
                next += 1;
                *id = next;
            }
            claim.id = *id;
        };
        number(&mut self.database[partition].row.claim);
        number(&mut self.copy[partition].row.claim);
        for worker in &mut self.workers {
            number(&mut worker.lanes[partition].claim);
            number(&mut worker.spans[partition].claim);
        }
    }

    /// The least of all namings of a normal state.
    pub fn canonical(self, partitions: usize) -> Key {
        // Claims are numbered within a partition, in the order of the workers.
        let mirrored = self.with_workers_swapped().normal();
        let least = self.pack().min(mirrored.pack());
        if partitions < 2 {
            return least;
        }
        least.min(self.with_partitions_swapped().pack()).min(mirrored.with_partitions_swapped().pack())
    }

    fn with_workers_swapped(mut self) -> Self {
        self.workers.swap(0, 1);
        let rename = |name: &mut u8| *name = [0, 2, 1][usize::from(*name)];
        self.kafka.iter_mut().for_each(|topic| rename(&mut topic.owner));
        self.database.iter_mut().chain(&mut self.copy).for_each(|stored| rename(&mut stored.row.batch));
        self
    }

    fn with_partitions_swapped(mut self) -> Self {
        self.database.swap(0, 1);
        self.copy.swap(0, 1);
        self.kafka.swap(0, 1);
        for worker in &mut self.workers {
            worker.lanes.swap(0, 1);
            worker.spans.swap(0, 1);
            worker.orphan.swap(0, 1);
        }
        self
    }

    /// The batch of this worker is over: its number means nothing any more.
    pub fn forget_batch(&mut self, worker: usize) {
        self.workers[worker].flight = Flight::None;
        for stored in self.database.iter_mut().chain(&mut self.copy) {
            if usize::from(stored.row.batch) == worker + 1 {
                stored.row.batch = 0;
            }
        }
    }

    /// Whether some transaction holds the row.
    pub fn is_locked(&self, partition: usize) -> bool {
        (0..WORKERS).any(|worker| {
            let worker = &self.workers[worker];
            worker.orphan[partition].is_in() || (matches!(worker.flight, Flight::Open | Flight::LostOpen) && worker.spans[partition].is_in())
        })
    }
}

impl Worker {
    fn forget(&mut self) {
        for lane in &mut self.lanes {
            if lane.phase != Phase::Running {
                (lane.claim, lane.applied) = (Claim::default(), 0);
            }
            if lane.phase != Phase::Asking || !lane.has_looked {
                (lane.has_looked, lane.found) = (false, Committed { kind: Commit::Nothing, next: 0 });
            }
            if lane.phase == Phase::Absent {
                *lane = Lane::default();
            }
        }
        if self.flight == Flight::None {
            self.spans = [Span::default(); PARTITIONS];
        }
        for span in self.spans.iter_mut().chain(&mut self.orphan) {
            if !span.is_in() {
                *span = Span::default();
            }
        }
        self.orphan.iter_mut().for_each(|span| span.claim = Claim::default());
    }
}
