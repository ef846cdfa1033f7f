//! PostgreSQL loses commits: a standby that does not have them yet is promoted.

use std::sync::Arc;

use super::earlier::{place, set_place, settle, stop};
use super::{World, undisturbed, wait_for_line};
use crate::support::proxy::{Network, Proxy};
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{PostgresServer, assert_same, wait_until};

/// A standby, and what it does not hear of once it lags.
struct Standby {
    server: Arc<PostgresServer>,
    link: Proxy,
}

impl Standby {
    fn of(world: &World) -> Standby {
        let primary = world.stack.database.server();
        let link = Proxy::to(primary.port());
        let server = primary.standby(link.port());
        Standby { server, link }
    }

    /// From here on nothing more arrives at the standby, which has all that there is.
    fn lag(&self, world: &World) {
        let lag = "select pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint as lag from pg_stat_replication";
        wait_until("the standby has what the primary has", || {
            let rows = world.stack.query(lag);
            equal(rows.first().map(|row| row["lag"].clone()), Some(serde_json::json!(0)))
        });
        self.link.set(Network::Stall);
    }

    /// The primary crashes, and clients are led to the standby.
    fn take_over(self, world: &mut World) {
        world.stack.database.server().stop_immediate();
        drop(self.link);
        self.server.promote();
        world.postgres.retarget(self.server.port());
        world.stack.database.move_to(self.server);
        world.postgres.reset();
    }
}

/// Follows the recipe in OPERATIONS.md.
fn deliver_all_again(world: &mut World) {
    set_place(&world.stack, "0");
    let worker = world.worker().spawn();
    world.push_rest();
    settle(&world.stack);
    let log = stop(worker);
    assert_same(&world.stack.snapshot(), undisturbed());
    world.stack.assert_counters_equal_rows();
    assert!(!log.contains("dead letter"), "{}", shown(&log));
}

/// Waits until the settled position of the only worker in the database is the end of the stream.
#[track_caller]
fn wait_until_noted(world: &World) {
    let (newest, _) = place(&world.stack);
    let (ms, _) = newest.split_once('-').expect("an ID");
    let members = format!("select from firehose_worker.members where settled_ms >= {ms}");
    wait_until("the worker has noted how far it is", || {
        equal(world.stack.query(&members).len(), 1)
    });
}

#[test]
fn commits_lost_in_a_failover_are_reported_and_restored_by_the_manuals_recipe() {
    let mut world = World::with_postgres("failover", Vec::new());
    world.stack.create_group();
    let standby = Standby::of(&world);
    let mut worker = world.worker().spawn();
    world.push(300);
    settle(&world.stack);
    wait_until_noted(&world);
    standby.lag(&world);
    let before = world.stack.count("likes");
    world.push(300);
    settle(&world.stack);
    let after = world.stack.count("likes");
    wait_until_noted(&world);
    standby.take_over(&mut world);
    assert!(
        world.stack.count("likes") < after,
        "{before} to {after} likes, of which none was lost"
    );
    world.push(100);
    settle(&world.stack);
    wait_for_line(
        &mut worker,
        &["postgresql has gone back: entries after", "have them delivered again"],
    );
    world.stack.assert_counters_equal_rows();
    stop(worker);
    deliver_all_again(&mut world);
}

#[test]
fn a_process_that_had_joined_only_on_the_lost_primary_joins_again_and_goes_on() {
    let mut world = World::with_postgres("failover_join", Vec::new());
    world.stack.create_group();
    let standby = Standby::of(&world);
    standby.lag(&world);
    let mut worker = world.worker().spawn();
    world.push(300);
    settle(&world.stack);
    standby.take_over(&mut world);
    world.push(300);
    settle(&world.stack);
    wait_for_line(&mut worker, &["postgresql has gone back to before this process joined"]);
    assert!(
        world.stack.count("likes") > 0,
        "what came after the failover is applied"
    );
    world.stack.assert_counters_equal_rows();
    stop(worker);
    deliver_all_again(&mut world);
}
