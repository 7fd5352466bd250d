//! Work that ends by its time, beside a plain list of what is in flight.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{bound_tests::work, standing::Standing};
use crate::quota::id::ReservationId;

/// Settled, taken up again under the same id, and over by time, in any order.
#[test]
fn work_ends_at_its_own_time_and_only_once() {
    let (begun, mut random) = (Instant::now(), StdRng::seed_from_u64(4));
    let (mut standing, mut in_flight) = (Standing::new(0, begun), HashMap::<u32, (i64, Instant)>::new());
    let (mut ended, mut settled) = (0, 0);
    for step in 0..20_000_u64 {
        let (at, name) = (begun + Duration::from_millis(step), random.random_range(0..3_000));
        let id = ReservationId::new(name.to_string()).unwrap();
        let over = in_flight.len();
        in_flight.retain(|_, (_, until)| *until > at);
        assert_eq!(standing.expire(at), over - in_flight.len());
        ended += over - in_flight.len();
        if in_flight.remove(&name).is_some() {
            assert_eq!(standing.know(&id), (true, true));
            settled += 1;
        } else if standing.slot(&id).is_none() {
            let (amount, until) =
                (random.random_range(0..120), at + Duration::from_millis(random.random_range(1..4_000)));
            standing.take_up(&id, work(amount, until));
            in_flight.insert(name, (amount, until));
        }
        assert_eq!(standing.ends(), in_flight.len());
        assert_eq!(standing.account().1, in_flight.values().map(|(amount, _)| amount).sum::<i64>());
    }
    assert!(ended > 1_000 && settled > 1_000, "{ended} ended, {settled} settled");
}
