//! Every vice, and nothing of it is left.

use std::time::Duration;

use super::{
    crowd::{Decent, Stage, come},
    stand::{Stand, over_all},
    vices::VICES,
};
use crate::harness::block_on;

/// So many of each vice, and so many of them at once.
const OF_EACH: u32 = 60;
const AT_ONCE: usize = 60;

#[test]
fn whatever_they_do_nothing_is_left_behind_and_the_decent_are_served() {
    let stage = Stage::free();
    let stand = Stand::start(4, &stage);
    let decent = Decent::come(stand.doors, Duration::from_millis(100));
    let mut came = 0;
    for (index, vice) in VICES.iter().enumerate() {
        let first = index as u32 * OF_EACH;
        let (numbers, to) = (first..first + OF_EACH, stand.door(vice.door));
        came += block_on(come(vice, numbers, AT_ONCE, to, &stage));
    }
    let served = decent.so_far();
    drop(decent);
    assert_eq!(came, VICES.len() * OF_EACH as usize);
    assert_eq!(stand.left_open(), 0.0);
    let metrics = stand.envoy.metrics();
    assert_eq!(stand.traps(&metrics), 0.0);
    assert_eq!(over_all(&metrics, "tidegate_faults_total"), 0.0);
    assert!(over_all(&metrics, "tidegate_held_total") > 0.0);
    assert!(over_all(&metrics, "tidegate_rejected_total") > 0.0);
    assert!(served.percent() > Some(50.0), "{served:?}");
    assert_eq!(stand.lost_slots(), 0);
    assert_eq!(stand.above_limits(), 0);
    assert_eq!(stand.left_open(), 0.0);
}
